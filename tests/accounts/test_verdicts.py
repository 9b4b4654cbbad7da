import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from lms import auth, redis_client
from lms.accounts.documents import Role, SignIn, User
from lms.accounts.service import change_role, set_active
from lms.auth import REMEMBERED, Recent, SessionVerdicts
from lms.clock import utc_now
from lms.redis_client import Accelerator, RedisUnavailable
from lms.tokens import Claims
from tests.commands import Commands

WITHOUT = ["", "redis://127.0.0.1:1/0"]

Processes = Callable[[], SessionVerdicts]


class Hands:
    """A monotonic clock that a test moves."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
async def processes(redis_url: str, prefix: str) -> AsyncGenerator[Processes]:
    """Each call is one more process that shares the Redis of the others."""
    opened: list[Accelerator] = []

    def start() -> SessionVerdicts:
        opened.append(Accelerator(redis_url, prefix))
        return SessionVerdicts(opened[-1])

    yield start
    for accelerator in opened:
        await accelerator.close()


@pytest.fixture
async def redis(redis_url: str, prefix: str) -> AsyncGenerator[Redis]:
    accelerator = Accelerator(redis_url, prefix)
    assert accelerator.redis is not None
    yield accelerator.redis
    await accelerator.close()


async def session_of(user: User, **fields: Any) -> Claims:
    """The claims of a token of a new sign-in."""
    now = utc_now()
    values: dict[str, Any] = {"rotated_at": now, "expires_at": now + timedelta(days=1)} | fields
    stored = await SignIn(user_id=user.id, nonce="nonce", **values).insert()
    return Claims(user.id, stored.id, user.role, user.auth_epoch, int(now.timestamp()) + 900)


async def end_behind_their_backs(claims: Claims) -> None:
    """As a process does whose word reaches nobody, Redis neither."""
    ended = {"$set": {"ended_at": utc_now()}}
    await SignIn.get_pymongo_collection().update_one({"_id": claims.session_id}, ended)


async def test_a_session_stands_at_its_users_epoch(processes: Processes, sam: User) -> None:
    claims = await session_of(sam)
    assert await processes().epoch(claims) == 0
    await change_role(sam.id, Role.INSTRUCTOR)
    await change_role(sam.id, Role.ADMIN)
    changed = await session_of(sam)
    assert await processes().epoch(changed) == 2


async def test_who_is_out_has_no_epoch(processes: Processes, sam: User, stella: User) -> None:
    unknown = Claims(sam.id, uuid4(), "student", 0, 0)
    expired = await session_of(sam, expires_at=utc_now())
    ended = await session_of(sam, ended_at=utc_now())
    hers = Claims(sam.id, (await session_of(stella)).session_id, "student", 0, 0)
    nobody = Claims(uuid4(), (await session_of(sam)).session_id, "student", 0, 0)
    closed = await session_of(stella)
    await set_active(stella.id, active=False)
    for claims in (unknown, expired, ended, hers, nobody, closed):
        assert await processes().epoch(claims) is None


async def test_a_verdict_is_reused_for_half_a_second(
    processes: Processes, sam: User, commands: Commands, monkeypatch: pytest.MonkeyPatch, redis: Redis, prefix: str
) -> None:
    hands = Hands()
    monkeypatch.setattr(auth, "time", hands)
    process, claims = processes(), await session_of(sam)
    assert await process.epoch(claims) == 0
    await end_behind_their_backs(claims)
    await redis.delete(f"{prefix}:session:{claims.session_id}")
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
    process, claims = SessionVerdicts(Accelerator("")), await session_of(sam)
    monkeypatch.setattr(auth, "time", hands)
    # Each look at the clock takes 0.2 s: the database is asked at 0.4, which lasts until 0.9.
    hands.step = 0.2
    assert await process.epoch(claims) == 0
    hands.step = 0.0
    commands.seen.clear()
    hands.now = 1000.899
    assert await process.epoch(claims) == 0
    assert commands.names == []
    hands.now = 1000.901
    assert await process.epoch(claims) == 0
    assert commands.names == ["find", "find"]


async def test_a_refusal_is_reused_for_half_a_second_too(
    processes: Processes, sam: User, commands: Commands, monkeypatch: pytest.MonkeyPatch, redis: Redis, prefix: str
) -> None:
    hands = Hands()
    monkeypatch.setattr(auth, "time", hands)
    process, claims = processes(), await session_of(sam, ended_at=utc_now())
    assert await process.epoch(claims) is None
    commands.seen.clear()
    assert await process.epoch(claims) is None
    assert commands.names == []
    assert await redis.keys(f"{prefix}:*") == []
    hands.now += 0.5
    assert await process.epoch(claims) is None
    assert commands.names == ["find", "find"]


async def test_redis_passes_a_verdict_on_for_at_most_400_milliseconds(
    processes: Processes, sam: User, commands: Commands, redis: Redis, prefix: str
) -> None:
    claims = await session_of(sam)
    await processes().epoch(claims)
    key = f"{prefix}:session:{claims.session_id}"
    assert await redis.get(key) == b"0"
    assert 0 < await redis.pttl(key) <= 400
    commands.seen.clear()
    assert await processes().epoch(claims) == 0
    assert commands.names == []


async def test_what_is_shared_already_does_not_live_longer(
    processes: Processes, sam: User, redis: Redis, prefix: str
) -> None:
    claims = await session_of(sam)
    key = f"{prefix}:session:{claims.session_id}"
    await redis.set(key, 0, px=200)
    await change_role(sam.id, Role.INSTRUCTOR)
    newer = Claims(sam.id, claims.session_id, "instructor", 1, 0)
    assert await processes().epoch(newer) == 1
    assert await redis.get(key) in {b"0", None}
    assert await redis.pttl(key) <= 200


class FarFromMongoDB(SessionVerdicts):
    async def _stored(self, claims: Claims) -> int | None:
        answer = await super()._stored(claims)
        await asyncio.sleep(0.45)
        return answer


async def test_what_is_old_when_it_arrives_is_not_passed_on(
    redis_url: str, prefix: str, sam: User, redis: Redis
) -> None:
    """However late Redis carries the command out: its end was fixed before the database was asked."""
    accelerator = Accelerator(redis_url, prefix)
    assert await FarFromMongoDB(accelerator).epoch(await session_of(sam)) == 0
    assert await redis.keys(f"{prefix}:*") == []
    await accelerator.close()


async def test_a_token_of_a_later_epoch_counts_at_once(processes: Processes, sam: User) -> None:
    process, claims = processes(), await session_of(sam)
    assert await process.epoch(claims) == 0
    await change_role(sam.id, Role.INSTRUCTOR)
    newer = Claims(sam.id, claims.session_id, "instructor", 1, claims.expires_at)
    assert await process.epoch(newer) == 1
    assert await process.epoch(claims) == 1


async def test_what_is_forgotten_is_out_at_once(processes: Processes, sam: User) -> None:
    one, other, claims = processes(), processes(), await session_of(sam)
    kept = await session_of(sam)
    for known in (claims, kept):
        assert await one.epoch(known) == 0
    await end_behind_their_backs(claims)
    await one.forget(claims.session_id, uuid4())
    assert await one.epoch(claims) is None
    assert await other.epoch(claims) is None
    assert await one.epoch(kept) == 0


async def test_no_chain_of_processes_keeps_a_verdict_for_longer_than_is_promised(
    processes: Processes, sam: User
) -> None:
    first, claims = processes(), await session_of(sam)
    assert await first.epoch(claims) == 0
    started = time.monotonic()
    await end_behind_their_backs(claims)
    last_yes = started
    # A new process every 20 ms takes over what Redis has, as late as it can, and all are asked until the time is up.
    chain = [first]
    while time.monotonic() - started < 1.1:
        chain.append(processes())
        asked = time.monotonic()
        if 0 in await asyncio.gather(*(process.epoch(claims) for process in chain)):
            last_yes = asked
        await asyncio.sleep(0.02)
    assert 0 < last_yes - started <= 0.5 + 0.4
    assert [await process.epoch(claims) for process in chain] == [None] * len(chain)


@pytest.mark.parametrize("url", WITHOUT)
async def test_without_redis_the_database_tells(url: str, sam: User, commands: Commands) -> None:
    accelerator = Accelerator(url)
    process, claims = SessionVerdicts(accelerator), await session_of(sam)
    commands.seen.clear()
    assert await process.epoch(claims) == 0
    assert await process.epoch(claims) == 0
    assert commands.names == ["find", "find"]
    await end_behind_their_backs(claims)
    await process.forget(claims.session_id)
    assert await process.epoch(claims) is None
    await accelerator.close()


class SilentServer:
    """It takes connections and never says a word."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[asyncio.StreamWriter] = []

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)


