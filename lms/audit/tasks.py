"""The one job of the audit log."""

from lms.audit import APPEND_JOB
from lms.audit.chain import append
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job


@job(APPEND_JOB)
async def append_to_audit(event: Event, _: JobContext) -> None:
    await append(event)
