"""The process's MongoDB client, and the one way to change several documents at once."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

T = TypeVar("T")
Session = AsyncClientSession
Work = Callable[[Session], Awaitable[T]]


DEFAULT_SECONDS = 4.0
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5


class _Store:
    database: AsyncDatabase[dict[str, Any]] | None = None


def use_database(database: AsyncDatabase[dict[str, Any]] | None) -> None:
    _Store.database = database


def open_database() -> AsyncDatabase[dict[str, Any]] | None:
    return _Store.database


def database() -> AsyncDatabase[dict[str, Any]]:
    """The open database. Raises RuntimeError where `lms.database.connect` has not run."""
    if _Store.database is None:
        raise RuntimeError("The database is not open.")
    return _Store.database


def client() -> AsyncMongoClient[dict[str, Any]]:
    return database().client


async def in_transaction(work: Work[T], *, seconds: float | None = None) -> T:
    """Run `work(session)` in one transaction, majority-committed when this returns.

    `work` touches only the database and may run several times. Errors it raises abort the transaction and come out
    unchanged; a commit whose outcome is unknown comes out as PyMongo's error and is answered 503. One attempt may take
    `seconds`, or what one operation may take; where others write the same it is made again for twice as long.
    """
    limit = seconds or client().options.timeout or DEFAULT_SECONDS
    started = time.monotonic()
    # Not the driver's `with_transaction`, which repeats for two minutes, also while no server is there.
    async with client().start_session() as session:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                with pymongo.timeout(limit):
                    async with await session.start_transaction():
                        return await work(session)
            except PyMongoError as error:
                is_conflict = isinstance(error, OperationFailure) and not error.timeout
                patience = 2 * limit if is_conflict else limit
                again = error.has_error_label("TransientTransactionError")
                if not again or time.monotonic() + pause > started + patience:
                    raise
            # Whoever met would meet again if all of them waited equally long.
            await asyncio.sleep(pause * random.random())  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


async def settled(write: Work[T]) -> T:
    """As `in_transaction`, for a first row that two may store at once: whoever loses finds the other one's there."""
    try:
        return await in_transaction(write)
    except DuplicateKeyError:
        # Two first ones for one address met; the row of the other one is there now.
        return await in_transaction(write)


async def next_number(sequence: str, key: object, session: Session) -> int:
    """The next number of a sequence, taken in the transaction of the change that it is for."""
    counter = await database()[sequence].find_one_and_update(
        {"_id": key}, {"$inc": {"seq": 1}}, upsert=True, return_document=ReturnDocument.AFTER, session=session
    )
    return 0 if counter is None else int(counter["seq"])