@pytest.fixture
async def silent_server() -> AsyncGenerator[SilentServer]:
    silent = SilentServer()
    server = await asyncio.start_server(silent.take, "127.0.0.1", 0)
    silent.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    yield silent
    server.close()
    for writer in silent.connections:
        writer.close()
        await writer.wait_closed()


async def test_a_redis_that_says_nothing_costs_a_quarter_of_a_second_and_then_nothing(
    sam: User, silent_server: SilentServer
) -> None:
    accelerator = Accelerator(silent_server.url)
    process, first, second = SessionVerdicts(accelerator), await session_of(sam), await session_of(sam)
    started = time.monotonic()
    assert await process.epoch(first) == 0
    assert 0.2 < time.monotonic() - started < 1.0
    assert accelerator.resting
    tries = len(silent_server.connections)
    assert await process.epoch(second) == 0
    assert len(silent_server.connections) == tries == 1
    await accelerator.close()


async def test_after_a_second_of_rest_redis_is_asked_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hands, asked = Hands(), 0
    monkeypatch.setattr(redis_client, "time", SimpleNamespace(monotonic=hands.monotonic))
    accelerator = Accelerator(redis_url)

    async def fail(_: Redis) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionResetError("gone")

    for wait, expected in ((0.0, 1), (0.999, 1), (0.001, 2)):
        hands.now += wait
        with pytest.raises(RedisUnavailable):
            await accelerator.call(fail)
        assert asked == expected
    hands.now += 1
    assert await accelerator.call(lambda redis: redis.ping())
    await accelerator.close()


async def test_no_redis_is_always_at_rest() -> None:
    accelerator = Accelerator("", "school")
    assert accelerator.resting
    assert accelerator.key("session", 7) == "school:session:7"
    with pytest.raises(RedisUnavailable):
        await accelerator.call(lambda redis: redis.ping())
    await accelerator.close()


def test_what_is_remembered_is_bounded(database: AsyncDatabase[dict[str, Any]]) -> None:
    recent = Recent()
    for number in range(REMEMBERED + 1):
        recent[number] = True
    assert len(recent) == REMEMBERED
    assert (0 in recent, 1 in recent, REMEMBERED in recent) == (False, True, True)
