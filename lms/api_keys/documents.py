"""API keys: what a program signs in with."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.accounts.documents import Role
from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.transactions import Session

OWNERS = (Role.INSTRUCTOR, Role.ADMIN)
"""Who may have keys. Whoever is neither any more has none that work."""
SHOWN_AFTER_END = timedelta(days=90)
"""How long a key that has expired is still in its owner's list."""


class Scope(StrEnum):
    """What a key may be used for. Each of them opens a route; one that opens none must not be here."""

    COURSES_READ = "courses:read"
    COURSES_WRITE = "courses:write"
    ENROLLMENTS_READ = "enrollments:read"
    CERTIFICATES_READ = "certificates:read"
    PROFILE_READ = "profile:read"
    AUDIT_READ = "audit:read"


class ApiKey(BaseDocument):
    """A key of a person. `digest` is the SHA-256 of its secret part, which is stored nowhere.

    `last_used_at` is right to the minute: it is written when it is a minute old.
    """

    owner_id: UUID
    name: str
    scopes: list[Scope]
    digest: str
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    class Settings:
        name = "api_keys"
        indexes = [
            IndexModel([("owner_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="owner"),
            IndexModel(
                [("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=int(SHOWN_AFTER_END.total_seconds())
            ),
        ]

    @classmethod
    async def revoke(cls, which: dict[str, Any], session: Session) -> int:
        """Those that still stand end. Returns how many."""
        now = utc_now()
        live = {**which, "revoked_at": None, "expires_at": {"$gt": now}}
        result = await cls.get_pymongo_collection().update_many(live, {"$set": {"revoked_at": now}}, session=session)
        return result.modified_count
