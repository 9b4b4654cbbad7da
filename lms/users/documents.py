"""Invitations that were not accepted yet."""

from datetime import datetime
from uuid import UUID

from pydantic import Field
from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.accounts.documents import Role
from lms.documents import BaseDocument
from lms.ids import new_person_id


class Invitation(BaseDocument):
    """One for an address, with the role that accepting it gives. Its id becomes the person's.

    Its `MailedLink` has the same id as `user_id`. `invited_by` is None where an operator did.
    """

    id: UUID = Field(default_factory=new_person_id)  # pyright: ignore[reportIncompatibleVariableOverride]
    email: str
    full_name: str
    role: Role
    invited_by: UUID | None
    expires_at: datetime

    class Settings:
        name = "invitations"
        indexes = [
            IndexModel([("email", ASCENDING)], name="email", unique=True),
            IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)], name="created"),
            IndexModel(
                [("invited_by", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="inviter",
            ),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
        ]
