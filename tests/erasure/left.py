"""Running what an erasure leaves to the workers, and looking for traces of a person in the whole database."""

from typing import Any
from uuid import UUID

from pymongo.asynchronous.database import AsyncDatabase

from lms.audit.chain import Verified, append, verify
from lms.clock import utc_now
from lms.erasure.tasks import erase_what_is_left
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings

Database = AsyncDatabase[dict[str, Any]]
JOB = erase_what_is_left.name


async def due(database: Database) -> list[UUID]:
    """The events of erasures that a relay would send now."""
    wanted = {"todo": JOB, "due": {"$lte": utc_now()}}
    return [row["_id"] async for row in database["outbox"].find(wanted)]


async def work(database: Database, settings: Settings) -> int:
    """Run what is due until nothing is; returns how many runs it took."""
    runs = 0
    while events := await due(database):
        for event in events:
            assert await run_job(JOB, event, JobContext(settings, Mailer(settings))) is Outcome.DONE
            runs += 1
    return runs


async def write_down() -> None:
    """What the workers do with the acts that wait in the outbox."""
    for event in await Event.find({"todo": "append_to_audit"}).sort("_id").to_list():
        await append(event)
        await event.finish("append_to_audit")


async def is_whole() -> bool:
    """Whether the audit log is as it was written."""
    return [one async for one in verify(Verified(), {})] == []


async def traces(database: Database, *words: str) -> list[tuple[str, str]]:
    """Where in the whole database one of the words still stands."""
    found: list[tuple[str, str]] = []
    for name in await database.list_collection_names():
        async for row in database[name].find():
            found += [(name, word) for word in words if word in repr(row)]
    return found
