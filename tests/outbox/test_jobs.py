import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from lms.mail import MailRefused
from lms.metrics import render
from lms.outbox.documents import AlreadyDone, Event
from lms.outbox.jobs import MAX_ERROR_LENGTH, JobContext, Outcome, PermanentFailure, Retry, failed, job, retry_failed
from lms.outbox.jobs import run_job as run
from lms.outbox.relay import Relay
from lms.transactions import Session, in_transaction
from tests.conftest import HeldClock
from tests.outbox.build import Calls, a_job, emitted, row_of

Database = AsyncDatabase[dict[str, Any]]


def counted(name: str) -> dict[str, float]:
    """How often the job ended in each outcome, by the metrics."""
    families = text_string_to_metric_families(render(None).decode())
    samples = [sample for family in families for sample in family.samples if sample.labels.get("job") == name]
    outcomes = {one.labels["outcome"]: one.value for one in samples if one.name == "lms_jobs_total"}
    return outcomes | {"timed": sum(one.value for one in samples if one.name == "lms_job_seconds_count")}


async def changed(event: Event) -> dict[str, Any]:
    row = await row_of(event)
    assert row is not None
    return {name: row[name] for name in ("attempts", "due", "failed_at", "last_error")}


async def test_a_done_job_gets_its_event_and_leaves_no_row(database: Database, context: JobContext) -> None:
    work = Calls()
    with a_job("test_work", work), capture_logs() as logs:
        event = await emitted("test_work", user_id=str(uuid4()))
        assert await run("test_work", event.id, context) is Outcome.DONE
    assert [(one.id, one.data, one.attempts) for one in work.events] == [(event.id, event.data, 1)]
    assert await row_of(event) is None
    line = next(line for line in logs if line["event"] == "job")
    assert (line["job"], line["outcome"], line["attempt"], line["log_level"]) == ("test_work", "done", 1, "info")
    assert line["event_id"] == str(event.id)
    assert line["milliseconds"] >= 0


async def test_a_second_delivery_finds_nothing_left(database: Database, context: JobContext) -> None:
    work = Calls()
    with a_job("test_work", work):
        event = await emitted("test_work")
        await run("test_work", event.id, context)
        assert await run("test_work", event.id, context) is Outcome.NOTHING_LEFT
        assert await run("test_work", uuid4(), context) is Outcome.NOTHING_LEFT
    assert len(work.events) == 1


async def test_one_done_job_leaves_the_others(database: Database, context: JobContext) -> None:
    with a_job("test_work", Calls()):
        event = await emitted("test_work", "test_other")
        assert await run("test_work", event.id, context) is Outcome.DONE
        row = await row_of(event)
        assert row is not None
        assert row["todo"] == ["test_other"]
        assert await run("test_work", event.id, context) is Outcome.NOTHING_LEFT


async def test_a_job_at_work_holds_the_lease(database: Database, context: JobContext, held_clock: HeldClock) -> None:
    seen: list[dict[str, Any]] = []

    async def work(event: Event, context: JobContext) -> None:
        seen.append(await changed(event))

    with a_job("test_work", work):
        event = await emitted("test_work")
        held_clock.advance(seconds=100)
        await run("test_work", event.id, context)
    assert seen == [{"attempts": 1, "due": held_clock.now + context.lease, "failed_at": None, "last_error": None}]


async def test_a_failing_job_is_tried_again_later_and_later_and_then_given_up(
    database: Database, context: JobContext, held_clock: HeldClock
) -> None:
    delays: list[float] = []
    with a_job("test_fails", Calls(ValueError("no")), Retry(attempts=4, first=10, factor=3, longest=60)):
        event = await emitted("test_fails")
        for attempt in (1, 2, 3):
            assert await run("test_fails", event.id, context) is Outcome.RETRY
            found = await changed(event)
            assert (found["attempts"], found["failed_at"], found["last_error"]) == (attempt, None, "ValueError: no")
            delays.append((found["due"] - held_clock.now).total_seconds())
            held_clock.now = found["due"]
        with capture_logs() as logs:
            assert await run("test_fails", event.id, context) is Outcome.FAILED
    assert delays == [10, 30, 60]
    given_up = {"attempts": 4, "due": None, "failed_at": held_clock.now, "last_error": "ValueError: no"}
    assert await changed(event) == given_up
    line = next(line for line in logs if line["event"] == "job")
    assert (line["log_level"], line["outcome"], line["error"]) == ("error", "failed", "ValueError: no")


