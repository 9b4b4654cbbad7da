"""Changing one's own profile."""

import asyncio
from functools import cache
from importlib.resources import files
from typing import Any

from lms.accounts.documents import User
from lms.accounts.people import update_person
from lms.accounts.rules import UserNotFound
from lms.auth import Caller
from lms.errors import Unauthenticated
from lms.profile.rules import check_time_zone, normal_locale
from lms.profile.schemas import UserUpdate
from lms.schemas import Patch
from lms.transactions import in_transaction


async def own_user(caller: Caller) -> User:
    """Raises 401 once the person was erased."""
    found = await User.get(caller.id)
    if found is None:
        raise Unauthenticated
    return found


async def update_profile(caller: Caller, data: UserUpdate, tags: list[str] | None) -> User:
    """Set what is named. Raises `RevisionMismatch` with the current values of the named fields."""
    changes = await checked_changes(data)
    try:
        changed, _ = await in_transaction(lambda session: update_person(caller.id, changes, tags, caller.id, session))
    except UserNotFound:
        raise Unauthenticated from None
    return changed


async def checked_changes(data: Patch) -> dict[str, Any]:
    """What is named, as it is stored. Raises 422 for a time zone that there is not."""
    changes = data.changes()
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
