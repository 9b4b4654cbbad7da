"""What is stored of second factors: in the person what they have, and each sign-in that waits for a code."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field
from pymongo import ASCENDING, IndexModel

from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.tokens import digest_of


class Totp(BaseModel):
    """An authenticator app that counts. `secret` is sealed, recovery codes are digests.

    `last_step` is the newest time step of which a code was used: none of it or of before counts again.
    """

    secret: bytes = Field(repr=False)
    last_step: int
    recovery_codes: list[str] = Field(repr=False)
    enabled_at: datetime


class PendingTotp(BaseModel):
    """One that was shown to a session, which has not proved yet that the app has it."""

    secret: bytes = Field(repr=False)
    session_id: UUID
    expires_at: datetime
    tries: int = 0


class CodeTries(BaseModel):
    """Codes that were tried since the last right one, and when the next one may be."""

    count: int
    not_before: datetime


class SignInChallenge(BaseDocument):
    """A sign-in whose password was right and whose code is still to come. Its id is the digest of its token.

    It counts for the password and the rights of its moment, and for a few tries.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    user_id: UUID
    password_rev: int
    auth_epoch: int
    methods: list[str]
    tries: int = 0
    expires_at: datetime

    class Settings:
        name = "sign_in_challenges"
        indexes = [IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0)]

    @classmethod
    async def standing(cls, token: str) -> Self | None:
        return await cls.find_one({"_id": digest_of(token), "expires_at": {"$gt": utc_now()}})

    async def count_try(self, most: int) -> bool:
        """Whether there was one left."""
        mine = {"_id": self.id, "tries": {"$lt": most}}
        result = await self.get_pymongo_collection().update_one(mine, {"$inc": {"tries": 1}})
        return result.modified_count == 1
