"""The numbers of course changes: one sequence for all courses, so that whoever follows it cannot skip one."""

from lms.transactions import Session, next_number


async def next_course_seq(session: Session) -> int:
    return await next_number("counters", "courses", session)
