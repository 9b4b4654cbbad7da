"""Links in mails: what following one proves, and until when. What they carry is stored nowhere."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from pymongo import ASCENDING, IndexModel, ReturnDocument

from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.tokens import digest_of
from lms.transactions import Session


class Purpose(StrEnum):
    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - the purpose's name
    CHANGE_EMAIL = "change_email"
    INVITATION = "invitation"


class MailedLink(BaseDocument):
    """One for a purpose and an address or person (`link_id`), so that a new one takes the place of the one before.

    `digests` are those of the tokens that were not used yet. The row of an address that nobody has is one for a person
    that there is not. `outside`: a token of it was used by somebody who was not signed in as that person.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    purpose: Purpose
    digests: list[str]
    user_id: UUID
    email: str
    password_rev: int
    outside: bool = False
    expires_at: datetime

    class Settings:
        name = "mailed_links"
        indexes = [
            IndexModel([("digests", ASCENDING)], name="digests"),
            IndexModel([("user_id", ASCENDING)], name="user"),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
        ]

    @classmethod
    async def unused(cls, purpose: Purpose, token: str) -> Self | None:
        return await cls.find_one({"digests": digest_of(token), "purpose": purpose, "expires_at": {"$gt": utc_now()}})

    @classmethod
    async def use(cls, purpose: Purpose, token: str, session: Session) -> Self | None:
        """Take the token out of its link, whose `digests` are then what is left; None where it cannot be used.

        In the transaction of its effect: of two uses at once one is made again after the other, and finds nothing.
        """
        rows, digest = cls.get_pymongo_collection(), digest_of(token)
        raw = await rows.find_one_and_update(
            {"digests": digest, "purpose": purpose, "expires_at": {"$gt": utc_now()}},
            {"$pull": {"digests": digest}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if raw is None:
            return None
        if not raw["digests"]:
            await rows.delete_one({"_id": raw["_id"]}, session=session)
        return cls.model_validate(raw)

    async def put(self, session: Session, *, replace: bool = True) -> None:
        """Store it in the place of the one before, or without `replace` only where there is none."""
        stored = {"$set" if replace else "$setOnInsert": self.model_dump(exclude={"id"})}
        await self.get_pymongo_collection().update_one({"_id": self.id}, stored, upsert=True, session=session)
