"""The numbers of what one student can see change: one sequence for each, so that an app can follow without a gap."""

from uuid import UUID

from lms.transactions import Session, database, next_number

COUNTERS = "student_counters"


async def next_student_seq(student_id: UUID, session: Session) -> int:
    """Taken in the transaction of the change that it is for."""
    return await next_number(COUNTERS, student_id, session)


async def forget_student(student_id: UUID) -> None:
    await database()[COUNTERS].delete_one({"_id": student_id})
