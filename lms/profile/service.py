"""Changing one's own profile."""

import asyncio
from functools import cache
from importlib.resources import files
from typing import Any

from pymongo import ReturnDocument

from lms.accounts.documents import User
from lms.auth import Caller
from lms.errors import Unauthenticated
from lms.profile.rules import check_time_zone, normal_locale
from lms.profile.schemas import UserUpdate
from lms.web.etags import RevisionMismatch, seen_revision, strong_tag


async def own_user(caller: Caller) -> User:
    """Raises 401 once the person was erased."""
    found = await User.get(caller.id)
    if found is None:
        raise Unauthenticated
    return found


async def update_profile(caller: Caller, data: UserUpdate, tags: list[str] | None) -> User:
    """Set what is named. Raises `RevisionMismatch` with the current values of the named fields."""
    changes = await _checked(data.changes())
    found = await own_user(caller)
    if not seen_revision(tags, found.rev):
        raise _mismatch(found, changes)
    if not changes:
        return found
    # Who was stored by a version without revisions has none.
    unchanged = {} if tags is None else {"rev": found.rev or {"$in": [0, None]}}
    raw = await User.get_pymongo_collection().find_one_and_update(
        {"_id": caller.id, **unchanged},
        {"$set": changes, "$inc": {"rev": 1}},
        return_document=ReturnDocument.AFTER,
    )
    if raw is None:
        raise _mismatch(await own_user(caller), changes)
    return User.model_validate(raw)


async def _checked(changes: dict[str, Any]) -> dict[str, Any]:
    if "full_name" in changes:
        changes["full_name"] = changes["full_name"].strip()
    if "locale" in changes:
        changes["locale"] = normal_locale(changes["locale"])
    if "time_zone" in changes:
        # Not `zoneinfo.available_timezones`, which opens 600 files and has on slim systems none to open.
        check_time_zone(changes["time_zone"], await asyncio.to_thread(_time_zones))
    return changes


@cache
def _time_zones() -> frozenset[str]:
    return frozenset((files("tzdata") / "zones").read_text(encoding="utf-8").split())


def _mismatch(current: User, named: dict[str, Any]) -> RevisionMismatch:
    return RevisionMismatch(strong_tag(current.rev), {name: getattr(current, name) for name in named})
