"""Hands due events to the queue. Runs inside every worker; a conditional update decides which one sends what."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
from pymongo import ASCENDING
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
        for position, row in enumerate(rows):
            leased_until = await self._lease(row)
            if leased_until is not None:
                try:
                    await self._enqueue(row)
                except NOT_SENT:
                    await self._give_back(row, leased_until)
                    raise
            if position % 10 == 0:
                await asyncio.sleep(0)
        return len(rows)

    async def _due(self, now: datetime) -> list[dict[str, Any]]:
        wanted = {"bucket": {"$in": ALL_BUCKETS}, "due": {"$lte": now}}
        shown = {"due": 1, "todo": 1, "bucket": 1}
        found = Event.get_pymongo_collection().find(wanted, shown).sort("due", ASCENDING).limit(BATCH)
        return await found.to_list()

    async def _lease(self, row: dict[str, Any]) -> datetime | None:
        """Until when the one relay that gets the row has it: for twice a job's time-out. None for all others."""
        until = utc_now() + self._context.lease
        unchanged = {"_id": row["_id"], "due": row["due"], "bucket": row["bucket"]}
        result = await Event.get_pymongo_collection().update_one(unchanged, {"$set": {"due": until}})
        return until if result.modified_count else None

    async def _enqueue(self, row: dict[str, Any]) -> None:
        async with asyncio.timeout(2):
            for name in row["todo"]:
                await self._send(name, str(row["_id"]))

    async def _give_back(self, row: dict[str, Any], leased_until: datetime) -> None:
        """Redis did not take it, so the row is due as before, unless it did and the job has begun."""
        untouched = {"_id": row["_id"], "bucket": row["bucket"], "due": leased_until}
        await Event.get_pymongo_collection().update_one(untouched, {"$set": {"due": row["due"]}})
