"""Jobs: what reacts to events, each under the name that it has in the queue."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from pymongo import ReturnDocument

from lms.clock import utc_now
from lms.mail import Mailer, MailRefused
from lms.metrics import observe_job
from lms.outbox.documents import Event, bucket_of
from lms.settings import Settings

MAX_ERROR_LENGTH = 500
CLOCKS_APART = timedelta(seconds=1)
"""What the clock of whoever sends a job may be ahead of that of whoever runs it."""

logger = structlog.get_logger("lms.jobs")


class PermanentFailure(Exception):
    """No retry helps. The event is kept, with this as its error."""


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` in all; seconds before the second one, then times `factor`, up to `longest`."""

    attempts: int = 8
    first: float = 5.0
    factor: float = 2.0
    longest: float = 3600.0

    def delay(self, attempt: int) -> timedelta:
        """How long to wait after attempt number `attempt`, which counts from 1."""
        # Later ones are at the longest delay anyway, and the power would leave a float's range.
        doublings = min(max(attempt, 1) - 1, 64)
        return timedelta(seconds=min(self.first * self.factor**doublings, self.longest))


@dataclass(frozen=True, slots=True)
class JobContext:
    settings: Settings
    mailer: Mailer

    @property
    def lease(self) -> timedelta:
        """How long a row stays with whoever took it up."""
        return timedelta(seconds=2 * self.settings.job_timeout_seconds)


Handler = Callable[[Event, JobContext], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    retry: Retry
    handler: Handler


JOBS: dict[str, Job] = {}


def job(name: str, *, retry: Retry = Retry()) -> Callable[[Handler], Job]:
    """Make a function a job. It gets the event, reloads what it needs, and may run twice."""

    def register(handler: Handler) -> Job:
        if name in JOBS:
            raise ValueError(f"There are two jobs named {name}.")
        JOBS[name] = Job(name, retry, handler)
        return JOBS[name]

    return register


class Outcome(StrEnum):
    DONE = "done"
    NOTHING_LEFT = "nothing_left"
    RETRY = "retry"
    FAILED = "failed"


async def run_job(name: str, event_id: UUID, context: JobContext) -> Outcome:
    """Take the event up, run the job on it, and record how it went."""
    started = time.perf_counter()
    event = await _take(name, event_id, context)
    if event is None:
        return Outcome.NOTHING_LEFT
    outcome, error = await _attempt(JOBS[name], event, context)
    seconds = time.perf_counter() - started
    observe_job(name, outcome.value, seconds)
    _log(name, event, outcome, error, seconds)
    return outcome


async def _take(name: str, event_id: UUID, context: JobContext) -> Event | None:
    """Attempts count here and not where events are sent: one that waits in a long queue was not tried yet."""
    now = utc_now()
    busy_until = now + timedelta(seconds=context.settings.job_timeout_seconds)
    raw: dict[str, Any] | None = await Event.get_pymongo_collection().find_one_and_update(
        {
            "_id": event_id,
            "bucket": bucket_of(event_id),
            "todo": name,
            "failed_at": None,
            f"not_before.{name}": {"$not": {"$gt": now}},
        },
        {"$set": {"due": now + context.lease, f"not_before.{name}": busy_until}, "$inc": {"attempts": 1}},
        return_document=ReturnDocument.AFTER,
    )
    return None if raw is None else Event.model_validate(raw)


async def _attempt(one: Job, event: Event, context: JobContext) -> tuple[Outcome, str | None]:
    if event.attempts > one.retry.attempts:
        # A job that kills its worker leaves no error behind; it must not go on killing workers for ever.
        text = f"None of {one.retry.attempts} attempts came to an end."
        return await _record_failure(one, event, text, permanent=True), text
    try:
        async with asyncio.timeout(context.settings.job_timeout_seconds):
            await one.handler(event, context)
    except Exception as error:  # noqa: BLE001 - whatever a job raises is recorded, and the job is tried again
        text = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        return await _record_failure(one, event, text, permanent=_is_permanent(error)), text
    if not event.is_over:
        await event.finish(one.name)
    return Outcome.DONE, None


def _is_permanent(error: Exception) -> bool:
    return isinstance(error, PermanentFailure) or (isinstance(error, MailRefused) and error.permanent)


async def _record_failure(one: Job, event: Event, error: str, *, permanent: bool) -> Outcome:
    gives_up = permanent or event.attempts >= one.retry.attempts
    now = utc_now()
    next_try = now + one.retry.delay(event.attempts)
    change: dict[str, Any] = (
        {"failed_at": now, "due": None}
        if gives_up
        else {"due": next_try, f"not_before.{one.name}": next_try - CLOCKS_APART}
    )
    still_there = {"_id": event.id, "bucket": event.bucket, "todo": one.name}
    await Event.get_pymongo_collection().update_one(still_there, {"$set": change | {"last_error": error}})
    return Outcome.FAILED if gives_up else Outcome.RETRY


def _log(name: str, event: Event, outcome: Outcome, error: str | None, seconds: float) -> None:
    fields = {
        "job": name,
        "event_id": str(event.id),
        "outcome": outcome.value,
        "attempt": event.attempts,
        "milliseconds": round(seconds * 1000),
    }
    if error is None:
        logger.info("job", **fields)
    elif outcome is Outcome.RETRY:
        logger.warning("job", **fields, error=error)
    else:
        logger.error("job", **fields, error=error)


async def failed(limit: int = 100) -> list[Event]:
    """Events whose jobs gave up, oldest first."""
    return await Event.find({"failed_at": {"$type": "date"}}).sort("failed_at").limit(limit).to_list()


async def retry_failed(event_id: UUID | None = None) -> int:
    """Make failed events (or this one) due again, with all their attempts. Returns how many."""
    wanted: dict[str, Any] = {"failed_at": {"$type": "date"}} | ({"_id": event_id} if event_id else {})
    fresh: dict[str, Any] = {"failed_at": None, "due": utc_now(), "attempts": 0, "not_before": {}}
    result = await Event.get_pymongo_collection().update_many(wanted, {"$set": fresh})
    return result.modified_count
