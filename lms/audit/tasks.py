"""The one job of the audit log."""

from lms.audit import APPEND_JOB
from lms.audit.chain import append
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Retry, job


# What was done is written down however long the database or a worker is away: this job does not give up.
@job(APPEND_JOB, retry=Retry(attempts=1_000_000_000, longest=300.0))
async def append_to_audit(event: Event, _: JobContext) -> None:
    await append(event)
