"""What `lms migrate` does: indexes first, then changes of stored documents, each once and in order.

Safe to run twice and at once: creating an index that exists is nothing, and a step is claimed by a conditional update.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from beanie import Document
from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lms.clock import utc_now

Database = AsyncDatabase[dict[str, Any]]
Step = Callable[[Database], Awaitable[None]]

STEPS: list[Step] = []
"""Changes of stored documents, oldest first; every one may run again after it was cut off. None was needed so far."""

SCHEMA_VERSION = 1 + len(STEPS)
META = "meta"
LOCK_SECONDS = 60


async def schema_version(database: Database) -> int:
    found = await database[META].find_one({"_id": "schema"})
    return int(found["version"]) if found else 0


async def is_migrated(database: Database) -> bool:
    """Whether this version's indexes and documents are in place (or a later version's)."""
    return await schema_version(database) >= SCHEMA_VERSION


async def migrate(database: Database, documents: list[type[Document]]) -> list[str]:
    """Bring the database up to this version; says what it did. Raises `MigrationRunning` while another one is at it."""
    await _lock(database)
    try:
        done = await _create_indexes(database, documents)
        version = await schema_version(database)
        for number, step in enumerate(STEPS, start=2):
            if number > version:
                await step(database)
                await _set_version(database, number)
                done.append(f"documents: step {number}")
        if version < SCHEMA_VERSION:
            await _set_version(database, SCHEMA_VERSION)
    finally:
        await database[META].delete_one({"_id": "migration_lock"})
    return done


async def migrate_when_free(database: Database, documents: list[type[Document]], seconds: float = 30) -> list[str]:
    """As `migrate`, waiting for another one that runs; raises `MigrationRunning` where that takes too long."""
    async with asyncio.timeout(seconds + 1):
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


async def _lock(database: Database) -> None:
    now = utc_now()
    expired: dict[str, Any] = {"_id": "migration_lock", "until": {"$lt": now}}
    until: datetime = now + timedelta(seconds=LOCK_SECONDS)
    try:
        await database[META].update_one(expired, {"$set": {"until": until}}, upsert=True)
    except DuplicateKeyError:
        raise MigrationRunning from None


async def _create_indexes(database: Database, documents: list[type[Document]]) -> list[str]:
    done: list[str] = []
    for document in documents:
        collection = document.get_pymongo_collection()
        indexes = indexes_of(document)
        before = set(await collection.index_information()) if await _exists(database, collection.name) else None
        if before is None:
            await database.create_collection(collection.name, check_exists=False)
        missing = [index for index in indexes if index.document["name"] not in (before or ())]
        if missing:
            await collection.create_indexes(missing)
        done.extend(f"index: {collection.name}.{index.document['name']}" for index in missing)
    return done


def indexes_of(document: type[Document]) -> list[IndexModel]:
    """The indexes that a document declares."""
    return list(getattr(getattr(document, "Settings", None), "indexes", []))


async def _exists(database: Database, name: str) -> bool:
    return bool(await database.list_collection_names(filter={"name": name}))


async def _set_version(database: Database, version: int) -> None:
    await database[META].update_one({"_id": "schema"}, {"$max": {"version": version}}, upsert=True)
