"""The reads of API keys."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from lms.api_keys.documents import ApiKey
from lms.api_keys.rules import ApiKeyNotFound, prefix_of, state_of
from lms.api_keys.schemas import ApiKeyRead
from lms.clock import utc_now
from lms.web.lists import Paging, Sort, find_page

NEWEST_FIRST = Sort((("created_at", -1), ("_id", -1)), index="owner")
SHOWN = {"digest": 0}


async def list_keys(owner_id: UUID, paging: Paging) -> tuple[list[ApiKeyRead], int | None, str | None]:
    """The owner's, also those that were revoked or have expired."""
    keys = ApiKey.get_pymongo_collection()
    rows, total, cursor = await find_page(keys, {"owner_id": owner_id}, NEWEST_FIRST, paging, SHOWN)
    return [shown_key(row) for row in rows], total, cursor


async def own_key(owner_id: UUID, key_id: UUID) -> ApiKeyRead:
    """Raises `ApiKeyNotFound` for what is not the owner's."""
    row = await ApiKey.get_pymongo_collection().find_one({"_id": key_id, "owner_id": owner_id}, SHOWN)
    if row is None:
        raise ApiKeyNotFound
    return shown_key(row)


def shown_key(raw: Mapping[str, Any]) -> ApiKeyRead:
    state = state_of(raw["revoked_at"], raw["expires_at"], utc_now())
    return ApiKeyRead.from_raw(raw, prefix=prefix_of(raw["_id"]), state=state)
