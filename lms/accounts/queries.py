"""The reads of people and of sessions."""

from typing import Any
from uuid import UUID

from lms.accounts.documents import SignIn, User
from lms.accounts.schemas import SessionRead
from lms.auth import Caller
from lms.clock import utc_now
from lms.together import Together, by_id
from lms.web.lists import Paging, Sort, find_page

NEWEST_FIRST = Sort((("created_at", -1), ("_id", -1)), index="user")
SHOWN = {"created_at": 1, "rotated_at": 1, "expires_at": 1, "user_agent": 1, "address": 1}


async def _read_people(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await by_id(User.get_pymongo_collection(), ids, {"email": 1, "full_name": 1})


people = Together(_read_people)
"""Names and addresses, read together by the jobs that run at the same time. Shared, so not to be changed."""


async def list_sessions(caller: Caller, paging: Paging) -> tuple[list[SessionRead], int | None, str | None]:
    """Those of the caller that still stand."""
    wanted: dict[str, Any] = {"user_id": caller.id, "ended_at": None, "expires_at": {"$gt": utc_now()}}
    sessions = SignIn.get_pymongo_collection()
    rows, total, cursor = await find_page(sessions, wanted, NEWEST_FIRST, paging, SHOWN)
    return [shown_session(row, caller) for row in rows], total, cursor


def shown_session(raw: dict[str, Any], caller: Caller) -> SessionRead:
    return SessionRead.from_raw(raw, refreshed_at=raw["rotated_at"], current=raw["_id"] == caller.session_id)
