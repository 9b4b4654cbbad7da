import asyncio
import io
import logging
from typing import Any

import httpx
import pytest
import structlog

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.clock import utc_now
from lms.logs import configure_logging
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, me, refresh, refusal, sign_in
from tests.conftest import HeldClock
from tests.recovery.mailed import deliver_all, newest_token, text_of, token_in
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

FRESH = "a fresh new start"
REFUSED = (422, "link_refused")


async def reset(client: httpx.AsyncClient, token: str, password: str = FRESH) -> httpx.Response:
    return await client.post("/auth/reset-password", json={"token": token, "password": password})


async def a_token(client: httpx.AsyncClient, settings: Settings, email: str = "sam@school.example") -> str:
    assert (await client.post("/auth/forgot-password", json={"email": email})).status_code == 202
    return await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam", role=Role.INSTRUCTOR)


async def stored(user: User) -> User:
    found = await User.get(user.id)
    assert found is not None
    return found


async def test_from_the_forgotten_password_to_the_new_one(
    client: httpx.AsyncClient, settings: Settings, person: User, smtp_sink: SmtpSink
) -> None:
    phone, laptop = await sign_in(client, person), await sign_in(client, person)
    assert await me(client, phone) == await me(client, laptop) == 200
    await client.post("/auth/forgot-password", json={"email": person.email})
    await deliver_all(settings, smtp_sink)
    response = await reset(client, token_in(smtp_sink.messages[0]))
    assert (response.status_code, response.json()) == (200, {"status": "password_set"})
    assert response.headers["cache-control"] == "no-store"
    for signed in (phone, laptop):
        assert await me(client, signed) == 401
        assert refusal((await refresh(client, signed.refresh_token)).response) == (401, "refresh_refused")
    assert refusal((await sign_in(client, person)).response) == (401, "bad_credentials")
    assert await me(client, await sign_in(client, person, FRESH)) == 200
    changed = await stored(person)
    assert (changed.auth_epoch, changed.password_rev, changed.verified) == (1, 1, True)
    await deliver_all(settings, smtp_sink)
    notice = smtp_sink.messages[1]
    assert (notice["To"], notice["Subject"]) == (person.email, "Your password at Open School was changed")
    assert "If it was not you" in text_of(notice)


async def test_a_link_works_once_of_twenty_uses_at_once(
    client: httpx.AsyncClient, settings: Settings, person: User
) -> None:
    token = await a_token(client, settings)
    answers = await asyncio.gather(*(reset(client, token, f"a fresh new start {n}") for n in range(20)))
    (won,) = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert {refusal(answer) for n, answer in enumerate(answers) if n != won} == {REFUSED}
    assert (await sign_in(client, person, f"a fresh new start {won}")).response.status_code == 200
    assert refusal(await reset(client, token)) == REFUSED
    assert (await stored(person)).password_rev == 1
    assert await Event.find({"kind": "user.password_changed"}).count() == 1
    assert await MailedLink.count() == 0


async def test_a_link_lives_for_half_an_hour(
    client: httpx.AsyncClient, settings: Settings, person: User, held_clock: HeldClock
) -> None:
    token = await a_token(client, settings)
    held_clock.advance(minutes=30)
    assert refusal(await reset(client, token)) == REFUSED
    token = await a_token(client, settings)
    held_clock.advance(minutes=29, seconds=59)
    assert (await reset(client, token)).status_code == 200


async def test_a_new_link_ends_the_one_before(client: httpx.AsyncClient, settings: Settings, person: User) -> None:
    first = await a_token(client, settings)
    second = await a_token(client, settings)
    assert refusal(await reset(client, first)) == REFUSED
    assert (await reset(client, second)).status_code == 200


async def test_a_link_from_before_the_last_change_of_password_is_void(
    client: httpx.AsyncClient, settings: Settings, person: User
) -> None:
    token = await a_token(client, settings)
    signed = await sign_in(client, person)
    change = {"current_password": PASSWORD, "new_password": "chosen meanwhile"}
    assert (await client.post("/auth/change-password", json=change, headers=signed.header)).status_code == 200
    assert refusal(await reset(client, token)) == REFUSED
    assert (await sign_in(client, person, "chosen meanwhile")).response.status_code == 200


