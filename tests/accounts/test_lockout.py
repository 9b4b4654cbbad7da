import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from lms.accounts.attempts import ACCOUNT, NETWORK, PAIR
from lms.accounts.documents import SignInFailures, User
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.audit.documents import Act
from lms.outbox.documents import Event
from lms.recovery.documents import Purpose
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, refusal
from tests.commands import Commands
from tests.conftest import HeldClock, settings_for, token_for
from tests.recovery.mailed import newest_token

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

HOME, AWAY = "192.0.2.1", "198.51.100.1"
WRONG = "a wrong guess"
REFUSED, DELAYED = (401, "bad_credentials"), (429, "too_many_attempts")


@pytest.fixture
async def sam(accounts: Accounts, client: httpx.AsyncClient) -> User:
    _ = client
    return await a_person(accounts, "Sam")


def door(app: Litestar, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(cast("Any", app), client=(address, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://lms.test/api/v1")


async def attempt(
    app: Litestar, address: str, password: str = WRONG, email: str = "sam@school.example"
) -> httpx.Response:
    async with door(app, address) as client:
        return await client.post("/auth/login", json={"email": email, "password": password})


async def fail(app: Litestar, address: str, times: int = PAIR.free, email: str = "sam@school.example") -> None:
    for _ in range(times):
        assert refusal(await attempt(app, address, email=email)) == REFUSED


async def spend_the_account(app: Litestar) -> None:
    """From so many networks that none of them is at its own end."""
    for number in range(ACCOUNT.free // 4):
        await fail(app, f"203.0.113.{number}", 4)


async def spend_the_network(app: Litestar, address: str) -> None:
    for number in range(NETWORK.free // PAIR.free):
        await fail(app, address, email=f"guess-{number}@school.example")


@pytest.mark.usefixtures("sam")
async def test_the_delay_doubles_up_to_fifteen_minutes(app: Litestar, held_clock: HeldClock) -> None:
    await fail(app, AWAY)
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]:
        refused = await attempt(app, AWAY)
        assert (refusal(refused), refused.headers["retry-after"]) == (DELAYED, str(seconds))
        held_clock.advance(milliseconds=seconds * 1000 - 1)
        assert refusal(await attempt(app, AWAY)) == DELAYED
        held_clock.advance(milliseconds=1)
        assert refusal(await attempt(app, AWAY)) == REFUSED


@pytest.mark.usefixtures("sam")
async def test_the_right_password_waits_as_well_and_then_ends_it(
    app: Litestar, held_clock: HeldClock, bcrypts: Bcrypts
) -> None:
    await fail(app, AWAY)
    bcrypts.clear()
    assert refusal(await attempt(app, AWAY, PASSWORD)) == DELAYED
    assert bcrypts.calls == []
    held_clock.advance(seconds=1)
    assert (await attempt(app, AWAY, PASSWORD)).status_code == 200
    await fail(app, AWAY)
    assert refusal(await attempt(app, AWAY)) == DELAYED


@pytest.mark.usefixtures("sam")
async def test_knocking_on_does_not_prolong_a_delay(app: Litestar, held_clock: HeldClock) -> None:
    await fail(app, AWAY)
    before = await SignInFailures.find_all().sort("_id").to_list()
    await asyncio.gather(*(attempt(app, AWAY) for _ in range(30)))
    assert await SignInFailures.find_all().sort("_id").to_list() == before
    held_clock.advance(seconds=1)
    assert (await attempt(app, AWAY, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("sam")
async def test_failures_are_forgotten_an_hour_after_the_last(app: Litestar, held_clock: HeldClock) -> None:
    await fail(app, AWAY, 4)
    held_clock.advance(minutes=59)
    await fail(app, AWAY, 1)
    assert refusal(await attempt(app, AWAY)) == DELAYED
    held_clock.advance(minutes=60)
    await fail(app, AWAY)
    assert refusal(await attempt(app, AWAY)) == DELAYED


@pytest.mark.usefixtures("sam")
async def test_of_a_hundred_wrong_passwords_at_once_five_are_looked_at(
    app: Litestar, settings: Settings, bcrypts: Bcrypts
) -> None:
    """By two processes, which share nothing but the database."""
    other = create_app(settings)
    bcrypts.clear()
    answers = await asyncio.gather(*(attempt(other if n % 2 else app, AWAY) for n in range(100)))
    other.state.accounts.passwords.close()
    assert sorted(refusal(answer) for answer in answers) == [REFUSED] * 5 + [DELAYED] * 95
    assert bcrypts.calls == ["check 04"] * 5
    assert [row.failures for row in await SignInFailures.find_all().to_list()] == [5, 5, 5]


async def test_known_and_unknown_addresses_are_delayed_alike(
    app: Litestar, sam: User, commands: Commands, bcrypts: Bcrypts, held_clock: HeldClock
) -> None:
    _ = held_clock
    seen: list[Any] = []
    for email, address in ((sam.email, AWAY), ("nobody@school.example", HOME)):
        mine: list[Any] = []
        for _ in range(PAIR.free + 2):
            bcrypts.clear()
            commands.seen.clear()
            response = await attempt(app, address, email=email)
            body = {name: value for name, value in response.json().items() if name != "request_id"}
            retry = response.headers.get("retry-after")
            mine.append((response.status_code, body, retry, list(bcrypts.calls), list(commands.names)))
        seen.append(mine)
    assert seen[0] == seen[1]
    assert [one[0] for one in seen[0]] == [401] * 5 + [429] * 2
    # Nobody's time is spent on what is refused.
    assert seen[0][-1][3:] == ([], ["find"])


@pytest.mark.usefixtures("held_clock")
async def test_strangers_do_not_keep_anybody_out_at_home(app: Litestar, sam: User) -> None:
    assert (await attempt(app, HOME, PASSWORD)).status_code == 200
    await spend_the_account(app)
    assert refusal(await attempt(app, AWAY, PASSWORD)) == DELAYED
    assert (await attempt(app, HOME, PASSWORD)).status_code == 200
    # It is the account that waits there, and no other one.
    assert refusal(await attempt(app, AWAY, email="nobody@school.example")) == REFUSED
    assert refusal(await attempt(app, HOME, email=f"x{sam.email}")) == REFUSED


@pytest.mark.usefixtures("sam")
async def test_a_new_network_waits_a_minute_at_most(app: Litestar, held_clock: HeldClock) -> None:
    await spend_the_account(app)
    for number in range(10):
        held_clock.advance(seconds=60)
        assert refusal(await attempt(app, f"203.0.114.{number}")) == REFUSED
    refused = await attempt(app, AWAY, PASSWORD)
    assert (refusal(refused), refused.headers["retry-after"]) == (DELAYED, "60")
    held_clock.advance(seconds=60)
    assert (await attempt(app, AWAY, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("sam")
async def test_a_network_is_familiar_for_thirty_days(app: Litestar, held_clock: HeldClock) -> None:
    assert (await attempt(app, HOME, PASSWORD)).status_code == 200
    held_clock.advance(days=30, seconds=-1)
    await spend_the_account(app)
    assert (await attempt(app, HOME)).status_code == 401
    held_clock.advance(seconds=1)
    await spend_the_account_more(app)
    assert refusal(await attempt(app, HOME)) == DELAYED


async def spend_the_account_more(app: Litestar) -> None:
    assert refusal(await attempt(app, "203.0.115.1")) == REFUSED


@pytest.mark.usefixtures("database")
async def test_one_guesser_locks_out_no_school_behind_one_address(app: Litestar, accounts: Accounts) -> None:
    people = [await a_person(accounts, name) for name in ("Sam", "Stella", "Ivy")]
    for _ in range(20):
        # Past its own end, it no longer counts for the others.
        await attempt(app, HOME, email=people[0].email)
    for person in people[1:]:
        assert (await attempt(app, HOME, PASSWORD, person.email)).status_code == 200


@pytest.mark.usefixtures("database", "held_clock")
async def test_who_guesses_at_a_whole_school_holds_up_only_new_faces(app: Litestar, accounts: Accounts) -> None:
    stella, ivy = await a_person(accounts, "Stella"), await a_person(accounts, "Ivy")
    assert (await attempt(app, HOME, PASSWORD, stella.email)).status_code == 200
    await spend_the_network(app, HOME)
    assert (await attempt(app, HOME, PASSWORD, stella.email)).status_code == 200
    assert refusal(await attempt(app, HOME, PASSWORD, ivy.email)) == DELAYED
    assert (await attempt(app, AWAY, PASSWORD, ivy.email)).status_code == 200


@pytest.mark.usefixtures("database", "held_clock")
async def test_an_own_account_does_not_wash_a_guesser_clean(app: Litestar, accounts: Accounts) -> None:
    mallory = await a_person(accounts, "Mallory")
    for number in range(NETWORK.free // 4):
        await fail(app, AWAY, 4, email=f"guess-{number}@school.example")
        if number < 20:
            assert (await attempt(app, AWAY, PASSWORD, mallory.email)).status_code == 200
    assert refusal(await attempt(app, AWAY, email="one-more@school.example")) == DELAYED


@pytest.mark.usefixtures("database", "held_clock")
async def test_nor_do_right_passwords_at_the_same_moment(app: Litestar, accounts: Accounts) -> None:
    mallory = await a_person(accounts, "Mallory")
    for number in range(NETWORK.free // 4):
        await fail(app, AWAY, 4, email=f"guess-{number}@school.example")
        if number % 8 == 0:
            right = await asyncio.gather(*(attempt(app, AWAY, PASSWORD, mallory.email) for _ in range(PAIR.free)))
            assert [one.status_code for one in right] == [200] * PAIR.free
    assert refusal(await attempt(app, AWAY, email="one-more@school.example")) == DELAYED


async def test_addresses_of_one_ipv6_network_are_one(app: Litestar, sam: User) -> None:
    for number in range(PAIR.free):
        assert refusal(await attempt(app, f"2001:db8:0:1::{number}", email=sam.email)) == REFUSED
    assert refusal(await attempt(app, "2001:db8:0:1:ffff::1")) == DELAYED
    assert refusal(await attempt(app, "2001:db8:0:2::1")) == REFUSED


@pytest.fixture
async def without_redis(mongodb_url: str, app: Litestar) -> AsyncGenerator[Litestar]:
    _ = app
    alone = create_app(settings_for(mongodb_url, "redis://127.0.0.1:1/0", LMS_REDIS_PREFIX=f"test-{uuid4().hex}"))
    yield alone
    alone.state.accounts.passwords.close()


@pytest.mark.usefixtures("sam", "held_clock")
async def test_it_holds_whether_redis_is_there_or_not(app: Litestar, without_redis: Litestar) -> None:
    await fail(without_redis, AWAY, 3)
    await fail(app, AWAY, 2)
    assert refusal(await attempt(without_redis, AWAY)) == DELAYED
    assert refusal(await attempt(app, AWAY)) == DELAYED


@pytest.mark.usefixtures("held_clock")
async def test_a_lockout_is_written_down_once_where_it_begins(app: Litestar, sam: User) -> None:
    for email, target in ((sam.email, str(sam.id)), ("nobody@school.example", None)):
        await Event.delete_all()
        with capture_logs() as lines:
            for _ in range(PAIR.free + 3):
                await attempt(app, AWAY, email=email)
        (event,) = await Event.find({"kind": "audit"}).to_list()
        told = (event.data["act"], event.data["target_id"], event.data["facts"])
        assert told == (Act.LOCKED_OUT, target, {"counter": "account_and_network", "failures": 5})
        assert event.data["sealed"] == {}
        named = [line["event"] for line in lines]
        assert named == ["password_refused"] * 5 + ["locked_out"] + ["sign_in_delayed"] * 3
        assert {line.get("user_id") for line in lines[:6]} == {target}
        assert all("@" not in str(line) and AWAY not in str(line) for line in lines)


async def test_nothing_that_is_stored_names_anybody(app: Litestar, sam: User) -> None:
    await fail(app, AWAY, 2)
    rows = str(await SignInFailures.find_all().to_list())
    assert sam.email not in rows
    assert AWAY not in rows


async def test_a_stolen_access_token_guesses_no_faster_than_at_the_door(
    app: Litestar, accounts: Accounts, sam: User, held_clock: HeldClock
) -> None:
    header = {"Authorization": f"Bearer {await token_for(accounts, sam)}"}
    changes = {
        "/auth/change-password": {"current_password": WRONG, "new_password": "a fresh new start"},
        "/auth/change-email": {"current_password": WRONG, "new_email": "mallory@evil.example"},
    }
    async with door(app, AWAY) as client:
        for path in [*changes, *changes, "/auth/change-email"]:
            refused = await client.post(path, json=changes[path], headers=header)
            assert refusal(refused) == (403, "wrong_password")
        for path, body in changes.items():
            delayed = await client.post(path, json=body | {"current_password": PASSWORD}, headers=header)
            assert (refusal(delayed), delayed.headers["retry-after"]) == (DELAYED, "1")
    assert refusal(await attempt(app, AWAY)) == DELAYED
    held_clock.advance(seconds=1)
    assert (await attempt(app, AWAY, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("held_clock")
async def test_a_reset_by_mail_lets_its_owner_in_at_once(
    app: Litestar, client: httpx.AsyncClient, sam: User, settings: Settings
) -> None:
    await spend_the_account(app)
    await fail_whatever(app, HOME)
    await client.post("/auth/forgot-password", json={"email": sam.email})
    token = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    async with door(app, HOME) as home:
        body = {"token": token, "password": "a fresh new start"}
        assert (await home.post("/auth/reset-password", json=body)).status_code == 200
    assert (await attempt(app, HOME, "a fresh new start")).status_code == 200
    # Somewhere new as well: what strangers tried before is over.
    assert (await attempt(app, AWAY, "a fresh new start")).status_code == 200


async def fail_whatever(app: Litestar, address: str) -> None:
    for _ in range(PAIR.free):
        await attempt(app, address)
