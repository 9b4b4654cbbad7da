"""Decisions about who administers whom. Pure: values in, nothing or a typed error out."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role
from lms.errors import Conflict, FieldError, Invalid, NotFound, RateLimited


class InvitationNotFound(NotFound):
    detail = "There is no such invitation."


class OwnAccess(Conflict):
    detail = "Nobody changes their own role or keeps themselves out; ask another administrator."


class InvitedTooOften(RateLimited):
    detail = "This address was invited too often; wait before you do it again."


def check_changes(named: Collection[str], user_id: UUID, caller_id: UUID) -> None:
    """A slip must not cost one's own way in."""
    if user_id == caller_id and not {"role", "active"}.isdisjoint(named):
        raise OwnAccess


def counts(invitation: Mapping[str, Any], inviter: Mapping[str, Any] | None) -> bool:
    """Whether an invitation can be accepted: an operator's always, an administrator's while that is what they are."""
    if invitation["invited_by"] is None:
        return True
    return inviter is not None and inviter["active"] and inviter["role"] == Role.ADMIN


def name_of(given: str, invited: str) -> str:
    """What an invited person gives comes before what they were invited as."""
    name = given.strip() or invited
    if not name:
        message = "Required, since the invitation has no name."
        raise Invalid(errors=[FieldError(code="required", message=message, pointer="#/full_name")])
    return name
