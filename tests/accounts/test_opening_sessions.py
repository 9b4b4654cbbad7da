"""How many sessions of one person stand, and what a sign-in meets that happens meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import MOST_SESSIONS, TRIMMED_EVERY, change_role, set_active
from lms.accounts.rules import BadCredentials
from lms.accounts.service import Accounts
from lms.clock import utc_now
from lms.outbox.documents import Event
from tests.accounts.people import a_person, me, refresh, refusal, sign_in
from tests.conftest import HeldClock
from tests.second_factor.factors import acts

Database = AsyncDatabase[dict[str, Any]]
MOST = MOST_SESSIONS + TRIMMED_EVERY


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


async def put_sessions(person: User, count: int, *, ended: bool = False) -> None:
    """Older than whatever is opened after."""
    now = utc_now()
    rows = [
        SignIn(
            user_id=person.id,
            nonce="nonce",
            rotated_at=now,
            created_at=now - timedelta(seconds=number + 1),
            expires_at=now + timedelta(days=1),
            ended_at=now if ended else None,
        )
        for number in range(count)
    ]
    await SignIn.insert_many(rows)


async def test_the_oldest_sessions_end_where_there_are_too_many(
    client: httpx.AsyncClient, accounts: Accounts, person: User, held_clock: HeldClock, database: Database
) -> None:
    stella = await sign_in(client, await a_person(accounts, "Stella"))
    first = await sign_in(client, person)
    assert await me(client, first) == 200
    held_clock.advance(minutes=10)
    await put_sessions(person, 120)
    await put_sessions(person, 130, ended=True)
    await database["users"].update_one({"_id": person.id}, {"$set": {"sessions_made": TRIMMED_EVERY - 2}})
    second = await sign_in(client, person)
    assert await SignIn.find({"user_id": person.id, "ended_at": None}).count() == 122
    assert await me(client, first) == 200
    held_clock.advance(seconds=1)
    await Event.find_all().delete()
    last = await sign_in(client, person)
    assert await SignIn.find({"user_id": person.id, "ended_at": None}).count() == MOST_SESSIONS
    assert await SignIn.find({"user_id": person.id, "ended_at": {"$ne": None}}).count() == MOST_SESSIONS
    assert [await me(client, one) for one in (first, second, last, stella)] == [401, 200, 200, 200]
    assert refusal((await refresh(client, first.refresh_token)).response) == (401, "refresh_refused")
    assert [one["facts"] for one in await acts("session.ended")] == [{"over_limit": 23}]


async def test_sign_ins_at_once_do_not_get_around_it(accounts: Accounts, person: User) -> None:
    await put_sessions(person, MOST_SESSIONS - 5)
    for _ in range(TRIMMED_EVERY // 10):
        await asyncio.gather(*(accounts.open_session(person, ["pwd"]) for _ in range(10)))
        assert await SignIn.find({"user_id": person.id, "ended_at": None}).count() <= MOST
    assert await SignIn.find({"user_id": person.id, "ended_at": None}).count() == MOST_SESSIONS
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.sessions_made == TRIMMED_EVERY


@pytest.mark.parametrize("what", ["kept out", "kept out and back", "role", "password", "erased"])
async def test_a_sign_in_that_began_before_a_change_opens_nothing(accounts: Accounts, person: User, what: str) -> None:
    if what.startswith("kept out"):
        await set_active(person.id, active=False)
    if what == "kept out and back":
        await set_active(person.id, active=True)
    elif what == "role":
        await change_role(person.id, Role.INSTRUCTOR)
    elif what == "password":
        await User.get_pymongo_collection().update_one({"_id": person.id}, {"$inc": {"password_rev": 1}})
    elif what == "erased":
        await person.delete()
    with pytest.raises(BadCredentials):
        await accounts.open_session(person, ["pwd"])
    assert await SignIn.count() == 0


async def test_whoever_was_stored_before_passwords_were_counted_signs_in(
    client: httpx.AsyncClient, person: User, database: Database
) -> None:
    uncounted = {"password_rev": "", "sessions_made": ""}
    await database["users"].update_one({"_id": person.id}, {"$unset": uncounted})
    assert await me(client, await sign_in(client, person)) == 200


async def test_a_sign_in_that_meets_a_deactivation_does_not_come_back_with_the_account(
    accounts: Accounts, person: User
) -> None:
    opened = [accounts.open_session(person, ["pwd"]) for _ in range(5)]
    answers = await asyncio.gather(*opened, set_active(person.id, active=False), return_exceptions=True)
    assert {type(one) for one in answers if isinstance(one, BaseException)} <= {BadCredentials}
    assert await SignIn.find({"ended_at": None}).count() == 0
