"""Identifiers: UUIDv7 for documents, UUIDv4 for people, short text inside a course."""

import base64
import hashlib
import re
import secrets
from datetime import UTC, datetime
from uuid import UUID, uuid4

from uuid_utils.compat import uuid7

LAST_MILLISECOND = 253_402_300_799_000
SHORT_ID = re.compile(r"[a-z2-7]{12}")


def new_id() -> UUID:
    """Time-ordered, so that inserts stay at the right edge of every index."""
    return UUID(int=uuid7().int)


def time_of(document_id: UUID) -> datetime:
    """When `new_id` made it. Of an id that it did not make, some time between 1970 and 9999."""
    return datetime.fromtimestamp(min(document_id.int >> 80, LAST_MILLISECOND) / 1000, UTC)


def new_person_id() -> UUID:
    """Random, so that what is sharded by person spreads evenly."""
    return uuid4()


def new_short_id() -> str:
    """12 lower-case base32 characters: 60 random bits for a lesson, a module or a question of one course."""
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]


def short_id_of(*parts: str) -> str:
    """The same short id for the same parts, so that a course that is loaded again keeps its lessons' ids."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.b32encode(digest[:8]).decode().lower()[:12]
