"""What `lms migrate` does: indexes first, then changes of stored documents, each once and in order.

Safe to run twice and at once: one works while the others wait, and whatever was cut off may run again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pymongo
from beanie import Document
from pymongo import IndexModel, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError

from lms.clock import utc_now
from lms.folding import search_words

Database = AsyncDatabase[dict[str, Any]]
Step = Callable[[Database], Awaitable[None]]

PEOPLE_AT_ONCE = 1_000


async def _make_people_findable(database: Database) -> None:
    """Give the words of a search to who was stored without. Who is changed meanwhile is come back to."""
    users, without = database["users"], {"search": {"$exists": False}}
    while found := await users.find(without, {"email": 1, "full_name": 1}).limit(PEOPLE_AT_ONCE).to_list():
        changes = [UpdateOne(one, {"$set": {"search": search_words(one["email"], one["full_name"])}}) for one in found]
        await users.bulk_write(changes, ordered=False)


STEPS: list[Step] = [_make_people_findable]
"""Changes of stored documents, oldest first; every one may run again after it was cut off."""

SCHEMA_VERSION = 1 + len(STEPS)
META = "meta"
LOCK = "migration_lock"
LOCK_SECONDS = 60.0
WORK_SECONDS = 6 * 3600
"""For one index or step: what a large collection takes, and not what a request may take."""

_COMPARED = (
    *("unique", "sparse", "expireAfterSeconds", "partialFilterExpression"),
    *("weights", "default_language", "language_override"),
)


async def schema_version(database: Database) -> int:
    found = await database[META].find_one({"_id": "schema"})
    return int(found["version"]) if found else 0


async def is_migrated(database: Database) -> bool:
    """Whether this version's indexes and documents are in place (or a later version's)."""
    return await schema_version(database) >= SCHEMA_VERSION


async def migrate(database: Database, documents: list[type[Document]]) -> list[str]:
    """Bring the database up to this version; says what it did. Raises `MigrationRunning` while another one is at it."""
    async with _locked(database):
        done = await _create_indexes(database, documents)
        version = await schema_version(database)
        for number, step in enumerate(STEPS, start=2):
            if number > version:
                with pymongo.timeout(WORK_SECONDS):
                    await step(database)
                await _set_version(database, number)
                done.append(f"documents: step {number}")
        if version < SCHEMA_VERSION:
            await _set_version(database, SCHEMA_VERSION)
    return done


async def migrate_when_free(database: Database, documents: list[type[Document]], seconds: float = 30) -> list[str]:
    """As `migrate`, waiting for another one that runs; raises `MigrationRunning` where that takes too long."""
    ends = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await migrate(database, documents)
        except MigrationRunning:
            if asyncio.get_running_loop().time() > ends:
                raise
            await asyncio.sleep(0.2)


class MigrationRunning(Exception):
    """Another `lms migrate` holds the lock."""


@contextlib.asynccontextmanager
async def _locked(database: Database) -> AsyncGenerator[None]:
    """Held by one, who keeps it for as long as the work takes; one that was killed loses it within a minute."""
    holder, over = uuid4().hex, asyncio.Event()
    await _take(database, holder)
    keeping = asyncio.create_task(_keep(database, holder, over))
    try:
        yield
    finally:
        over.set()
        await keeping
        await database[META].delete_one({"_id": LOCK, "holder": holder})


async def _take(database: Database, holder: str) -> None:
    now = utc_now()
    expired: dict[str, Any] = {"_id": LOCK, "until": {"$lt": now}}
    taken = {"$set": {"holder": holder, "until": now + timedelta(seconds=LOCK_SECONDS)}}
    try:
        await database[META].update_one(expired, taken, upsert=True)
    except DuplicateKeyError:
        raise MigrationRunning from None


async def _keep(database: Database, holder: str, over: asyncio.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), LOCK_SECONDS / 4)
        # Where the database is away the work itself fails and says so.
        with contextlib.suppress(PyMongoError):
            until = utc_now() + timedelta(seconds=LOCK_SECONDS)
            await database[META].update_one({"_id": LOCK, "holder": holder}, {"$set": {"until": until}})


async def _create_indexes(database: Database, documents: list[type[Document]]) -> list[str]:
    """A changed index is dropped and made anew; until it is there, a unique one holds nobody back."""
    done: list[str] = []
    for document in documents:
        name = document.get_collection_name()
        # A transaction can write to a collection only if it exists.
        if not await database.list_collection_names(filter={"name": name}):
            await database.create_collection(name, check_exists=False)
        wanted = await unlike(database, document)
        for index in (index for index, is_there in wanted if is_there):
            await database[name].drop_index(index.document["name"])
        if wanted:
            with pymongo.timeout(WORK_SECONDS):
                await database[name].create_indexes([index for index, _ in wanted])
        done += [f"index: {name}.{index.document['name']}{', changed' * is_there}" for index, is_there in wanted]
    return done


async def unlike(database: Database, document: type[Document]) -> list[tuple[IndexModel, bool]]:
    """The declared indexes that are not in the database as they are declared, and whether others have their names."""
    there = await database[document.get_collection_name()].index_information()
    named = [(index, there.get(index.document["name"])) for index in indexes_of(document)]
    return [(index, stored is not None) for index, stored in named if stored is None or not _is_same(index, stored)]


def _is_same(index: IndexModel, stored: Mapping[str, Any]) -> bool:
    wanted = index.document
    # MongoDB keeps the fields of a text index as its weights, and a key of its own.
    keys = "text" in wanted["key"].values() or list(wanted["key"].items()) == [tuple(part) for part in stored["key"]]
    return keys and all(wanted.get(name) == stored.get(name) for name in _COMPARED)


def indexes_of(document: type[Document]) -> list[IndexModel]:
    """The indexes that a document declares."""
    return list(getattr(getattr(document, "Settings", None), "indexes", []))


async def _set_version(database: Database, version: int) -> None:
    await database[META].update_one({"_id": "schema"}, {"$max": {"version": version}}, upsert=True)
