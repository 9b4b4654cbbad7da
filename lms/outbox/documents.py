"""Events that something still has to react to: committed with the change they tell of, gone when all is done."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import PrivateAttr, model_validator
from pymongo import ASCENDING, IndexModel

from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.transactions import Session

BUCKETS = 64


def bucket_of(event_id: UUID) -> int:
    """Where an event is kept: whoever knows its id knows its shard."""
    return event_id.int % BUCKETS


class AlreadyDone(Exception):
    """Another delivery of this event did the job; the transaction that finds out is undone."""


class Event(BaseDocument):
    """`data` holds ids, nonces and what is sealed; `todo` names the jobs that are left; `due` is when the relay next
    sends it.

    `not_before` says by job until when copies of its message are passed over: while it runs, and before its next try.
    `relay` is the pass of a relay that leased it last.
    """

    bucket: int = 0
    kind: str
    data: dict[str, Any]
    todo: list[str]
    attempts: int = 0
    due: datetime | None = None
    not_before: dict[str, datetime] = {}
    last_error: str | None = None
    failed_at: datetime | None = None
    relay: str | None = None
    _is_over: bool = PrivateAttr(default=False)

    class Settings:
        name = "outbox"
        indexes = [
            IndexModel([("bucket", ASCENDING), ("due", ASCENDING)], name="bucket_due"),
            IndexModel(
                [("failed_at", ASCENDING)], name="failed", partialFilterExpression={"failed_at": {"$type": "date"}}
            ),
        ]

    @model_validator(mode="after")
    def _place(self) -> Self:
        self.bucket = bucket_of(self.id)
        return self

    def subject(self, name: str) -> UUID:
        """The id stored under `name`, such as `user_id`."""
        return UUID(str(self.data[name]))

    @classmethod
    async def emit(cls, session: Session, kind: str, jobs: list[str], **data: Any) -> Self:
        """Store an event in the caller's transaction, due at once, for `jobs` to react to."""
        return await cls.emit_for(utc_now(), session, kind, jobs, **data)

    @classmethod
    async def emit_for(cls, due: datetime, session: Session, kind: str, jobs: list[str], **data: Any) -> Self:
        """As `emit`, due then."""
        event = cls.model_construct(kind=kind, data=data, todo=jobs, bucket=0, due=due)
        event.bucket = bucket_of(event.id)
        await event.insert(session=session)
        return event

    @property
    def is_over(self) -> bool:
        """Whether the job that holds this copy has recorded that it is done, so that nobody need do it for it."""
        return self._is_over

    async def follow(self, session: Session, job_name: str, kind: str, jobs: list[str], **data: UUID | str) -> bool:
        """Record the only job as done and become the next event of a chain, under the same id, in the transaction of
        the job's effect. True only for the call that did it.
        """
        fresh: dict[str, Any] = {
            "attempts": 0,
            "due": utc_now(),
            "not_before": {},
            "last_error": None,
            "failed_at": None,
        }
        following = {"kind": kind, "data": data, "todo": jobs, **fresh}
        rows = self.get_pymongo_collection()
        mine = {"_id": self.id, "bucket": self.bucket, "todo": [job_name]}
        result = await rows.update_one(mine, {"$set": following}, session=session)
        self._is_over = result.modified_count == 1
        return self._is_over

    async def finish(self, job_name: str, session: Session | None = None) -> bool:
        """Record the job as done, in the transaction of its effect if given. True only for the call that did it.

        The row goes when nothing is left to do.
        """
        self._is_over = await self._finish(job_name, session)
        return self._is_over

    async def _finish(self, job_name: str, session: Session | None) -> bool:
        rows = self.get_pymongo_collection()
        only_this = {"_id": self.id, "bucket": self.bucket, "todo": [job_name]}
        if (await rows.delete_one(only_this, session=session)).deleted_count:
            return True
        one_of_many = {"_id": self.id, "bucket": self.bucket, "todo": job_name}
        result = await rows.update_one(one_of_many, {"$pull": {"todo": job_name}}, session=session)
        return result.modified_count == 1
