"""The chain: one entry after the other, each with the hash of the one before."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from pymongo.errors import DuplicateKeyError

from lms.audit import APPEND_JOB
from lms.audit.documents import AuditDetails, AuditEntry
from lms.outbox.documents import Event

BEGINNING = "0" * 64
"""What the first entry has before it."""
BATCH = 500
MOST_COUNTED = 10_000

logger = structlog.get_logger("lms.audit")

_appending = asyncio.Lock()
"""The workers' jobs take turns; what is left to lose against are other processes."""


async def append(event: Event) -> None:
    """Give the act its place behind the last one. Twice for one event changes nothing.

    The unique `_id` decides between two appenders, so that there are neither gaps nor two entries in one place.
    """
    act = dict(event.data)
    sealed: dict[str, bytes] = act.pop("sealed")
    await _keep_details(event, sealed)
    act |= {"event_id": event.id, "at": event.created_at, "sealed": {who: digest(text) for who, text in sealed.items()}}
    entries = AuditEntry.get_pymongo_collection()
    async with _appending:
        while await entries.find_one({"event_id": event.id}, {"_id": 1}) is None:
            last = await entries.find_one({}, {"hash": 1}, sort=[("_id", -1)])
            place, previous = (last["_id"], last["hash"]) if last else (0, BEGINNING)
            entry: dict[str, Any] = {"_id": place + 1, **act, "previous": previous}
            entry["hash"] = hash_of(entry)
            try:
                await entries.insert_one(entry)
            except DuplicateKeyError:
                continue
            # Whoever keeps the logs elsewhere can show by these lines that nothing was taken off the end since.
            logger.info("audit_appended", sequence=entry["_id"], hash=entry["hash"])


async def _keep_details(event: Event, sealed: Mapping[str, bytes]) -> None:
    if sealed:
        kept = {"$setOnInsert": {"sealed": sealed, "created_at": event.created_at}}
        await AuditDetails.get_pymongo_collection().update_one({"_id": event.id}, kept, upsert=True)


def hash_of(entry: Mapping[str, Any]) -> str:
    """SHA-256 of the entry without its hash, as JSON with sorted names; times are milliseconds since 1970."""
    told = {name: _plain(value) for name, value in entry.items() if name != "hash"}
    return digest(msgspec.json.encode(told, order="sorted"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.astimezone(UTC).timestamp() * 1000)
    return value


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


@dataclass(frozen=True, slots=True)
class Broken:
    """Where the chain is not what was written: the entry's place, and what is wrong there."""

    sequence: int
    problem: str


@dataclass(slots=True)
class Verified:
    """How far the chain was read, and the hash of the last entry."""

    entries: int = 0
    head: str = BEGINNING


async def verify(verified: Verified, expected: Mapping[int, str]) -> AsyncGenerator[Broken]:
    """Read the chain, a batch at a time, and tell every fault. `expected` has hashes of earlier heads by place."""
    while rows := await _after(verified.entries):
        details = await _details_of(rows)
        for row in rows:
            place = row["_id"]
            for problem in _problems(row, verified, expected.get(place), details.get(row["event_id"], {})):
                yield Broken(place, problem)
            verified.entries, verified.head = place, row["hash"]
    for place in sorted(place for place in expected if place > verified.entries):
        yield Broken(place, "was taken off the end")


def _problems(
    row: Mapping[str, Any], before: Verified, expected: str | None, details: Mapping[str, bytes]
) -> Iterator[str]:
    if row["_id"] != before.entries + 1:
        yield f"follows {before.entries}; what stood between is missing"
    elif row["previous"] != before.head:
        yield "does not follow from the one before"
    if hash_of(row) != row["hash"]:
        yield "was changed"
    if expected not in {None, row["hash"]}:
        yield "is not what was there once"
    if {who: digest(sealed) for who, sealed in details.items()} != row["sealed"]:
        yield "has other details than it was written with"


async def count_waiting(since: datetime) -> int:
    """Acts from before `since` that no worker has appended yet, counted to 10,000."""
    wanted = {"todo": APPEND_JOB, "created_at": {"$lt": since}}
    return await Event.get_pymongo_collection().count_documents(wanted, limit=MOST_COUNTED)


async def _after(sequence: int) -> list[dict[str, Any]]:
    found = AuditEntry.get_pymongo_collection().find({"_id": {"$gt": sequence}}).sort("_id", 1).limit(BATCH)
    return await found.to_list()


async def _details_of(rows: list[dict[str, Any]]) -> dict[UUID, dict[str, bytes]]:
    ids = [row["event_id"] for row in rows if row["sealed"]]
    kept = await AuditDetails.get_pymongo_collection().find({"_id": {"$in": ids}}).to_list()
    return {one["_id"]: one["sealed"] for one in kept}
