"""Who is known under which name at a provider, and sign-ins under way. No code, state or token is stored itself."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pymongo import ASCENDING, IndexModel

from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.tokens import digest_of


class Identity(BaseDocument):
    """A person at a provider: what its `issuer` calls them (`subject`) and never gives to anybody else.

    One person has at most one at each issuer. `provider` is the name in the settings that it was first used under.
    """

    issuer: str
    subject: str
    user_id: UUID
    provider: str

    class Settings:
        name = "identities"
        indexes = [
            IndexModel([("issuer", ASCENDING), ("subject", ASCENDING)], name="subject", unique=True),
            IndexModel([("user_id", ASCENDING), ("issuer", ASCENDING)], name="user", unique=True),
        ]


class OidcStart(BaseDocument):
    """A sign-in that has left for a provider, by the digest of its `state`.

    `browser` is the digest of the cookie that the browser has to bring back. `anew_since`: the provider was told then
    to ask again who is there.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    provider: str
    browser: str
    return_to: str
    app_challenge: str
    anew_since: datetime | None = None
    expires_at: datetime

    class Settings:
        name = "oidc_starts"
        indexes = [IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0)]

    @classmethod
    async def take(cls, provider: str, state: str, cookie: str) -> Self | None:
        """Only the browser that left takes it, once."""
        mine = {"_id": digest_of(state), "provider": provider, "browser": digest_of(cookie)}
        raw = await cls.get_pymongo_collection().find_one_and_delete({**mine, "expires_at": {"$gt": utc_now()}})
        return None if raw is None else cls.model_validate(raw)


class OidcCode(BaseDocument):
    """What an app exchanges for tokens, by the digest of the code that it was sent. It counts for the rights of its
    moment.

    `auth_time` is when the person proved at the provider who they are, where it says so.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    provider: str
    user_id: UUID
    auth_epoch: int
    methods: list[str]
    auth_time: datetime | None = None
    app_challenge: str
    expires_at: datetime

    class Settings:
        name = "oidc_codes"
        indexes = [IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0)]

    @classmethod
    async def take(cls, provider: str, code: str) -> Self | None:
        mine = {"_id": digest_of(code), "provider": provider, "expires_at": {"$gt": utc_now()}}
        raw = await cls.get_pymongo_collection().find_one_and_delete(mine)
        return None if raw is None else cls.model_validate(raw)
