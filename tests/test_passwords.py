import asyncio
import re
import unicodedata
from collections.abc import Generator

import pytest

from lms.passwords import Passwords
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
