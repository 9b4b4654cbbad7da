"""The reads of people."""

from typing import Any
from uuid import UUID

from lms.accounts.documents import User
from lms.together import Together, by_id


async def _read_people(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await by_id(User.get_pymongo_collection(), ids, {"email": 1, "full_name": 1})


people = Together(_read_people)
"""Names and addresses, read together by the jobs that run at the same time. Shared, so not to be changed."""
