"""What crosses HTTP about people who are administered, and about invitations."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from lms.accounts.documents import Role
from lms.accounts.schemas import EmailText, FullName, NewPassword, UserRead
from lms.profile.schemas import LanguageTag, TimeZone
from lms.recovery.schemas import LinkToken
from lms.schemas import Input, Moment, Output, Patch


class PersonRead(UserRead):
    """A person as administrators see them. Who is not `active` is kept out."""

    active: bool


class PersonCreate(Input):
    """Without a password the person gets a mail with a link to choose one, which also proves the address."""

    email: EmailText
    full_name: FullName
    role: Role
    password: NewPassword | None = None


class PersonUpdate(Patch):
    full_name: FullName | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    verified: bool | UnsetType = UNSET
    locale: LanguageTag | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET


class InvitationCreate(Input):
    email: EmailText
    role: Role
    full_name: FullName | None = None


class Inviter(Output):
    id: UUID
    full_name: str


class InvitationRead(Output):
    """`invited_by` is null where an operator did, or somebody who is gone.

    `void`: whoever sent it is no administrator any more, so that it cannot be accepted; invite again.
    """

    id: UUID
    email: str
    full_name: str
    role: Role
    invited_by: Inviter | None
    void: bool
    created_at: Moment
    expires_at: Moment


class InvitationAccept(Input):
    """The name may be left out where the invitation has one."""

    token: LinkToken
    password: NewPassword
    full_name: FullName | None = None


class InvitationAccepted(Output, kw_only=True):
    """`email` is what the new account signs in with."""

    status: Literal["accepted"] = "accepted"
    email: Annotated[str, Meta(examples=["ivy@school.example"])]
