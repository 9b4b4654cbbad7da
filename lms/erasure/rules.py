"""Who cannot be erased. Pure."""

from collections.abc import Sequence
from uuid import UUID

from lms.errors import Conflict

NAMED = 20
"""Of the courses in the way, how many are told by their ids."""


class OwnsCourses(Conflict):
    detail = "This person owns courses; they have to go to somebody else, or be deleted, first."

    def __init__(self, count: int, course_ids: Sequence[UUID]) -> None:
        super().__init__(course_count=count, course_ids=[str(one) for one in course_ids])


def check_owns_nothing(count: int, course_ids: Sequence[UUID]) -> None:
    if count:
        raise OwnsCourses(count, course_ids[:NAMED])
