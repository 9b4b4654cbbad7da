import asyncio
import re
import threading
import unicodedata
from collections.abc import Generator

import pytest

from lms import passwords as module
from lms.passwords import COMMON, Passwords, normal_password
from lms.settings import load_settings
from tests.accounts.bcrypts import Bcrypts, bcrypts

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

GIVEN = {
    "LMS_SECRET_KEY": "k" * 32,
    "LMS_PASSWORD_PEPPER": "p" * 32,
    "LMS_JWT_KEYS": "A" * 43,
    "LMS_BCRYPT_COST": "4",
}


@pytest.fixture
def passwords() -> Generator[Passwords]:
    made = Passwords(load_settings(GIVEN))
    yield made
    made.close()


async def test_a_password_matches_what_was_stored_and_no_other_does(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse battery")
    assert await passwords.check("correct horse battery", stored)
    assert not await passwords.check("correct horse batterz", stored)
    assert not await passwords.check("Correct horse battery", stored)
    assert not await passwords.check("", stored)


async def test_what_is_stored_names_its_form_and_has_the_cost(passwords: Passwords) -> None:
    first, second = await passwords.hash("correct horse battery"), await passwords.hash("correct horse battery")
    assert re.fullmatch(r"v1\$\$2b\$04\$[./A-Za-z0-9]{53}", first)
    assert first != second


async def test_another_form_is_never_a_match(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse battery")
    assert not await passwords.check("correct horse battery", stored.replace("v1$", "v2$", 1))
    assert not await passwords.check("correct horse battery", stored.removeprefix("v1$"))


async def test_without_the_pepper_the_hash_is_worth_nothing(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse battery")
    other = Passwords(load_settings(GIVEN | {"LMS_PASSWORD_PEPPER": "q" * 32}))
    assert not await other.check("correct horse battery", stored)
    other.close()


@pytest.mark.parametrize("password", ["x" * 200, "\0" * 9, "a\0b\0c\0d\0", "\U0001f40e" * 128, "\ud800lone surrogate"])
async def test_every_character_of_every_password_counts(passwords: Passwords, password: str) -> None:
    stored = await passwords.hash(password)
    assert await passwords.check(password, stored)
    assert not await passwords.check(password[:-1], stored)
    assert not await passwords.check(f"{password[:-1]}y", stored)


async def test_two_spellings_of_one_text_are_one_password(passwords: Passwords) -> None:
    composed = unicodedata.normalize("NFC", "pässwörd ñandú")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert await passwords.check(decomposed, await passwords.hash(composed))
    assert await passwords.check(composed, await passwords.hash(decomposed))


async def test_an_unknown_account_costs_one_bcrypt_of_the_same_cost(passwords: Passwords, bcrypts: Bcrypts) -> None:
    assert not await passwords.check("correct horse battery", None)
    assert bcrypts.calls == ["check 04"]


async def test_bcrypt_runs_in_threads_of_its_own(passwords: Passwords, bcrypts: Bcrypts) -> None:
    stored = await passwords.hash("correct horse battery")
    await passwords.check("correct horse battery", stored)
    await passwords.check("correct horse battery", None)
    assert bcrypts.calls == ["hash 04", "check 04", "check 04"]
    assert all(name.startswith("bcrypt") for name in bcrypts.threads)


async def test_the_loop_goes_on_while_bcrypt_works() -> None:
    slow = Passwords(load_settings(GIVEN | {"LMS_BCRYPT_COST": "11"}))
    hashing = asyncio.create_task(slow.hash("correct horse battery"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
    slow.close()


def raised_to(cost: int) -> Passwords:
    return Passwords(load_settings(GIVEN | {"LMS_BCRYPT_COST": str(cost)}))


@pytest.mark.parametrize("password", ["correct horse battery", "a wrong guess"])
async def test_a_hash_from_before_the_cost_was_raised_takes_as_long_as_all_others(
    passwords: Passwords, bcrypts: Bcrypts, password: str
) -> None:
    stored, raised = await passwords.hash("correct horse battery"), raised_to(7)
    bcrypts.clear()
    assert await raised.check(password, stored) is (password == "correct horse battery")
    costs = [int(call.split()[1]) for call in bcrypts.calls]
    assert (costs, sum(2**cost for cost in costs)) == ([4, 4, 5, 6], 2**7)
    assert raised.is_outdated(stored)
    assert not passwords.is_outdated(stored)
    raised.close()


def test_the_commonest_are_ten_thousand_of_those_that_anybody_may_choose() -> None:
    found = module._common()  # pyright: ignore[reportPrivateUsage]
    assert len(found) == 10_000
    assert {"password", "12345678", "password1", "qwertyuiop"} <= found
    assert min(len(one) for one in found) == 8
    assert all(one == normal_password(one).casefold().strip() for one in found)
    text = COMMON.read_text(encoding="utf-8")
    assert "zxcvbn 4.5.0" in text
    assert "MIT License" in text


@pytest.mark.parametrize(
    ("password", "common"),
    [
        ("password1", True),
        ("PassWord1", True),
        ("correct horse battery", False),
        ("MIT License", False),
        ("-" * 40, False),
        ("", False),
    ],
)
async def test_a_password_is_common_in_whatever_case(passwords: Passwords, password: str, *, common: bool) -> None:
    assert await passwords.is_common(password) is common


async def test_the_list_is_read_when_first_needed_and_never_on_the_loop(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    read_text = type(COMMON).read_text

    def noting(*arguments: object, **named: object) -> str:
        readers.append(threading.current_thread().name)
        return read_text(*arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(type(COMMON), "read_text", noting)
    module._common.cache_clear()  # pyright: ignore[reportPrivateUsage]
    assert await passwords.check("correct horse battery", None) is False
    assert readers == []
    await passwords.is_common("password1")
    await passwords.is_common("password2")
    assert [name.partition("_")[0] for name in readers] == ["bcrypt"]


async def test_where_a_sandbox_forbids_to_give_way_passwords_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(module.os, "setpriority", forbid)
    passwords = Passwords(load_settings(GIVEN))
    assert await passwords.check("correct horse battery", await passwords.hash("correct horse battery"))
    passwords.close()


async def test_a_hash_is_outdated_when_the_cost_was_raised_and_when_it_was_lowered(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse battery")
    assert not passwords.is_outdated(stored)
    for other in (3, 5):
        assert passwords.is_outdated(stored.replace("$04$", f"$0{other}$"))