async def test_a_retry_is_a_warning(database: Database, context: JobContext) -> None:
    with a_job("test_fails", Calls(ValueError("no"))), capture_logs() as logs:
        await run("test_fails", (await emitted("test_fails")).id, context)
    assert [(line["log_level"], line["error"]) for line in logs if line["event"] == "job"] == [
        ("warning", "ValueError: no")
    ]


@pytest.mark.parametrize("error", [PermanentFailure("never"), MailRefused("550 nobody", permanent=True)])
async def test_what_no_retry_helps_fails_at_once(
    database: Database, context: JobContext, held_clock: HeldClock, error: Exception
) -> None:
    work = Calls(error)
    with a_job("test_fails", work):
        event = await emitted("test_fails")
        assert await run("test_fails", event.id, context) is Outcome.FAILED
        assert await run("test_fails", event.id, context) is Outcome.NOTHING_LEFT
    assert len(work.events) == 1
    found = await changed(event)
    assert (found["due"], found["failed_at"]) == (None, held_clock.now)
    assert found["last_error"] == f"{type(error).__name__}: {error}"


async def test_a_refusal_that_may_pass_is_tried_again(database: Database, context: JobContext) -> None:
    with a_job("test_fails", Calls(MailRefused("451 later", permanent=False))):
        event = await emitted("test_fails")
        assert await run("test_fails", event.id, context) is Outcome.RETRY


async def test_a_job_that_takes_too_long_is_stopped_and_tried_again(database: Database, context: JobContext) -> None:
    ended: list[str] = []

    async def hang(event: Event, context: JobContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stopped")

    short = JobContext(context.settings.model_copy(update={"job_timeout_seconds": 0.05}), context.mailer)
    with a_job("test_hangs", hang):
        event = await emitted("test_hangs")
        async with asyncio.timeout(5):
            assert await run("test_hangs", event.id, short) is Outcome.RETRY
    assert ended == ["stopped"]
    assert (await changed(event))["last_error"] == "TimeoutError: "


async def test_an_attempt_that_is_cut_off_leaves_the_row_to_its_lease(
    database: Database, context: JobContext, held_clock: HeldClock
) -> None:
    begun = asyncio.Event()

    async def hang(event: Event, context: JobContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    with a_job("test_hangs", hang):
        event = await emitted("test_hangs")
        attempt = asyncio.create_task(run("test_hangs", event.id, context))
        await begun.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    left = {"attempts": 1, "due": held_clock.now + context.lease, "failed_at": None, "last_error": None}
    assert await changed(event) == left


async def test_a_job_that_never_comes_to_an_end_is_given_up_without_another_run(
    database: Database, context: JobContext
) -> None:
    work = Calls()
    with a_job("test_kills_its_worker", work, Retry(attempts=3)):
        event = await emitted("test_kills_its_worker")
        await database["outbox"].update_one({"_id": event.id}, {"$set": {"attempts": 3}})
        assert await run("test_kills_its_worker", event.id, context) is Outcome.FAILED
    assert work.events == []
    assert (await changed(event))["last_error"] == "None of 3 attempts came to an end."


async def test_a_long_error_is_cut(database: Database, context: JobContext) -> None:
    with a_job("test_fails", Calls(ValueError("x" * 10_000))):
        event = await emitted("test_fails")
        await run("test_fails", event.id, context)
    assert len((await changed(event))["last_error"]) == MAX_ERROR_LENGTH == 500


async def test_a_job_committed_with_its_effect_stays_done_whatever_follows(
    database: Database, context: JobContext
) -> None:
    async def work(event: Event, context: JobContext) -> None:
        async def effect(session: Session) -> None:
            await database["things"].insert_one({}, session=session)
            if not await event.finish("test_work", session=session):
                raise AlreadyDone

        await in_transaction(effect)
        raise ValueError

    with a_job("test_work", work):
        event = await emitted("test_work")
        assert await run("test_work", event.id, context) is Outcome.RETRY
        assert await row_of(event) is None
        assert await run("test_work", event.id, context) is Outcome.NOTHING_LEFT
    assert await database["things"].count_documents({}) == 1


async def test_a_failure_after_the_job_was_done_does_not_touch_the_jobs_that_are_left(
    database: Database, context: JobContext, held_clock: HeldClock
) -> None:
    async def work(event: Event, context: JobContext) -> None:
        await event.finish("test_work")
        raise PermanentFailure

    with a_job("test_work", work):
        event = await emitted("test_work", "test_other")
        await run("test_work", event.id, context)
    found = await changed(event)
    assert (found["failed_at"], found["last_error"]) == (None, None)


async def test_of_parallel_deliveries_one_has_the_effect(database: Database, context: JobContext) -> None:
    async def work(event: Event, context: JobContext) -> None:
        async def effect(session: Session) -> None:
            await database["things"].insert_one({}, session=session)
            if not await event.finish("test_work", session=session):
                raise AlreadyDone

        try:
            await in_transaction(effect)
        except AlreadyDone:
            return

    with a_job("test_work", work):
        event = await emitted("test_work")
        await asyncio.gather(*(run("test_work", event.id, context) for _ in range(8)))
    assert await database["things"].count_documents({}) == 1
    assert await row_of(event) is None


async def test_runs_are_counted_and_timed_by_outcome(database: Database, context: JobContext) -> None:
    work = Calls()
    with a_job("test_is_counted", work):
        for error in (None, ValueError("no"), PermanentFailure("never"), None):
            work.error = error
            await run("test_is_counted", (await emitted("test_is_counted")).id, context)
        await run("test_is_counted", uuid4(), context)
    assert counted("test_is_counted") == {"done": 2, "retry": 1, "failed": 1, "timed": 4}


async def test_failed_events_are_listed_oldest_first(database: Database, held_clock: HeldClock) -> None:
    events = [await emitted("one") for _ in range(4)]
    for event, hours in zip(events, (2, 1, 3), strict=False):
        failed_at = held_clock.now - timedelta(hours=hours)
        await database["outbox"].update_one({"_id": event.id}, {"$set": {"failed_at": failed_at, "due": None}})
    assert [event.id for event in await failed()] == [events[2].id, events[0].id, events[1].id]
    assert [event.id for event in await failed(limit=1)] == [events[2].id]


async def test_failed_events_get_all_their_attempts_again(
    database: Database, context: JobContext, held_clock: HeldClock
) -> None:
    work = Calls(PermanentFailure("never"))
    sent: list[str] = []

    async def send(name: str, event_id: str) -> None:
        sent.append(event_id)

    with a_job("test_fails", work):
        one, other = [await emitted("test_fails") for _ in range(2)]
        untouched = await emitted("test_fails")
        for event in (one, other):
            await run("test_fails", event.id, context)
        await database["outbox"].update_one({"_id": untouched.id}, {"$set": {"attempts": 5}})
        held_clock.advance(hours=1)
        assert await retry_failed(one.id) == 1
        assert await retry_failed(one.id) == 0
        assert [event.id for event in await failed()] == [other.id]
        assert await retry_failed() == 1
        assert await failed() == []
        for event in (one, other):
            found = await changed(event)
            assert (found["attempts"], found["due"], found["failed_at"]) == (0, held_clock.now, None)
        assert (await changed(untouched))["attempts"] == 5
        await Relay(context, send).pass_on()
        assert set(sent) == {str(event.id) for event in (one, other, untouched)}
        work.error = None
        assert await run("test_fails", one.id, context) is Outcome.DONE


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(0, 5), (1, 5), (2, 10), (3, 20), (7, 320), (10, 2560), (11, 3600), (500, 3600)]
)
def test_delays_double_up_to_an_hour(attempt: int, seconds: float) -> None:
    assert Retry().delay(attempt) == timedelta(seconds=seconds)


