import asyncio
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.limits import MailLimit
from lms.accounts.service import Accounts
from lms.outbox.jobs import Outcome, run_job
from lms.recovery.documents import MailedLink, Purpose
from lms.redis_client import Accelerator
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import a_person
from tests.commands import Commands
from tests.conftest import HeldClock
from tests.outbox.build import events
from tests.recovery.mailed import SCHOOL, context_for, deliver_all, newest_token, text_of, token_in
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

Database = AsyncDatabase[dict[str, Any]]
KIND = "user.password_forgotten"


async def forget(client: httpx.AsyncClient, email: str = "sam@school.example") -> httpx.Response:
    return await client.post("/auth/forgot-password", json={"email": email})


async def test_known_unknown_and_closed_look_and_cost_the_same(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Sam")
    await a_person(accounts, "Stella", active=False)
    bcrypts.clear()
    seen: list[Any] = []
    for email in ("sam@school.example", "nobody@school.example", "stella@school.example") * 2:
        commands.seen.clear()
        response = await forget(client, email)
        headers = {key: value for key, value in response.headers.items() if key not in {"x-request-id", "date"}}
        seen.append((response.status_code, response.json(), headers, [name for name, _ in commands.seen]))
    assert all(one == seen[0] for one in seen)
    assert seen[0][:2] == (202, {"status": "accepted"})
    assert seen[0][2]["cache-control"] == "no-store"
    assert seen[0][3] == ["find", "update", "insert", "commitTransaction"]
    assert bcrypts.calls == []
    assert (await MailedLink.count(), len(await events())) == (3, 6)


async def test_only_who_has_an_account_is_written_to(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await a_person(accounts, "Sam")
    await a_person(accounts, "Stella", active=False)
    for email in (" SAM@school.example", "nobody@school.example", "stella@school.example"):
        await forget(client, email)
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == ("sam@school.example", "Reset your password at Open School")
    assert "It works once, and for 30 minutes." in text_of(mail)
    assert f"{SCHOOL}/reset-password#token={token_in(mail)}" in text_of(mail)
    assert await events() == []


async def test_every_try_of_one_mail_carries_the_same_link(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, smtp_sink: SmtpSink, held_clock: HeldClock
) -> None:
    await a_person(accounts, "Sam")
    await forget(client)
    wanted = await newest_token(settings, KIND, Purpose.RESET_PASSWORD)
    (event,) = await events()
    context = context_for(settings, smtp_sink)
    smtp_sink.refuse("451 4.3.0 Try again later")
    assert await run_job("send_password_reset_email", event.id, context) is Outcome.RETRY
    smtp_sink.accept()
    held_clock.advance(seconds=61)
    assert await run_job("send_password_reset_email", event.id, context) is Outcome.DONE
    assert [token_in(mail) for mail in smtp_sink.messages] == [wanted]


@pytest.mark.parametrize("what", ["expired", "replaced"])
async def test_a_link_that_is_void_before_its_mail_goes_out_is_not_mailed(
    client: httpx.AsyncClient,
    accounts: Accounts,
    settings: Settings,
    smtp_sink: SmtpSink,
    held_clock: HeldClock,
    what: str,
) -> None:
    await a_person(accounts, "Sam")
    await forget(client)
    (event,) = await events()
    if what == "expired":
        held_clock.advance(minutes=30)
    else:
        await forget(client)
    context = context_for(settings, smtp_sink)
    assert await run_job("send_password_reset_email", event.id, context) is Outcome.DONE
    assert smtp_sink.messages == []


async def test_nothing_that_is_stored_resets_a_password(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, database: Database
) -> None:
    await a_person(accounts, "Sam")
    await forget(client)
    token = await newest_token(settings, KIND, Purpose.RESET_PASSWORD)
    (link,) = await database["mailed_links"].find().to_list()
    (event,) = await database["outbox"].find({"kind": {"$ne": "audit"}}).to_list()
    texts = [*link["digests"], event["data"]["nonce"], link["_id"], str(link["user_id"]), event["data"]["user_id"]]
    assert token not in repr([link, event])
    for text in texts:
        response = await client.post("/auth/reset-password", json={"token": text, "password": "a fresh new start"})
        assert (response.status_code, response.json()["code"]) == (422, "link_refused")


@pytest.mark.parametrize("email", ["sam@school.example", "nobody@school.example"])
async def test_of_twenty_at_once_all_are_accepted_and_one_link_counts(
    client: httpx.AsyncClient, accounts: Accounts, email: str
) -> None:
    await a_person(accounts, "Sam")
    answers = await asyncio.gather(*(forget(client, email) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert (await MailedLink.count(), len(await events())) == (1, 20)


@pytest.mark.parametrize("email", ["sam", "sam@school", "sam@school.example\r\nBcc: all@school.example", None, ""])
async def test_what_is_no_address_is_refused(client: httpx.AsyncClient, email: str | None) -> None:
    response = await client.post("/auth/forgot-password", json={"email": email})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/email"]


async def test_nobodys_mailbox_is_flooded_and_the_last_link_lives(
    client: httpx.AsyncClient,
    accounts: Accounts,
    settings: Settings,
    commands: Commands,
    held_clock: HeldClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.model_copy(update={"rate_mail": "3/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    await a_person(accounts, "Sam")
    for email in ("sam@school.example", "nobody@school.example"):
        answers = [await forget(client, email) for _ in range(3)]
        last = await MailedLink.find_all().sort("-_id").to_list()
        commands.seen.clear()
        answers += [await forget(client, f" {email.upper()}") for _ in range(3)]
        assert commands.names == []
        assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"status":"accepted"}')}
        assert await MailedLink.find_all().sort("-_id").to_list() == last
    assert len(await events()) == 6
    held_clock.advance(minutes=20)
    await forget(client)
    assert len(await events()) == 7


async def test_processes_share_what_a_mailbox_was_sent(settings: Settings, redis_url: str) -> None:
    few = settings.model_copy(update={"rate_mail": "2/3600"})
    accelerators = [Accelerator(redis_url, f"test-{id(few)}") for _ in range(2)]
    one, other = (MailLimit(few, accelerator) for accelerator in accelerators)
    assert [await limit.allows("sam@school.example") for limit in (one, other, one, other)] == [
        True,
        True,
        False,
        False,
    ]
    assert await one.allows("stella@school.example")
    for accelerator in accelerators:
        await accelerator.close()


async def test_who_signs_up_again_and_again_is_reminded_a_few_times(
    client: httpx.AsyncClient,
    accounts: Accounts,
    settings: Settings,
    smtp_sink: SmtpSink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.model_copy(update={"rate_mail": "1/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    sam = {"email": "sam@school.example", "password": "correct horse battery", "full_name": "Sam Okafor"}
    await forget(client, sam["email"])
    for _ in range(3):
        assert (await client.post("/auth/register", json=sam)).status_code == 202
    await deliver_all(settings, smtp_sink)
    assert [mail["Subject"] for mail in smtp_sink.messages] == ["Welcome to Open School"]
