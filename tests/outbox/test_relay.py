import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs
from taskiq.exceptions import SendTaskError

from lms.database import bind
from lms.outbox import relay as relay_module
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.outbox.relay import Relay
from tests.conftest import HeldClock
from tests.outbox.build import Calls, a_job, emitted, row_of, without_mongodb

Database = AsyncDatabase[dict[str, Any]]


class Queue:
    """Where relays send to; `refuses` is what it raises until that is None."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.refuses: Exception | None = None
        self.asked = asyncio.Event()

    async def send(self, name: str, event_id: str) -> None:
        self.asked.set()
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((name, event_id))


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue()


@pytest.fixture
def relay(context: JobContext, queue: Queue) -> Relay:
    return Relay(context, queue.send)


@asynccontextmanager
async def running(relay: Relay) -> AsyncGenerator[None]:
    task = asyncio.create_task(relay.run())
    try:
        yield
        assert not task.done(), "the relay has ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


async def test_an_event_is_sent_once_while_its_lease_holds_and_again_after(
    relay: Relay, queue: Queue, held_clock: HeldClock, context: JobContext
) -> None:
    event = await emitted("one")
    once = [("one", str(event.id))]
    assert await relay.pass_on() == 1
    assert queue.sent == once
    assert await relay.pass_on() == 0
    row = await row_of(event)
    assert row is not None
    assert row["due"] == held_clock.now + timedelta(seconds=2 * context.settings.job_timeout_seconds)
    held_clock.advance(seconds=2 * context.settings.job_timeout_seconds - 0.001)
    assert await relay.pass_on() == 0
    held_clock.advance(seconds=0.001)
    assert await relay.pass_on() == 1
    assert queue.sent == once * 2


async def test_waiting_in_a_long_queue_is_no_attempt(relay: Relay, held_clock: HeldClock, context: JobContext) -> None:
    event = await emitted("one")
    for _ in range(20):
        assert await relay.pass_on() == 1
        held_clock.now += context.lease
    row = await row_of(event)
    assert row is not None
    assert row["attempts"] == 0


async def test_every_job_that_is_left_is_sent(relay: Relay, queue: Queue) -> None:
    event = await emitted("one", "other", "third")
    await event.finish("other")
    await relay.pass_on()
    assert queue.sent == [("one", str(event.id)), ("third", str(event.id))]


async def test_what_is_due_later_or_has_failed_is_not_sent(
    database: Database, relay: Relay, queue: Queue, held_clock: HeldClock
) -> None:
    later, failed = await emitted("one"), await emitted("one")
    await database["outbox"].update_one({"_id": later.id}, {"$set": {"due": held_clock.now + timedelta(seconds=1)}})
    await database["outbox"].update_one({"_id": failed.id}, {"$set": {"due": None, "failed_at": held_clock.now}})
    assert await relay.pass_on() == 0
    held_clock.advance(seconds=1)
    assert await relay.pass_on() == 1
    assert queue.sent == [("one", str(later.id))]


async def test_the_longest_due_goes_first(relay: Relay, queue: Queue, held_clock: HeldClock) -> None:
    events = []
    for _ in range(3):
        events.append(await emitted("one"))
        held_clock.advance(seconds=1)
    await relay.pass_on()
    assert queue.sent == [("one", str(event.id)) for event in events]


async def test_several_relays_at_once_never_pass_one_event_twice_within_a_lease(
    queue: Queue, context: JobContext
) -> None:
    relays = [Relay(context, queue.send) for _ in range(4)]
    # Each has its connection by now, so that none is late.
    await asyncio.gather(*(relay.pass_on() for relay in relays))
    events = [await emitted("one") for _ in range(60)]
    found = await asyncio.gather(*(relay.pass_on() for relay in relays))
    assert sum(found) > len(events), "the relays did not meet, so this proves nothing"
    assert sorted(queue.sent) == sorted(("one", str(event.id)) for event in events)


async def test_what_the_queue_does_not_take_is_due_as_before(relay: Relay, queue: Queue, held_clock: HeldClock) -> None:
    event = await emitted("one")
    held_clock.advance(seconds=5)
    before = await row_of(event)
    queue.refuses = SendTaskError()
    with pytest.raises(SendTaskError):
        await relay.pass_on()
    assert await row_of(event) == before
    queue.refuses = None
    assert await relay.pass_on() == 1
    assert queue.sent == [("one", str(event.id))]


async def test_a_queue_that_hangs_is_given_up(context: JobContext, database: Database) -> None:
    async def hang(name: str, event_id: str) -> None:
        await asyncio.Event().wait()

    event = await emitted("one")
    before = await row_of(event)
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await Relay(context, hang).pass_on()
    assert await row_of(event) == before


async def test_a_job_that_began_although_sending_failed_keeps_its_own_due_time(
    context: JobContext, database: Database, held_clock: HeldClock
) -> None:
    async def send(name: str, event_id: str) -> None:
        held_clock.advance(seconds=1)
        assert await run_job(name, event.id, context) is Outcome.FAILED
        raise SendTaskError

    with a_job("test_fails", Calls(ValueError("no"))):
        event = await emitted("test_fails")
        await database["outbox"].update_one({"_id": event.id}, {"$set": {"attempts": 7}})
        with pytest.raises(SendTaskError):
            await Relay(context, send).pass_on()
    row = await row_of(event)
    assert row is not None
    assert (row["due"], row["failed_at"]) == (None, held_clock.now)


async def test_a_full_batch_is_followed_by_the_next_without_a_pause(
    relay: Relay, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "BATCH", 5)
    monkeypatch.setattr(relay_module, "IDLE_SECONDS", 3600.0)
    for _ in range(12):
        await emitted("one")
    async with running(relay):
        await until(lambda: len(queue.sent) == 12)


async def test_new_events_are_found_without_being_told(relay: Relay, queue: Queue) -> None:
    async with running(relay):
        for count in (1, 2):
            await emitted("one")
            await until(lambda count=count: len(queue.sent) == count, seconds=3)


async def test_while_redis_is_away_the_outbox_waits_and_then_goes_on(relay: Relay, queue: Queue) -> None:
    queue.refuses = SendTaskError()
    event = await emitted("one")
    with capture_logs() as logs:
        async with running(relay):
            await until(lambda: relay.away == "redis")
            queue.asked.clear()
            await asyncio.wait_for(queue.asked.wait(), 10)
            queue.refuses = None
            await until(lambda: relay.away is None)
    assert queue.sent == [("one", str(event.id))]
    told = [(line["event"], line.get("part")) for line in logs if line["event"].startswith("outbox")]
    assert told == [("outbox_waits", "redis"), ("outbox_goes_on", None)]


async def test_while_mongodb_is_away_the_relay_waits_and_then_goes_on(
    relay: Relay, queue: Queue, database: Database
) -> None:
    await emitted("one")
    async with without_mongodb(database), running(relay):
        await until(lambda: relay.away == "mongodb")
        await bind(database)
        await until(lambda: len(queue.sent) == 1)
        await until(lambda: relay.away is None)


async def test_a_relay_that_is_stopped_gives_back_what_it_did_not_send(
    queue: Queue, context: JobContext, held_clock: HeldClock
) -> None:
    events = [await emitted("one") for _ in range(5)]
    sending = asyncio.Event()

    async def send(name: str, event_id: str) -> None:
        if len(queue.sent) == 2:
            sending.set()
            await asyncio.Event().wait()
        await queue.send(name, event_id)

    work = asyncio.create_task(Relay(context, send).pass_on())
    await sending.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    sent = list(queue.sent)
    await Relay(context, queue.send).pass_on()
    assert sorted(queue.sent) == sorted(("one", str(event.id)) for event in events)
    assert len(sent) == 2