async def test_copies_of_a_message_are_passed_over_while_the_job_runs_and_before_its_next_try(
    database: Database, context: JobContext, held_clock: HeldClock
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: Event, context: JobContext) -> None:
        started.set()
        await go_on.wait()
        raise MailRefused("451 later", permanent=False)

    with a_job("test_slow", slow, retry=Retry(attempts=3, first=60)):
        event = await emitted("test_slow")
        running = asyncio.create_task(run("test_slow", event.id, context))
        await started.wait()
        assert await run("test_slow", event.id, context) is Outcome.NOTHING_LEFT
        go_on.set()
        assert await running is Outcome.RETRY
        assert await run("test_slow", event.id, context) is Outcome.NOTHING_LEFT
        assert (await changed(event))["attempts"] == 1
        held_clock.advance(seconds=60)
        assert await run("test_slow", event.id, context) is Outcome.RETRY


async def test_two_jobs_cannot_have_one_name() -> None:
    with a_job("test_work", Calls()), pytest.raises(ValueError, match="two jobs named test_work"):
        job("test_work")(Calls())


def test_a_row_stays_with_its_taker_for_twice_a_jobs_time_out(context: JobContext) -> None:
    longer = JobContext(context.settings.model_copy(update={"job_timeout_seconds": 45.0}), context.mailer)
    assert longer.lease == timedelta(seconds=90)
