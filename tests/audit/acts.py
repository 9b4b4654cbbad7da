"""Acts for tests, and the worker's turn on those that wait."""

from typing import Any
from uuid import UUID

from lms.audit import APPEND_JOB, Facts, Other, record
from lms.audit.documents import Act, AuditEntry
from lms.audit.tasks import append_to_audit
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from lms.transactions import Session, in_transaction

assert append_to_audit.name == APPEND_JOB


async def act(
    what: Act = Act.PROFILE_CHANGED,
    actor: UUID | Other = "system",
    target: UUID | None = None,
    private: dict[UUID, dict[str, str]] | None = None,
    facts: Facts | None = None,
) -> None:
    async def write(session: Session) -> None:
        await record(session, what, actor=actor, target=target, private=private, facts=facts)

    await in_transaction(write)


async def append_all(settings: Settings) -> list[AuditEntry]:
    """What the workers do with all acts that wait; the whole log, in order."""
    context = JobContext(settings, Mailer(settings))
    for event in await Event.find({"kind": "audit"}).sort("_id").to_list():
        assert await run_job(APPEND_JOB, event.id, context) is Outcome.DONE
    return await AuditEntry.find_all().sort("_id").to_list()


async def raw_entries() -> list[dict[str, Any]]:
    return await AuditEntry.get_pymongo_collection().find().sort("_id", 1).to_list()
