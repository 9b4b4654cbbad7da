"""The audit log: a chain of entries that hold ids, and beside it what is told of people, which can be unlearned."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from beanie import Document
from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.documents import BaseDocument


class Act(StrEnum):
    """What is written down. The word before the dot says of what."""

    REGISTERED = "user.registered"
    REGISTERED_AGAIN = "user.registered_again"
    USER_CREATED = "user.created"
    USER_INVITED = "user.invited"
    INVITATION_WITHDRAWN = "user.invitation_withdrawn"
    INVITATION_ACCEPTED = "user.invitation_accepted"
    PROFILE_CHANGED = "user.profile_changed"
    ROLE_CHANGED = "user.role_changed"
    ACTIVATED = "user.activated"
    DEACTIVATED = "user.deactivated"
    USER_DELETED = "user.deleted"
    DATA_EXPORTED = "user.data_exported"
    EMAIL_VERIFIED = "user.email_verified"
    EMAIL_CHANGE_ASKED = "user.email_change_asked"
    EMAIL_CHANGED = "user.email_changed"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - an act's name
    PASSWORD_RESET = "password.reset"  # noqa: S105 - an act's name
    SIGNED_IN = "session.started"
    SIGNED_OUT = "session.ended"
    ALL_SIGNED_OUT = "session.all_ended"
    REFRESH_REPLAYED = "session.refresh_replayed"
    PROVED_AGAIN = "session.proved_again"
    LOCKED_OUT = "sign_in.locked_out"
    MFA_ENABLED = "mfa.enabled"
    MFA_DISABLED = "mfa.disabled"
    RECOVERY_CODES_MADE = "mfa.recovery_codes_made"
    RECOVERY_CODE_USED = "mfa.recovery_code_used"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"


class AuditEntry(Document):
    """One act. `_id` is its place in the order, without gaps from 1; `hash` covers every other field of it and, by
    `previous`, all entries before.

    `actor` is a person's id, or one of `operator` (a command), `system` and `nobody` (a visitor). `sealed` has by
    person the SHA-256 of what `AuditDetails` keeps about them for this act.
    """

    id: int  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    event_id: UUID
    at: datetime
    act: Act
    actor: str
    target_kind: str | None
    target_id: str | None
    request_id: str
    facts: dict[str, Any]
    sealed: dict[str, str]
    previous: str
    hash: str

    class Settings:
        name = "audit"
        indexes = [
            IndexModel([("event_id", ASCENDING)], name="event", unique=True),
            IndexModel([("actor", ASCENDING), ("_id", DESCENDING)], name="actor"),
            IndexModel([("target_id", ASCENDING), ("_id", DESCENDING)], name="target"),
            IndexModel([("act", ASCENDING), ("_id", DESCENDING)], name="act"),
        ]


class AuditDetails(BaseDocument):
    """By the act's event: what it tells of each person (addresses, names), encrypted with that person's key."""

    sealed: dict[str, bytes]

    class Settings:
        name = "audit_details"


class AuditKey(BaseDocument):
    """A person's key, by their id. Erasing the person removes it, and with it all that was sealed.

    `expires_at` is there while its person is only invited.
    """

    key: bytes
    expires_at: datetime | None = None

    class Settings:
        name = "audit_keys"
        indexes = [IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0)]
