"""Reading the audit log, a page at a time."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lms.audit import unseal
from lms.audit.documents import AuditDetails, AuditEntry, AuditKey
from lms.audit.schemas import AuditRead
from lms.web.lists import Paging, Sort, find_page

NEWEST_FIRST = Sort((("_id", -1),), index="_id_")
HIDDEN = {"previous": 0}


async def list_entries(wanted: dict[str, Any], paging: Paging) -> tuple[list[AuditRead], int | None, str | None]:
    rows, total, cursor = await find_page(AuditEntry.get_pymongo_collection(), wanted, NEWEST_FIRST, paging, HIDDEN)
    told = await _told(rows)
    return (
        [AuditRead.from_raw(row, sequence=row["_id"], about=told.get(row["event_id"], {})) for row in rows],
        total,
        cursor,
    )


async def _told(rows: Sequence[dict[str, Any]]) -> dict[UUID, dict[str, dict[str, str]]]:
    """By event and person what can still be read."""
    events = [row["event_id"] for row in rows if row["sealed"]]
    people = [UUID(person) for row in rows for person in row["sealed"]]
    details = await AuditDetails.get_pymongo_collection().find({"_id": {"$in": events}}).to_list()
    kept = await AuditKey.get_pymongo_collection().find({"_id": {"$in": people}}).to_list()
    keys = {str(one["_id"]): bytes(one["key"]) for one in kept}
    return {
        one["_id"]: {
            person: opened
            for person, sealed in one["sealed"].items()
            if person in keys and (opened := unseal(keys[person], sealed)) is not None
        }
        for one in details
    }
