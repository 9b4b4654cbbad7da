"""Jobs that the scheduler starts."""

from datetime import timedelta
from typing import Any

import pymongo
from pymongo.asynchronous.collection import AsyncCollection

from lms.accounts.documents import SignIn
from lms.clock import utc_now
from lms.courses.documents import CourseStats
from lms.enrollments.documents import Enrollment
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.recovery.documents import MailedLink
from lms.users.documents import Invitation
from lms.web.idempotency import IdempotencyRecord

BATCH = 1_000
MAX_BATCHES = 100
KEPT_AFTER_END = timedelta(days=1)
COUNTS = ("enrolled", "active", "completed")


@job("cleanup_expired_tokens")
async def cleanup_expired_tokens(event: Event, context: JobContext) -> None:
    """Sessions that ended or expired, links in mails, invitations, answers kept for repetitions.

    MongoDB's own TTL does most of it, later.
    """
    _ = event, context
    now = utc_now()
    expired = {"expires_at": {"$lt": now}}
    await _delete(SignIn.get_pymongo_collection(), expired)
    # Asked for as the partial index has it.
    await _delete(SignIn.get_pymongo_collection(), {"ended_at": {"$lt": now - KEPT_AFTER_END, "$type": "date"}})
    await _delete(MailedLink.get_pymongo_collection(), expired)
    await _delete(Invitation.get_pymongo_collection(), expired)
    await _delete(IdempotencyRecord.get_pymongo_collection(), expired)


async def _delete(collection: AsyncCollection[dict[str, Any]], wanted: dict[str, Any]) -> None:
    """In bounded batches, so that no single command runs long."""
    for _ in range(MAX_BATCHES):
        ids = [row["_id"] async for row in collection.find(wanted, {"_id": 1}).limit(BATCH)]
        if not ids:
            return
        await collection.delete_many({"_id": {"$in": ids}})


@job("update_course_statistics")
async def update_course_statistics(event: Event, context: JobContext) -> None:
    """Count the enrolments of every course anew; ratings are kept exact elsewhere and stay as they are.

    A course that has lost its last enrolment is in no group: it is one with counts that this run did not set.
    """
    _ = event
    began = utc_now()
    pipeline: list[dict[str, Any]] = [
        {"$group": {"_id": {"course": "$course_id", "status": "$status"}, "count": {"$sum": 1}}},
        {
            "$group": {
                "_id": "$_id.course",
                "enrolled": {"$sum": {"$cond": [{"$eq": ["$_id.status", "dropped"]}, 0, "$count"]}},
                "active": {"$sum": {"$cond": [{"$eq": ["$_id.status", "active"]}, "$count", 0]}},
                "completed": {"$sum": {"$cond": [{"$eq": ["$_id.status", "completed"]}, "$count", 0]}},
            }
        },
        {"$set": {"rating_sum": 0, "rating_count": 0, "created_at": "$$NOW", "counted_at": began}},
        {
            "$merge": {
                "into": CourseStats.get_pymongo_collection().name,
                "whenMatched": [
                    {"$set": {name: f"$$new.{name}" for name in (*COUNTS, "counted_at")}},
                ],
            }
        },
    ]
    # It goes through all enrolments, for which a single operation's time-out is too short.
    with pymongo.timeout(context.settings.job_timeout_seconds):
        await Enrollment.get_pymongo_collection().aggregate(pipeline, hint="course_status")
        left = {"counted_at": {"$not": {"$gte": began}}, "$or": [{name: {"$gt": 0}} for name in COUNTS]}
        nobody = {"$set": dict.fromkeys(COUNTS, 0)}
        await CourseStats.get_pymongo_collection().update_many(left, nobody)
