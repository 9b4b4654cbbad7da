"""People and their sign-ins."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from beanie import Document
from pydantic import Field, model_validator
from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.documents import BaseDocument
from lms.folding import search_words
from lms.ids import new_person_id
from lms.second_factor.documents import CodeTries, PendingTotp, Totp


class Role(StrEnum):
    STUDENT = "student"
    INSTRUCTOR = "instructor"
    ADMIN = "admin"


class User(BaseDocument):
    """A person. `auth_epoch` rises when what they may do changes, which ends every access token of before.

    `password_rev` counts their passwords: what was made under an earlier one (a session, a link in a mail) is void.
    `rev` counts what they see change about themselves, for ETags, and `keys_made` their API keys, so that two that are
    made at the same time meet here. `search` is what they are found by: whoever changes name or address sets it anew
    (`search_words`). `owner_rev` counts the courses they were ever given. `totp` is their second factor,
    if they have one. `sessions_made` counts their sign-ins, so that each meets whoever changes the account meanwhile.

    `password_doubted`: the address is verified, but not by a session that knew the password, so that somebody else may
    have set that. Whoever is stored without it was verified before anybody asked.
    """

    id: UUID = Field(default_factory=new_person_id)  # pyright: ignore[reportIncompatibleVariableOverride]
    email: str
    full_name: str
    role: Role = Role.STUDENT
    password_hash: str
    password_rev: int = 0
    rev: int = 0
    active: bool = True
    verified: bool = False
    password_doubted: bool = False
    locale: str = "en"
    time_zone: str = "UTC"
    auth_epoch: int = 0
    keys_made: int = 0
    search: list[str] = []
    owner_rev: int = 0
    sessions_made: int = 0
    totp: Totp | None = None
    pending_totp: PendingTotp | None = None
    code_tries: CodeTries | None = None

    class Settings:
        name = "users"
        indexes = [
            IndexModel([("email", ASCENDING)], name="email", unique=True),
            # Asked for all roles or for both values of `active`, it gives the few runs of each in order, merged.
            IndexModel(
                [("role", ASCENDING), ("active", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="role_created",
            ),
            IndexModel([("search", ASCENDING)], name="search"),
        ]

    @model_validator(mode="after")
    def _findable(self) -> Self:
        self.search = self.search or search_words(self.email, self.full_name)
        return self

    @property
    def owner_proved(self) -> bool:
        """Whether the owner of the address chose what signs in here."""
        return self.verified and not self.password_doubted

    @classmethod
    async def by_email(cls, email: str) -> Self | None:
        return await cls.find_one({"email": email})


class SignIn(BaseDocument):
    """One sign-in on one device: a family of refresh tokens. Its generation is stored, never a token.

    `methods` are how they proved who they are (RFC 8176: `pwd`, `otp`, `mfa` ...), and `proved_at` when they last did.
    """

    user_id: UUID
    password_rev: int = 0
    nonce: str
    generation: int = 0
    rotated_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    methods: list[str] = []
    proved_at: datetime | None = None
    user_agent: str = ""
    address: str = ""

    class Settings:
        name = "sessions"
        indexes = [
            IndexModel([("user_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="user"),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
            IndexModel(
                [("ended_at", ASCENDING)], name="ended", partialFilterExpression={"ended_at": {"$type": "date"}}
            ),
        ]


class SignInFailures(Document):
    """How often a password was tried in vain, by a keyed hash of who and where; `lms.accounts.attempts` says how.

    `until` is when the next try is taken, `counted_until` when the failures are forgotten.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    failures: int
    until: datetime
    counted_until: datetime
    familiar_until: datetime | None = None
    expires_at: datetime
    ticket: UUID | None = None

    class Settings:
        name = "sign_in_failures"
        indexes = [IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0)]
