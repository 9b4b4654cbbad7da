"""The process's MongoDB client, and the one way to change several documents at once."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

T = TypeVar("T")
Session = AsyncClientSession
Work = Callable[[Session], Awaitable[T]]


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
    unchanged; a commit whose outcome is unknown comes out as PyMongo's error and is answered 503. All of it, with every
    repetition, may take `seconds`, or what one operation may take.
    """
    # By itself the driver repeats a transaction for two minutes, whatever the client's time-out is.
    limit = client().options.timeout if seconds is None else seconds
    with pymongo.timeout(limit):
        async with client().start_session() as session:
            return await session.with_transaction(work)


async def next_number(sequence: str, key: object, session: Session) -> int:
    """The next number of a sequence, taken in the transaction of the change that it is for."""
    counter = await database()[sequence].find_one_and_update(
        {"_id": key}, {"$inc": {"seq": 1}}, upsert=True, return_document=ReturnDocument.AFTER, session=session
    )
    return 0 if counter is None else int(counter["seq"])
