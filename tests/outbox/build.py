"""Events and jobs for tests."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from lms.database import bind
from lms.outbox.documents import Event
from lms.outbox.jobs import JOBS, Handler, JobContext, Retry, job
from lms.transactions import Session, in_transaction


async def emitted(*jobs: str, **data: UUID | str | int) -> Event:
    """An event that a committed transaction has left in the outbox."""

    async def emit(session: Session) -> Event:
        return await Event.emit(session, "test.happened", list(jobs), **data)

    return await in_transaction(emit)


async def row_of(event: Event) -> dict[str, Any] | None:
    return await Event.get_pymongo_collection().find_one({"_id": event.id})


@contextmanager
def a_job(name: str, handler: Handler, retry: Retry | None = None) -> Generator[str]:
    """The handler is the job `name` inside the `with`."""
    job(name, retry=retry or Retry())(handler)
    try:
        yield name
    finally:
        del JOBS[name]


@asynccontextmanager
async def without_mongodb(database: AsyncDatabase[dict[str, Any]]) -> AsyncGenerator[None]:
    """Inside the `with` every operation raises an error of the driver; afterwards `database` is used again.

    By a closed client, since PyMongo leaves a socket behind that is just connecting when its client is closed.
    """
    closed: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient()
    await closed.close()
    await bind(closed["away"])
    try:
        yield
    finally:
        await bind(database)


class Calls:
    """A handler that keeps what it was called with, and raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self.error = error

    async def __call__(self, event: Event, context: JobContext) -> None:
        _ = context
        self.events.append(event)
        if self.error is not None:
            raise self.error


async def events() -> list[Event]:
    """What is in the outbox, oldest first, but for what goes to the audit log."""
    return await Event.find({"kind": {"$ne": "audit"}}).sort("_id").to_list()
