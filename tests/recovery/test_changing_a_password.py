import asyncio
from typing import Any

import httpx
import pytest

from lms.accounts.documents import SignIn, SignInFailures, User
from lms.accounts.limits import MailLimit
from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.redis_client import Accelerator
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, Signed, a_person, me, refresh, refusal, sign_in
from tests.outbox.build import events
from tests.recovery.mailed import deliver_all
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

FRESH = "a fresh new start"


async def change(client: httpx.AsyncClient, signed: Signed, current: str = PASSWORD, new: str = FRESH) -> Signed:
    body = {"current_password": current, "new_password": new}
    return Signed(await client.post("/auth/change-password", json=body, headers=signed.header))


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


@pytest.fixture
async def phone(client: httpx.AsyncClient, person: User) -> Signed:
    return await sign_in(client, person)


async def password_of(client: httpx.AsyncClient, person: User) -> list[str]:
    """Which of the two signs in."""
    return [one for one in (PASSWORD, FRESH) if (await sign_in(client, person, one)).response.status_code == 200]


async def test_this_session_goes_on_and_all_others_end(
    client: httpx.AsyncClient, person: User, phone: Signed, accounts: Accounts
) -> None:
    laptop, stella = await sign_in(client, person), await sign_in(client, await a_person(accounts, "Stella"))
    assert await me(client, laptop) == await me(client, phone) == 200
    changed = await change(client, phone)
    assert changed.response.headers["cache-control"] == "no-store"
    assert changed.family == phone.family
    assert await me(client, changed) == 200
    assert await me(client, phone) == 401
    assert await me(client, laptop) == 401
    assert refusal((await refresh(client, laptop.refresh_token)).response) == (401, "refresh_refused")
    assert await me(client, await refresh(client, changed.refresh_token)) == 200
    assert await me(client, stella) == 200
    assert await password_of(client, person) == [FRESH]


async def test_a_copy_of_the_refresh_token_is_worth_nothing_afterwards(
    client: httpx.AsyncClient, phone: Signed
) -> None:
    changed = await change(client, phone)
    assert refusal((await refresh(client, phone.refresh_token)).response) == (401, "refresh_refused")
    # And it takes nobody along.
    again = await refresh(client, changed.refresh_token)
    assert await me(client, again) == 200
    assert (await change(client, again, FRESH, PASSWORD)).response.status_code == 200


async def test_its_owner_is_told(
    client: httpx.AsyncClient, phone: Signed, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await change(client, phone)
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == ("sam@school.example", "Your password at Open School was changed")
    assert FRESH not in mail.as_string()


async def test_an_address_that_nobody_confirmed_is_not_flooded(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signed up a stranger's address can change that account's password as often as they like."""
    few = settings.model_copy(update={"rate_mail": "2/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    stranger = await a_person(accounts, "Stella", verified=False)
    signed, current = await sign_in(client, stranger), PASSWORD
    for number in range(5):
        following = f"{FRESH} {number}"
        signed = await change(client, signed, current, following)
        assert signed.response.status_code == 200
        current = following
    assert await Event.find({"kind": "user.password_changed"}).count() == 2


async def test_whoever_does_not_know_the_current_one_changes_nothing(
    client: httpx.AsyncClient, person: User, phone: Signed, accounts: Accounts, bcrypts: Bcrypts
) -> None:
    laptop = await sign_in(client, person)
    stella = await sign_in(client, await a_person(accounts, "Stella"))
    bcrypts.clear()
    assert refusal((await change(client, phone, "a wrong guess")).response) == (403, "wrong_password")
    assert bcrypts.calls == ["check 04"]
    # Another person knows a password of their own only.
    await change(client, stella, PASSWORD, "of Stella's own")
    assert await me(client, laptop) == await me(client, phone) == 200
    assert await password_of(client, person) == [PASSWORD]
    assert await Event.find({"kind": "user.password_changed", "data.user_id": str(person.id)}).count() == 0


async def test_a_visitor_has_no_password_to_change(client: httpx.AsyncClient) -> None:
    body = {"current_password": PASSWORD, "new_password": FRESH}
    response = await client.post("/auth/change-password", json=body)
    assert refusal(response) == (401, "unauthenticated")


async def test_of_twenty_changes_at_once_one_is_made(client: httpx.AsyncClient, person: User, phone: Signed) -> None:
    answers = await asyncio.gather(*(change(client, phone, new=f"a fresh start {n}") for n in range(20)))
    (won,) = [n for n, answer in enumerate(answers) if answer.response.status_code == 200]
    lost = {refusal(answer.response) for n, answer in enumerate(answers) if n != won}
    assert lost <= {(403, "wrong_password"), (401, "unauthenticated"), (429, "too_many_attempts")}
    await SignInFailures.delete_all()
    assert (await sign_in(client, person, f"a fresh start {won}")).response.status_code == 200
    assert await Event.find({"kind": "user.password_changed"}).count() == 1


@pytest.mark.parametrize("what", ["session", "account", "person"])
async def test_who_was_let_out_a_moment_ago_changes_nothing(
    client: httpx.AsyncClient, person: User, phone: Signed, what: str
) -> None:
    assert await me(client, phone) == 200
    if what == "session":
        await SignIn.get_pymongo_collection().update_many({}, {"$set": {"ended_at": utc_now()}})
    elif what == "account":
        await set_active(person.id, active=False)
    else:
        await person.delete()
    # This process still goes by its verdict of just now.
    assert (await change(client, phone)).response.status_code in {401, 403}
    stored = await User.get(person.id)
    assert stored is None or stored.password_hash == person.password_hash
    assert await events() == []


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/current_password", "#/new_password"}),
        ({"current_password": "", "new_password": "short"}, {"#/current_password", "#/new_password"}),
        ({"current_password": PASSWORD, "new_password": FRESH, "user_id": "x"}, {"#/user_id"}),
    ],
)
async def test_every_broken_field_is_named(
    client: httpx.AsyncClient, phone: Signed, body: dict[str, Any], broken: set[str]
) -> None:
    response = await client.post("/auth/change-password", json=body, headers=phone.header)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken
