"""Whose an API key is and whether it stands; and when it was last used.

What is known of a key is as old as what is known of a session, at most (see `lms.auth`), and is read for all who wait
at once. That it was used is written beside the requests, when what is stored is a minute old.
"""

import asyncio
import contextvars
import hmac
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from pymongo.errors import PyMongoError

from lms.accounts.documents import Role, User
from lms.api_keys.documents import OWNERS, ApiKey, Scope
from lms.api_keys.rules import ApiKeyRefused, parse_key
from lms.auth import REUSE_SECONDS, Caller, Recent
from lms.clock import utc_now
from lms.together import Together
from lms.tokens import digest_of

USE_IS_KNOWN_TO = timedelta(minutes=1)

logger = structlog.get_logger("lms.api_keys")


@dataclass(frozen=True, slots=True)
class Standing:
    """A key that stands, with its owner as they are now."""

    caller: Caller
    digest: str
    expires_at: datetime
    last_used_at: datetime | None


class KeyVerdicts:
    """One per process. No key of a role in `mfa_required_for` works while its owner has no second factor."""

    def __init__(self, mfa_required_for: Collection[str]) -> None:
        self._recent: Recent = Recent()
        self._stored = Together(partial(_read_keys, mfa_required_for))
        self._uses = Uses()

    async def caller(self, text: str) -> Caller:
        """Who asks with this key. Raises `ApiKeyMistyped`, `ApiKeyRefused`."""
        key_id, secret = parse_key(text)
        standing = await self._standing(key_id)
        if standing is None or standing.expires_at <= utc_now():
            raise ApiKeyRefused
        if not hmac.compare_digest(standing.digest, digest_of(secret)):
            raise ApiKeyRefused
        self._uses.note(key_id, standing.last_used_at)
        return standing.caller

    async def _standing(self, key_id: UUID) -> Standing | None:
        found: tuple[Standing | None, float] | None = self._recent.get(key_id)
        asked_at = time.monotonic()
        if found is not None and asked_at < found[1]:
            return found[0]
        standing = await self._stored.get(key_id)
        self._recent[key_id] = (standing, asked_at + REUSE_SECONDS)
        return standing

    def forget(self, key_id: UUID) -> None:
        """Called where a key is revoked, so that this process need not wait until its verdict is old."""
        self._recent.pop(key_id, None)

    async def close(self) -> None:
        """Wait until every use is written."""
        await self._uses.close()


async def _read_keys(mfa_required_for: Collection[str], key_ids: list[UUID]) -> dict[UUID, Standing]:
    now = utc_now()
    live = {"_id": {"$in": key_ids}, "revoked_at": None, "expires_at": {"$gt": now}}
    keys = await ApiKey.get_pymongo_collection().find(live, {"name": 0}).to_list()
    if not keys:
        return {}
    able = {"_id": {"$in": [one["owner_id"] for one in keys]}, "active": True, "role": {"$in": [*OWNERS]}}
    owners = await User.get_pymongo_collection().find(able, {"role": 1, "totp.last_step": 1}).to_list()
    bare = {one["_id"] for one in owners if one["role"] in mfa_required_for and one.get("totp") is None}
    roles = {one["_id"]: Role(one["role"]) for one in owners if one["_id"] not in bare}
    return {one["_id"]: _standing(one, roles[one["owner_id"]]) for one in keys if one["owner_id"] in roles}


def _standing(raw: Mapping[str, Any], role: Role) -> Standing:
    # A scope that another version knew opens nothing here.
    scopes = frozenset(Scope(one) for one in raw["scopes"] if one in set(Scope))
    caller = Caller(raw["owner_id"], role, session_id=raw["_id"], scopes=scopes)
    return Standing(caller, raw["digest"], raw["expires_at"], raw["last_used_at"])


class Uses:
    """Writes down that keys were used: in the background, all that wait in one command, and each once a minute.

    Where the database is away the next use tries again.
    """

    def __init__(self) -> None:
        self._written: Recent = Recent()
        self._waiting: set[UUID] = set()
        self._writing: asyncio.Task[None] | None = None

    def note(self, key_id: UUID, stored: datetime | None) -> None:
        last: datetime | None = max(filter(None, (stored, self._written.get(key_id))), default=None)
        if last is not None and utc_now() - last < USE_IS_KNOWN_TO:
            return
        self._waiting.add(key_id)
        if self._writing is None:
            # The deadline of the request, which the driver keeps in the context, is not that of this.
            work = self._write_until_nothing_waits()
            self._writing = asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    async def _write_until_nothing_waits(self) -> None:
        try:
            while self._waiting:
                used, self._waiting = self._waiting, set()
                await self._write(used)
        finally:
            self._writing = None

    async def _write(self, used: set[UUID]) -> None:
        now = utc_now()
        # Asked for here too, since several processes may have seen the same key.
        old = {"$or": [{"last_used_at": None}, {"last_used_at": {"$lte": now - USE_IS_KNOWN_TO}}]}
        for key_id in used:
            self._written[key_id] = now
        try:
            await ApiKey.get_pymongo_collection().update_many(
                {"_id": {"$in": [*used]}, **old}, {"$set": {"last_used_at": now}}
            )
        except PyMongoError as error:
            logger.warning("use_not_written", keys=len(used), error=type(error).__name__)
            for key_id in used:
                self._written.pop(key_id, None)

    async def close(self) -> None:
        if self._writing is not None:
            await self._writing
