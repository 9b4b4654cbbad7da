import asyncio
from typing import Any

import httpx
import pytest

from lms.accounts.documents import User
from lms.accounts.limits import MailLimit
from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.redis_client import Accelerator
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, me, refusal, sign_in
from tests.commands import Commands
from tests.conftest import HeldClock
from tests.outbox.build import events
from tests.recovery.mailed import SCHOOL, context_for, deliver_all, newest_token, text_of, token_in
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

SAM = {"email": "sam@school.example", "password": PASSWORD, "full_name": "Sam Okafor"}
REFUSED = (422, "link_refused")
COUNTED = ["find", *["findAndModify"] * 3]
"""What it takes to count a try at a password."""


async def sign_up(client: httpx.AsyncClient, **fields: str) -> None:
    assert (await client.post("/auth/register", json=SAM | fields)).status_code == 202


async def ask(client: httpx.AsyncClient, email: str = SAM["email"]) -> httpx.Response:
    return await client.post("/auth/verify-email/request", json={"email": email})


async def confirm(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/verify-email/confirm", json={"token": token})


async def token_of(settings: Settings, kind: str = "user.registered") -> str:
    return await newest_token(settings, kind, Purpose.VERIFY_EMAIL)


async def is_verified(email: str = SAM["email"]) -> bool:
    user = await User.by_email(email)
    assert user is not None
    return user.verified


async def test_the_welcome_mail_brings_the_link_that_verifies(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == (SAM["email"], "Welcome to Open School")
    assert f"Confirm the address: {SCHOOL}/verify-email#token={token_in(mail)}" in text_of(mail)
    assert not await is_verified()
    response = await confirm(client, token_in(mail))
    assert (response.status_code, response.json()) == (200, {"status": "verified"})
    assert response.headers["cache-control"] == "no-store"
    assert await is_verified()
    user = await User.by_email(SAM["email"])
    assert user is not None
    signed = await sign_in(client, user)
    assert signed.body["user"]["verified"] is True


async def test_a_link_works_once_of_twenty_uses_at_once(client: httpx.AsyncClient, settings: Settings) -> None:
    await sign_up(client)
    token = await token_of(settings)
    answers = await asyncio.gather(*(confirm(client, token) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 19
    assert refusal(await confirm(client, token)) == REFUSED
    assert await MailedLink.count() == 0


async def test_a_link_lives_for_two_days(client: httpx.AsyncClient, settings: Settings, held_clock: HeldClock) -> None:
    await sign_up(client)
    held_clock.advance(hours=48)
    assert refusal(await confirm(client, await token_of(settings))) == REFUSED
    await ask(client)
    held_clock.advance(hours=47, minutes=59)
    assert (await confirm(client, await token_of(settings, "user.verification_asked"))).status_code == 200


async def test_another_link_ends_the_one_before(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    first = await token_of(settings)
    assert (await ask(client, " SAM@school.example")).status_code == 202
    await deliver_all(settings, smtp_sink)
    welcome, again = smtp_sink.messages
    assert "token" not in text_of(welcome)
    assert (again["To"], again["Subject"]) == (SAM["email"], "Confirm your address at Open School")
    assert "for 48 hours" in text_of(again)
    assert refusal(await confirm(client, first)) == REFUSED
    assert (await confirm(client, token_in(again))).status_code == 200


async def test_who_signs_up_twice_goes_on_with_the_first_mail(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    await sign_up(client, full_name="Somebody Else", password="chosen by somebody else")
    await deliver_all(settings, smtp_sink)
    welcome, reminder = smtp_sink.messages
    assert "token" not in text_of(reminder)
    assert (await confirm(client, token_in(welcome))).status_code == 200


async def test_known_unknown_verified_and_closed_look_and_cost_the_same(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Sam")
    await a_person(accounts, "Ivy", verified=True)
    await a_person(accounts, "Stella", active=False)
    bcrypts.clear()
    seen: list[Any] = []
    for name in ("sam", "nobody", "ivy", "stella") * 2:
        commands.seen.clear()
        response = await ask(client, f"{name}@school.example")
        headers = {key: value for key, value in response.headers.items() if key not in {"x-request-id", "date"}}
        seen.append((response.status_code, response.json(), headers, [command for command, _ in commands.seen]))
    assert all(one == seen[0] for one in seen)
    assert seen[0][3] == ["find", "update", "insert", "commitTransaction"]
    assert bcrypts.calls == []


async def test_only_who_is_not_verified_is_written_to(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await a_person(accounts, "Sam")
    await a_person(accounts, "Ivy", verified=True)
    await a_person(accounts, "Stella", active=False)
    for name in ("sam", "nobody", "ivy", "stella"):
        await ask(client, f"{name}@school.example")
    await deliver_all(settings, smtp_sink)
    assert [mail["To"] for mail in smtp_sink.messages] == [SAM["email"]]


@pytest.mark.parametrize("what", ["another address", "closed", "erased"])
async def test_a_link_proves_only_the_address_that_it_was_mailed_to(
    client: httpx.AsyncClient, settings: Settings, what: str
) -> None:
    await sign_up(client)
    user, token = await User.by_email(SAM["email"]), await token_of(settings)
    assert user is not None
    if what == "another address":
        await User.find_one({"_id": user.id}).update({"$set": {"email": "samuel@school.example"}})
    elif what == "closed":
        await set_active(user.id, active=False)
    else:
        await user.delete()
    assert refusal(await confirm(client, token)) == REFUSED
    assert await User.find({"verified": True}).count() == 0


async def test_a_link_for_another_purpose_verifies_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    await sign_up(client)
    await client.post("/auth/forgot-password", json={"email": SAM["email"]})
    other = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    assert refusal(await confirm(client, other)) == REFUSED
    own = await token_of(settings)
    reset = await client.post("/auth/reset-password", json={"token": own, "password": "a fresh new start"})
    assert refusal(reset) == REFUSED
    assert not await is_verified()


async def test_nobodys_mailbox_is_flooded(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = settings.model_copy(update={"rate_mail": "3/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    answers = [await ask(client) for _ in range(6)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"status":"accepted"}')}
    assert len(await events()) == 3


@pytest.fixture
def insisting(accounts: Accounts, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "settings", settings.model_copy(update={"require_verified": True}))


@pytest.mark.usefixtures("insisting")
async def test_a_school_may_insist_on_it(
    client: httpx.AsyncClient, settings: Settings, commands: Commands, bcrypts: Bcrypts
) -> None:
    await sign_up(client)
    user = await User.by_email(SAM["email"])
    assert user is not None
    bcrypts.clear()
    commands.seen.clear()
    refused = await sign_in(client, user)
    assert refusal(refused.response) == (403, "not_verified")
    made_familiar = ["findAndModify", "update", "update"]
    assert (bcrypts.calls, commands.names) == (["check 04"], [*COUNTED, "find", *made_familiar])
    await confirm(client, await token_of(settings))
    assert (await sign_in(client, user)).response.status_code == 200


@pytest.mark.usefixtures("insisting")
async def test_an_old_token_that_an_app_still_sends_is_in_nobodys_way(
    client: httpx.AsyncClient, accounts: Accounts
) -> None:
    sam = await a_person(accounts, "Sam")
    refused = await sign_in(client, sam, Authorization="Bearer out.of.date")
    assert refusal(refused.response) == (403, "not_verified")
    ivy = await a_person(accounts, "Ivy", verified=True)
    signed = await sign_in(client, ivy, Authorization="Bearer out.of.date")
    assert (signed.response.status_code, "www-authenticate" in signed.response.headers) == (200, False)


@pytest.mark.usefixtures("insisting")
async def test_who_does_not_know_the_password_does_not_learn_that_it_is_insisted_on(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    people = [await a_person(accounts, "Sam"), await a_person(accounts, "Ivy", verified=True)]
    seen: list[Any] = []
    for email in (*(person.email for person in people), "nobody@school.example"):
        bcrypts.clear()
        commands.seen.clear()
        response = await client.post("/auth/login", json={"email": email, "password": "a wrong guess"})
        seen.append((refusal(response), list(bcrypts.calls), list(commands.names)))
    assert seen == [((401, "bad_credentials"), ["check 04"], [*COUNTED, "find"])] * 3


@pytest.mark.usefixtures("insisting")
async def test_a_reset_by_mail_verifies_too(client: httpx.AsyncClient, settings: Settings) -> None:
    await sign_up(client)
    await client.post("/auth/forgot-password", json={"email": SAM["email"]})
    token = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    await client.post("/auth/reset-password", json={"token": token, "password": "a fresh new start"})
    signed = await client.post("/auth/login", json={"email": SAM["email"], "password": "a fresh new start"})
    assert signed.status_code == 200


async def test_a_welcome_of_an_older_version_has_no_link(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    await Event.get_pymongo_collection().update_many({}, {"$unset": {"data.nonce": ""}})
    await deliver_all(settings, smtp_sink)
    assert f"See the courses: {context_for(settings, smtp_sink).settings.app_url}" in text_of(smtp_sink.messages[0])


@pytest.mark.parametrize(("path", "field"), [("request", "email"), ("confirm", "token")])
@pytest.mark.parametrize("value", ["", None, 7, "x" * 300])
async def test_a_broken_field_is_named(client: httpx.AsyncClient, path: str, field: str, value: Any) -> None:
    response = await client.post(f"/auth/verify-email/{path}", json={field: value})
    assert refusal(response) == (422, "validation_failed")
    assert [error["pointer"] for error in response.json()["errors"]] == [f"#/{field}"]


async def test_whoever_signed_up_with_a_strangers_address_is_out_once_that_is_verified(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await sign_up(client)
    user = await User.by_email(SAM["email"])
    assert user is not None
    planted, own = await sign_in(client, user), await sign_in(client, user)
    assert await me(client, planted) == await me(client, own) == 200
    token = await token_of(settings)
    answer = await client.post("/auth/verify-email/confirm", json={"token": token}, headers=own.header)
    assert answer.status_code == 200
    assert (await me(client, planted), await me(client, own)) == (401, 200)
    refused = await client.post("/auth/refresh", json={"refresh_token": planted.refresh_token})
    assert refusal(refused) == (401, "refresh_refused")


async def test_verifying_again_ends_nothing(client: httpx.AsyncClient, settings: Settings, accounts: Accounts) -> None:
    await sign_up(client)
    user = await User.by_email(SAM["email"])
    assert user is not None
    signed = await sign_in(client, user)
    await User.get_pymongo_collection().update_one({"_id": user.id}, {"$set": {"verified": True}})
    assert (await confirm(client, await token_of(settings))).status_code == 200
    assert await me(client, signed) == 200


async def test_somebody_elses_token_keeps_nobodys_session(
    client: httpx.AsyncClient, settings: Settings, accounts: Accounts
) -> None:
    await sign_up(client)
    user = await User.by_email(SAM["email"])
    assert user is not None
    planted = await sign_in(client, user)
    hers = await sign_in(client, await a_person(accounts, "Stella"))
    token = await token_of(settings)
    await client.post("/auth/verify-email/confirm", json={"token": token}, headers=hers.header)
    assert (await me(client, planted), await me(client, hers)) == (401, 200)
