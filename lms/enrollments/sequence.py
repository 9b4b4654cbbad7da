"""The numbers of what one student can see change: one sequence for each, so that an app can follow without a gap."""

from uuid import UUID

from lms.transactions import Session, next_number


async def next_student_seq(student_id: UUID, session: Session) -> int:
    """Taken in the transaction of the change that it is for."""
    return await next_number("student_counters", student_id, session)
