import asyncio
from typing import Any

import httpx
import pytest

from lms.accounts.documents import User
from lms.accounts.limits import MailLimit
from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink
from lms.recovery.tasks import NEW, OLD
from lms.redis_client import Accelerator
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, Signed, a_person, me, refresh, refusal, sign_in
from tests.commands import Commands
from tests.conftest import HeldClock
from tests.outbox.build import events
from tests.recovery.mailed import SCHOOL, deliver_all, newest_token, text_of, token_in
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

SAMUEL = "samuel@school.example"
REFUSED = (422, "link_refused")


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


@pytest.fixture
async def signed(client: httpx.AsyncClient, person: User) -> Signed:
    return await sign_in(client, person)


async def ask(client: httpx.AsyncClient, signed: Signed, new: str = SAMUEL, password: str = PASSWORD) -> httpx.Response:
    body = {"new_email": new, "current_password": password}
    return await client.post("/auth/change-email", json=body, headers=signed.header)


async def confirm(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/change-email/confirm", json={"token": token})


async def both_tokens(client: httpx.AsyncClient, signed: Signed, settings: Settings, new: str = SAMUEL) -> list[str]:
    assert (await ask(client, signed, new)).status_code == 202
    return [await newest_token(settings, "user.email_change_asked", which) for which in (OLD, NEW)]


async def address_of(person: User) -> str:
    stored = await User.get(person.id)
    assert stored is not None
    return stored.email


@pytest.mark.parametrize("first", [OLD, NEW])
async def test_both_addresses_confirm_and_only_then_it_is_changed(
    client: httpx.AsyncClient, person: User, signed: Signed, settings: Settings, smtp_sink: SmtpSink, first: str
) -> None:
    response = await ask(client, signed, f" {SAMUEL.upper()}")
    assert (response.status_code, response.json()) == (202, {"status": "accepted"})
    await deliver_all(settings, smtp_sink)
    mails = {mail["To"]: mail for mail in smtp_sink.messages}
    assert set(mails) == {person.email, SAMUEL}
    assert SAMUEL in text_of(mails[person.email])
    tokens = {OLD: token_in(mails[person.email]), NEW: token_in(mails[SAMUEL])}
    assert f"{SCHOOL}/change-email#token={tokens[NEW]}" in text_of(mails[SAMUEL])
    half = await confirm(client, tokens.pop(first))
    assert (half.status_code, half.json()) == (200, {"status": "waiting"})
    assert await address_of(person) == person.email
    whole = await confirm(client, tokens.popitem()[1])
    assert (whole.status_code, whole.json()) == (200, {"status": "changed"})
    assert refusal((await sign_in(client, person)).response) == (401, "bad_credentials")
    moved = await sign_in(client, person.model_copy(update={"email": SAMUEL}))
    assert (moved.body["user"]["email"], moved.body["user"]["verified"]) == (SAMUEL, True)
    assert await me(client, signed) == 200
    assert await MailedLink.count() == 0
    await deliver_all(settings, smtp_sink)
    assert (smtp_sink.messages[2]["To"], len(smtp_sink.messages)) == (SAMUEL, 3)
    assert smtp_sink.messages[2]["Subject"] == "Your address at Open School was changed"


async def test_known_and_unknown_new_addresses_look_and_cost_the_same(
    client: httpx.AsyncClient, signed: Signed, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Stella")
    seen: list[Any] = []
    for email in (SAMUEL, "stella@school.example", SAMUEL, "stella@school.example"):
        commands.seen.clear()
        bcrypts.clear()
        response = await ask(client, signed, email)
        seen.append((response.status_code, response.text, [name for name, _ in commands.seen], list(bcrypts.calls)))
    assert all(
        one[2][-6:] == ["update", "findAndModify", "insert", "insert", "insert", "commitTransaction"] for one in seen
    )
    # What the session's verdict costs depends on how long ago it was asked for.
    assert all((one[:2], one[2][-7:], one[3]) == (seen[0][:2], seen[0][2][-7:], ["check 04"]) for one in seen)


async def test_only_the_owner_of_a_known_address_learns_that_it_is(
    client: httpx.AsyncClient,
    signed: Signed,
    accounts: Accounts,
    settings: Settings,
    smtp_sink: SmtpSink,
    person: User,
) -> None:
    stella = await a_person(accounts, "Stella")
    old, new = await both_tokens(client, signed, settings, stella.email)
    await deliver_all(settings, smtp_sink)
    mails = {mail["To"]: mail for mail in smtp_sink.messages}
    assert "already" not in text_of(mails[person.email])
    assert mails[stella.email]["Subject"] == "You already have an account at Open School"
    assert "Hello Stella Okafor," in text_of(mails[stella.email])
    assert "token" not in text_of(mails[stella.email])
    assert new not in mails[stella.email].as_string()
    assert (await confirm(client, old)).json() == {"status": "waiting"}
    assert await address_of(person) == person.email


async def test_an_address_that_was_taken_meanwhile_stays_with_who_has_it(
    client: httpx.AsyncClient, signed: Signed, accounts: Accounts, settings: Settings, person: User
) -> None:
    old, new = await both_tokens(client, signed, settings)
    other = await a_person(accounts, "Samuel")
    assert (await confirm(client, old)).json() == {"status": "waiting"}
    assert refusal(await confirm(client, new)) == (409, "address_taken")
    assert [await address_of(one) for one in (person, other)] == [person.email, SAMUEL]
    assert await Event.find({"kind": "user.email_changed"}).count() == 0


async def test_whoever_does_not_know_the_password_changes_nothing(
    client: httpx.AsyncClient, signed: Signed, accounts: Accounts
) -> None:
    assert refusal(await ask(client, signed, password="a wrong guess")) == (403, "wrong_password")
    visitor = await client.post("/auth/change-email", json={"new_email": SAMUEL, "current_password": PASSWORD})
    assert refusal(visitor) == (401, "unauthenticated")
    assert (await events(), await MailedLink.count()) == ([], 0)


async def test_the_address_of_now_is_no_new_one(client: httpx.AsyncClient, signed: Signed) -> None:
    response = await ask(client, signed, "SAM@school.example")
    assert refusal(response) == (422, "same_address")
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/new_email"]
    assert await events() == []


async def test_each_half_works_once_of_twenty_uses_at_once(
    client: httpx.AsyncClient, signed: Signed, settings: Settings, person: User
) -> None:
    old, new = await both_tokens(client, signed, settings)
    for token, status in ((old, "waiting"), (new, "changed")):
        answers = await asyncio.gather(*(confirm(client, token) for _ in range(20)))
        (won,) = [answer for answer in answers if answer.status_code == 200]
        assert won.json() == {"status": status}
        assert {refusal(answer) for answer in answers if answer is not won} == {REFUSED}
    assert await address_of(person) == SAMUEL
    assert await Event.find({"kind": "user.email_changed"}).count() == 1


async def test_both_halves_at_once_make_the_change_once(
    client: httpx.AsyncClient, signed: Signed, settings: Settings, person: User
) -> None:
    tokens = await both_tokens(client, signed, settings)
    answers = await asyncio.gather(*(confirm(client, token) for token in tokens))
    assert sorted(answer.json()["status"] for answer in answers) == ["changed", "waiting"]
    assert await address_of(person) == SAMUEL


@pytest.mark.parametrize("what", ["expired", "asked again", "new password", "closed", "erased"])
async def test_links_that_are_out_of_date_change_nothing(
    client: httpx.AsyncClient,
    accounts: Accounts,
    settings: Settings,
    person: User,
    held_clock: HeldClock,
    what: str,
) -> None:
    signed = await sign_in(client, person)
    old, new = await both_tokens(client, signed, settings)
    assert (await confirm(client, old)).json() == {"status": "waiting"}
    if what == "expired":
        held_clock.advance(hours=48)
    elif what == "asked again":
        await ask(client, signed, "sammy@school.example")
    elif what == "new password":
        body = {"current_password": PASSWORD, "new_password": "chosen meanwhile"}
        assert (await client.post("/auth/change-password", json=body, headers=signed.header)).status_code == 200
    elif what == "closed":
        await set_active(person.id, active=False)
    else:
        await person.delete()
    assert refusal(await confirm(client, new)) == REFUSED
    stored = await User.get(person.id)
    assert stored is None or stored.email == person.email


async def test_links_live_for_two_days(
    client: httpx.AsyncClient, settings: Settings, person: User, held_clock: HeldClock
) -> None:
    tokens = await both_tokens(client, await sign_in(client, person), settings)
    held_clock.advance(hours=47, minutes=59)
    assert [(await confirm(client, token)).status_code for token in tokens] == [200, 200]


async def test_nobodys_mailbox_is_flooded(
    client: httpx.AsyncClient,
    signed: Signed,
    accounts: Accounts,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.model_copy(update={"rate_mail": "2/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    answers = [await ask(client, signed, f"stella+{n // 2}@school.example") for n in range(6)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"status":"accepted"}')}
    assert len(await events()) == 4


async def test_a_session_may_be_refreshed_after_the_change(
    client: httpx.AsyncClient, signed: Signed, settings: Settings
) -> None:
    for token in await both_tokens(client, signed, settings):
        await confirm(client, token)
    assert (await refresh(client, signed.refresh_token)).body["user"]["email"] == SAMUEL


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/new_email", "#/current_password"}),
        ({"new_email": "sam@school", "current_password": ""}, {"#/new_email", "#/current_password"}),
    ],
)
async def test_every_broken_field_is_named(
    client: httpx.AsyncClient, signed: Signed, body: dict[str, Any], broken: set[str]
) -> None:
    response = await client.post("/auth/change-email", json=body, headers=signed.header)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken
