"""Hands due events to the queue. Runs inside every worker; a conditional update decides which one sends what."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import PyMongoError
from taskiq.exceptions import SendTaskError

from lms.clock import utc_now
from lms.outbox.documents import BUCKETS, Event
from lms.outbox.jobs import JobContext

IDLE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
BATCH = 100
ALL_BUCKETS = list(range(BUCKETS))

logger = structlog.get_logger("lms.relay")

Send = Callable[[str, str], Awaitable[object]]
"""Puts a job (its name and the event's id) into the queue. Raises what taskiq makes of every error there."""

NOT_SENT = (SendTaskError, TimeoutError)


class Relay:
    def __init__(self, context: JobContext, send: Send) -> None:
        self._context = context
        self._send = send
        self.away: str | None = None

    async def run(self) -> None:
        """For ever, until cancelled. While MongoDB or Redis is away the outbox waits."""
        pause = IDLE_SECONDS
        while True:
            try:
                busy = await self.pass_on() == BATCH
                self._note(None)
                pause = 0.0 if busy else IDLE_SECONDS
            except (PyMongoError, *NOT_SENT) as error:
                self._note("mongodb" if isinstance(error, PyMongoError) else "redis")
                pause = min(max(pause, IDLE_SECONDS) * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def _note(self, away: str | None) -> None:
        if away != self.away:
            self.away = away
            logger.warning("outbox_waits", part=away) if away else logger.info("outbox_goes_on")

    async def pass_on(self) -> int:
        """One batch of due events; returns how many were found."""
        rows = await self._due(utc_now())
        until = utc_now() + self._context.lease
        leased = await self._lease(rows, until) if rows else []
        for position, row in enumerate(leased):
            try:
                await self._enqueue(row)
            except (*NOT_SENT, asyncio.CancelledError):
                # Also where this worker stops. After a kill they are due again when the lease ends.
                await self._give_back(leased[position:], until)
                raise
            if position % 10 == 0:
                await asyncio.sleep(0)
        return len(rows)

    async def _due(self, now: datetime) -> list[dict[str, Any]]:
        wanted = {"bucket": {"$in": ALL_BUCKETS}, "due": {"$lte": now}}
        shown = {"due": 1, "todo": 1, "bucket": 1}
        found = Event.get_pymongo_collection().find(wanted, shown).sort("due", ASCENDING).limit(BATCH)
        return await found.to_list()

    async def _lease(self, rows: list[dict[str, Any]], until: datetime) -> list[dict[str, Any]]:
        """Those that this relay gets, for twice a job's time-out; of several relays one gets each row."""
        events, mark = Event.get_pymongo_collection(), uuid4().hex
        writes = [UpdateOne(_unchanged(row, row["due"]), {"$set": {"due": until, "relay": mark}}) for row in rows]
        result = await events.bulk_write(writes, ordered=False)
        if result.modified_count == len(rows):
            return rows
        mine = {"_id": {"$in": [row["_id"] for row in rows]}, "bucket": {"$in": ALL_BUCKETS}, "relay": mark}
        won = {row["_id"] for row in await events.find(mine, {"_id": 1}).to_list()}
        return [row for row in rows if row["_id"] in won]

    async def _enqueue(self, row: dict[str, Any]) -> None:
        async with asyncio.timeout(2):
            for name in row["todo"]:
                await self._send(name, str(row["_id"]))

    async def _give_back(self, rows: list[dict[str, Any]], until: datetime) -> None:
        """Redis did not take the first one: they are due as before, but for one that it did take and that has begun."""
        writes = [UpdateOne(_unchanged(row, until), {"$set": {"due": row["due"], "relay": None}}) for row in rows]
        await Event.get_pymongo_collection().bulk_write(writes, ordered=False)


def _unchanged(row: dict[str, Any], due: datetime) -> dict[str, Any]:
    """The row, as long as nobody else has taken it up."""
    return {"_id": row["_id"], "bucket": row["bucket"], "due": due}
