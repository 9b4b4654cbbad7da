"""Decisions about links in mails. Pure: values in, nothing or a typed error out."""

import hashlib
from uuid import UUID

from lms.accounts.documents import User
from lms.errors import Conflict, FieldError, Forbidden, Invalid
from lms.recovery.documents import MailedLink, Purpose


class LinkRefused(Invalid):
    code = "link_refused"
    detail = "The link is not valid or no longer valid; ask for a new one."

    def __init__(self) -> None:
        error = FieldError(code="invalid", message="Unknown, used, expired or out of date.", pointer="#/token")
        super().__init__(errors=[error])


class WrongPassword(Forbidden):
    detail = "The current password is wrong."


class NoPassword(Forbidden):
    detail = (
        "You have no password: sign in again at the provider with prompt=login, or set one by asking to reset it, "
        "at POST /api/v1/auth/forgot-password."
    )


class AddressTaken(Conflict):
    detail = "Another account has this address by now."


class SameAddress(Invalid):
    code = "same_address"
    detail = "This is the account's address already."

    def __init__(self) -> None:
        super().__init__(errors=[FieldError(code="same_address", message=self.detail, pointer="#/new_email")])


def link_id(purpose: Purpose, subject: str | UUID) -> str:
    """The name of a link's row: of an address, which is not shown by it, or of a person."""
    return f"{purpose}:{hashlib.sha256(str(subject).encode()).hexdigest()}"


def check_reset(link: MailedLink | None, user: User | None) -> None:
    """A link counts for the address it was mailed to and the password that it was to replace."""
    if link is None or user is None or not user.active:
        raise LinkRefused
    if (link.email, link.password_rev) != (user.email, user.password_rev):
        raise LinkRefused


def check_email_change(link: MailedLink, user: User | None) -> None:
    """Whoever changed the password meanwhile may not have asked for this."""
    if user is None or not user.active or link.password_rev != user.password_rev:
        raise LinkRefused