@pytest.mark.parametrize("what", ["address", "closed", "erased"])
async def test_a_link_is_void_for_who_is_somebody_else_by_now(
    client: httpx.AsyncClient, settings: Settings, person: User, bcrypts: Bcrypts, what: str
) -> None:
    token = await a_token(client, settings)
    if what == "address":
        await User.find_one({"_id": person.id}).update({"$set": {"email": "samuel@school.example"}})
    elif what == "closed":
        await set_active(person.id, active=False)
    else:
        await person.delete()
    bcrypts.clear()
    assert refusal(await reset(client, token)) == REFUSED
    assert bcrypts.calls == []
    assert await Event.find({"kind": "user.password_changed"}).count() == 0


async def test_a_link_for_another_purpose_or_person_resets_nothing(
    client: httpx.AsyncClient, settings: Settings, accounts: Accounts, person: User
) -> None:
    stella = await a_person(accounts, "Stella")
    signed = await sign_in(client, stella)
    change = {"new_email": "estela@school.example", "current_password": PASSWORD}
    assert (await client.post("/auth/change-email", json=change, headers=signed.header)).status_code == 202
    for made_for in ("change_email.old", "change_email.new", Purpose.CHANGE_EMAIL, Purpose.RESET_PASSWORD):
        token = await newest_token(settings, "user.email_change_asked", made_for)
        assert refusal(await reset(client, token)) == REFUSED
    hers = await a_token(client, settings, stella.email)
    assert (await reset(client, hers)).status_code == 200
    assert (await sign_in(client, person)).response.status_code == 200


async def test_forged_tokens_are_refused_before_any_work(
    client: httpx.AsyncClient, settings: Settings, person: User, bcrypts: Bcrypts
) -> None:
    token = await a_token(client, settings)
    bcrypts.clear()
    for wrong in ("x", token[:-1], f"{token}x", token.swapcase(), "\0", "😀", " " * 43):
        response = await reset(client, wrong)
        assert refusal(response) == REFUSED, wrong
        assert [error["pointer"] for error in response.json()["errors"]] == ["#/token"]
        assert wrong not in response.text or len(wrong) == 1
    assert bcrypts.calls == []
    assert (await reset(client, token)).status_code == 200
    assert bcrypts.calls == ["hash 04"]


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/token", "#/password"}),
        ({"token": "", "password": "short"}, {"#/token", "#/password"}),
        ({"token": ["x"], "password": None}, {"#/token", "#/password"}),
        ({"token": "x" * 101, "password": "x" * 8, "email": "sam@school.example"}, {"#/token", "#/email"}),
    ],
)
async def test_every_broken_field_is_named(client: httpx.AsyncClient, body: dict[str, Any], broken: set[str]) -> None:
    response = await client.post("/auth/reset-password", json=body)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken


async def test_a_sign_in_that_began_under_the_old_password_ends_with_it(
    client: httpx.AsyncClient, settings: Settings, accounts: Accounts, person: User
) -> None:
    """bcrypt takes its time: the password may change between the look at the hash and the new session."""
    now = utc_now()
    token = await a_token(client, settings)
    assert (await reset(client, token)).status_code == 200
    late = SignIn(user_id=person.id, nonce="nonce", rotated_at=now, expires_at=now.replace(year=now.year + 1))
    await late.insert()
    given = accounts.tokens(person, late, now)
    assert isinstance(given.refresh_token, str)
    answer = await client.get("/users/me", headers={"Authorization": f"Bearer {given.access_token}"})
    assert refusal(answer) == (401, "unauthenticated")
    assert refusal((await refresh(client, given.refresh_token)).response) == (401, "refresh_refused")


async def test_no_secret_gets_into_a_log_line(
    client: httpx.AsyncClient, settings: Settings, person: User, smtp_sink: SmtpSink
) -> None:
    root, stream = logging.getLogger(), io.BytesIO()
    handlers, level = root.handlers[:], root.level
    configure_logging(settings.model_copy(update={"log_level": "DEBUG"}), stream)
    try:
        await client.post("/auth/forgot-password", json={"email": person.email})
        await deliver_all(settings, smtp_sink)
        token = token_in(smtp_sink.messages[0])
        await reset(client, token)
        await reset(client, token)
        await sign_in(client, person, FRESH)
        await deliver_all(settings, smtp_sink)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    # The test's own mail server writes into the same log, under this name.
    ours = [line for line in stream.getvalue().decode().splitlines() if '"logger":"mail.log"' not in line]
    lines, changed = "\n".join(ours), await stored(person)
    assert lines.count('"route":"/api/v1/auth/reset-password"') == 2
    assert "send_password_changed_email" in lines
    for secret in (token, FRESH, PASSWORD, person.password_hash[9:], changed.password_hash[9:], person.email):
        assert secret not in lines
