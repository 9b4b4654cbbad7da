"""The reads of people for administrators, and of invitations."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role, User
from lms.clock import utc_now
from lms.folding import fold, folded_words
from lms.together import by_id
from lms.users.documents import Invitation
from lms.users.rules import counts
from lms.users.schemas import InvitationRead, PersonRead
from lms.web.lists import Paging, Sort, find_page
from lms.web.searching import search_page

NEWEST_FIRST = Sort((("created_at", -1), ("_id", -1)), index="role_created")
NEWEST_INVITATION_FIRST = Sort((("created_at", -1), ("_id", -1)), index="created")
SHOWN: dict[str, Any] = dict.fromkeys(
    ("email", "full_name", "role", "active", "verified", "locale", "time_zone", "created_at", "rev"), 1
)
LAST = "\U0010ffff"
"""Sorts behind every other character, here and in MongoDB, which compares UTF-8."""


async def list_people(
    role: Role | None, active: bool | None, search: str | None, paging: Paging
) -> tuple[list[PersonRead], int | None, str | None]:
    """Newest first. Every word of `search` is the beginning of a word of the name, or of the address."""
    users = User.get_pymongo_collection()
    # All values by name, so that the index gives a run of each in order, whatever is asked for.
    wanted: dict[str, Any] = {
        "role": {"$in": [one.value for one in Role]} if role is None else role.value,
        "active": {"$in": [True, False]} if active is None else active,
    }
    if search is None:
        rows, total, cursor = await find_page(users, wanted, NEWEST_FIRST, paging, SHOWN)
    else:
        # The longest word is likely to be the rarest.
        first, *others = sorted(folded_words(search) or [fold(search)], key=len, reverse=True)
        also = {**wanted, "$and": [_begins(word) for word in others]} if others else wanted
        shown = SHOWN | {"search": 1}
        rows, total, cursor = await search_page(users, _begins(first), also, NEWEST_FIRST, paging, shown)
    return [PersonRead.from_raw(row) for row in rows], total, cursor


def _begins(word: str) -> dict[str, Any]:
    """A range and no expression: nothing in it has a meaning, and it bounds the index by itself."""
    return {"search": {"$elemMatch": {"$gte": word, "$lt": word + LAST}}}


async def person(user_id: UUID) -> dict[str, Any] | None:
    return await User.get_pymongo_collection().find_one({"_id": user_id}, SHOWN)


async def list_invitations(paging: Paging) -> tuple[list[InvitationRead], int | None, str | None]:
    """Those that can still be accepted, but for who made them."""
    invitations, wanted = Invitation.get_pymongo_collection(), {"expires_at": {"$gt": utc_now()}}
    rows, total, cursor = await find_page(invitations, wanted, NEWEST_INVITATION_FIRST, paging)
    return await _shown(rows), total, cursor


async def invitation(invitation_id: UUID) -> InvitationRead | None:
    wanted = {"_id": invitation_id, "expires_at": {"$gt": utc_now()}}
    row = await Invitation.get_pymongo_collection().find_one(wanted)
    return (await _shown([row]))[0] if row else None


async def _shown(rows: Sequence[dict[str, Any]]) -> list[InvitationRead]:
    ids = list({row["invited_by"] for row in rows if row["invited_by"] is not None})
    inviters = await by_id(User.get_pymongo_collection(), ids, {"full_name": 1, "role": 1, "active": 1})
    return [shown_invitation(row, inviters.get(row["invited_by"])) for row in rows]


def shown_invitation(row: Mapping[str, Any], inviter: Mapping[str, Any] | None) -> InvitationRead:
    shown = inviter and {"id": inviter["_id"], "full_name": inviter["full_name"]}
    return InvitationRead.from_raw({**row, "invited_by": shown}, void=not counts(row, inviter))
