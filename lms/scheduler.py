"""The scheduler: emits an event for every job whose time has come. Any number may run, one leads.

The leader is whoever holds a lease in MongoDB. That keeps the others idle; that a slot runs once is decided by a
compare-and-set in the same transaction as the event, whoever thinks to be the leader and whatever happens to Redis.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import structlog
from pymongo.errors import DuplicateKeyError, PyMongoError

from lms.clock import utc_now
from lms.database import connect
from lms.health_server import LOOPBACK, Parts, health_server
from lms.maintenance.tasks import cleanup_expired_tokens, update_course_statistics
from lms.metrics import mark_started
from lms.outbox.documents import Event
from lms.settings import Settings
from lms.transactions import Session, database, in_transaction
from lms.worker import mongodb_states, stop_on_signals

SCHEDULES = {cleanup_expired_tokens.name: 3600, update_course_statistics.name: 300}
"""Job name to interval in seconds."""

TICK_SECONDS = 1.0
LEASE = timedelta(seconds=8)

logger = structlog.get_logger("lms.scheduler")


async def run_scheduler(settings: Settings, *, health_port: int | None = None, health_host: str = LOOPBACK) -> int:
    """Tick until SIGTERM or SIGINT. Returns the exit code."""
    stop = stop_on_signals()
    mark_started("scheduler")
    me = uuid4().hex
    token = settings.metrics_token.get_secret_value()
    async with connect(settings), health_server(health_port, _check(stop), host=health_host, token=token):
        logger.info("scheduler_started")
        while not stop.is_set():
            await _tick_safely(me)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await stop.wait()
        with contextlib.suppress(PyMongoError):
            await database()["leases"].delete_one({"_id": "scheduler", "owner": me})
    logger.info("scheduler_stopped")
    return 0


async def _tick_safely(me: str) -> None:
    try:
        if await lead(me):
            await emit_due()
    except PyMongoError as error:
        logger.warning("scheduler_waits", part="mongodb", error=type(error).__name__)


async def lead(me: str) -> bool:
    """Take or renew the lease; False while another scheduler holds it."""
    now = utc_now()
    free = {"_id": "scheduler", "$or": [{"owner": me}, {"until": {"$lt": now}}]}
    held = {"$set": {"owner": me, "until": now + LEASE}}
    try:
        await database()["leases"].update_one(free, held, upsert=True)
    except DuplicateKeyError:
        return False
    return True


async def emit_due() -> int:
    """Emit an event for each schedule whose current slot has none yet; returns how many."""
    emitted = 0
    for name, interval in SCHEDULES.items():
        slot = int(utc_now().timestamp()) // interval
        with contextlib.suppress(DuplicateKeyError):
            emitted += await in_transaction(_claim(name, slot))
    return emitted


def _claim(name: str, slot: int) -> Callable[[Session], Awaitable[int]]:
    async def claim(session: Session) -> int:
        schedules = database()["schedules"]
        earlier = {"_id": name, "slot": {"$lt": slot}}
        found = await schedules.find_one({"_id": name}, session=session)
        if found is not None and found["slot"] >= slot:
            return 0
        await schedules.update_one(earlier, {"$set": {"slot": slot}}, upsert=True, session=session)
        await Event.emit(session, "schedule.due", [name], schedule=name, slot=slot)
        return 1

    return claim


def _check(stop: asyncio.Event) -> Callable[[], Awaitable[Parts]]:
    async def check() -> Parts:
        mongodb, schema = await mongodb_states()
        return {"mongodb": mongodb, "schema": schema, "process": "down" if stop.is_set() else "ok"}

    return check
