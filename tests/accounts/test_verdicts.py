import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms import auth
from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import change_role, set_active
from lms.auth import REMEMBERED, Recent, SessionVerdicts
from lms.clock import utc_now
from lms.tokens import Claims
from tests.commands import Commands


class Hands:
    """A monotonic clock that a test moves."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


async def session_of(user: User, **fields: Any) -> Claims:
    """The claims of a token of a new sign-in."""
    now = utc_now()
    values: dict[str, Any] = {"rotated_at": now, "expires_at": now + timedelta(days=1)} | fields
    stored = await SignIn(user_id=user.id, nonce="nonce", **values).insert()
    return Claims(user.id, stored.id, user.role, user.auth_epoch, int(now.timestamp()) + 900)


async def end_behind_their_backs(claims: Claims) -> None:
    """As another process does."""
    ended = {"$set": {"ended_at": utc_now()}}
    await SignIn.get_pymongo_collection().update_one({"_id": claims.session_id}, ended)


async def test_a_session_stands_at_its_users_epoch(sam: User) -> None:
    claims = await session_of(sam)
    assert await SessionVerdicts().epoch(claims) == 0
    await change_role(sam.id, Role.INSTRUCTOR)
    await change_role(sam.id, Role.ADMIN)
    changed = await session_of(sam)
    assert await SessionVerdicts().epoch(changed) == 2


async def test_who_is_out_has_no_epoch(sam: User, stella: User) -> None:
    unknown = Claims(sam.id, uuid4(), "student", 0, 0)
    expired = await session_of(sam, expires_at=utc_now())
    ended = await session_of(sam, ended_at=utc_now())
    hers = Claims(sam.id, (await session_of(stella)).session_id, "student", 0, 0)
    nobody = Claims(uuid4(), (await session_of(sam)).session_id, "student", 0, 0)
    closed = await session_of(stella)
    await set_active(stella.id, active=False)
    for claims in (unknown, expired, ended, hers, nobody, closed):
        assert await SessionVerdicts().epoch(claims) is None


async def test_a_verdict_is_reused_for_half_a_second(
    sam: User, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    monkeypatch.setattr(auth, "time", hands)
    process, claims = SessionVerdicts(), await session_of(sam)
    assert await process.epoch(claims) == 0
    await end_behind_their_backs(claims)
    commands.seen.clear()
    hands.now += 0.499
    assert await process.epoch(claims) == 0
    assert commands.names == []
    hands.now += 0.001
    assert await process.epoch(claims) is None
    assert commands.names == ["find", "find"]


async def test_the_age_of_a_verdict_counts_from_the_question_and_not_from_the_answer(
    sam: User, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    process, claims = SessionVerdicts(), await session_of(sam)
    monkeypatch.setattr(auth, "time", hands)
    # Each look at the clock takes 0.2 s: the database is asked at 0.2, which lasts until 0.7.
    hands.step = 0.2
    assert await process.epoch(claims) == 0
    hands.step = 0.0
    commands.seen.clear()
    hands.now = 1000.699
    assert await process.epoch(claims) == 0
    assert commands.names == []
    hands.now = 1000.701
    assert await process.epoch(claims) == 0
    assert commands.names == ["find", "find"]


async def test_a_refusal_is_reused_for_half_a_second_too(
    sam: User, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    monkeypatch.setattr(auth, "time", hands)
    process, claims = SessionVerdicts(), await session_of(sam, ended_at=utc_now())
    assert await process.epoch(claims) is None
    commands.seen.clear()
    assert await process.epoch(claims) is None
    assert commands.names == []
    hands.now += 0.5
    assert await process.epoch(claims) is None
    assert commands.names == ["find", "find"]


async def test_a_token_of_a_later_epoch_counts_at_once(sam: User) -> None:
    process, claims = SessionVerdicts(), await session_of(sam)
    assert await process.epoch(claims) == 0
    await change_role(sam.id, Role.INSTRUCTOR)
    newer = Claims(sam.id, claims.session_id, "instructor", 1, claims.expires_at)
    assert await process.epoch(newer) == 1
    assert await process.epoch(claims) == 1


async def test_what_is_forgotten_is_out_at_once(sam: User) -> None:
    one, other, claims = SessionVerdicts(), SessionVerdicts(), await session_of(sam)
    kept = await session_of(sam)
    for known in (claims, kept):
        assert await one.epoch(known) == 0
    await end_behind_their_backs(claims)
    one.forget(claims.session_id, uuid4())
    assert await one.epoch(claims) is None
    assert await other.epoch(claims) is None
    assert await one.epoch(kept) == 0


async def test_whoever_asks_at_the_same_time_is_told_by_the_same_two_commands(
    sam: User, stella: User, commands: Commands
) -> None:
    process = SessionVerdicts()
    known = [await session_of(sam) for _ in range(20)] + [await session_of(stella) for _ in range(20)]
    ended = await session_of(sam, ended_at=utc_now())
    # Sam's token with Stella's session: each of both stands, and together they do not.
    mixed = Claims(sam.id, known[-1].session_id, "student", 0, 0)
    await process.epoch(known[0])
    commands.seen.clear()
    asked = [*known[1:-1], ended, mixed]
    told = await asyncio.gather(*(process.epoch(claims) for claims in asked))
    assert told == [0] * 38 + [None, None]
    assert commands.names == ["find", "find"]


def test_what_is_remembered_is_bounded(database: AsyncDatabase[dict[str, Any]]) -> None:
    recent = Recent()
    for number in range(REMEMBERED + 1):
        recent[number] = True
    assert len(recent) == REMEMBERED
    assert (0 in recent, 1 in recent, REMEMBERED in recent) == (False, True, True)
