"""Decisions about people. Pure: values in, a value or a typed error out."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from lms.accounts.documents import Role, User
from lms.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, RateLimited, Unauthenticated

PASSWORD_LENGTHS = range(8, 129)


class BadCredentials(Unauthenticated):
    detail = "The email address or the password is wrong."


class TooManyAttempts(RateLimited):
    detail = "There were too many failed attempts; wait, or reset the password by mail."

    def __init__(self, seconds: int) -> None:
        super().__init__(headers={"Retry-After": str(seconds)})


class NotVerified(Forbidden):
    detail = "Verify your email address first; the link is in your mail."


class RefreshRefused(Unauthenticated):
    detail = "The refresh token is not valid or no longer valid; sign in again."


class OriginRefused(Forbidden):
    detail = "A refresh token is kept in a cookie only for browser apps of the configured origins."


class CsrfHeaderMissing(Forbidden):
    detail = "A request that goes by the cookie needs the header X-LMS-CSRF: 1."


class SessionNotFound(NotFound):
    detail = "You have no such session."


class UserNotFound(NotFound):
    detail = "There is no such person."


class LastAdmin(Conflict):
    detail = "This is the last administrator; make somebody else one first."


class RoleNeedsVerified(Conflict):
    code = NotVerified.code
    detail = "Nobody has proved this address, so anybody may have signed up with it; verify it, or vouch for it."


class CommonPassword(Invalid):
    code = "common_password"
    detail = "This password is among the first that anybody would try; choose another one."


class EmailTaken(Exception):
    """An account with this address exists."""


class Refreshing(Enum):
    """What a genuine refresh token of some generation deserves."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    END_FAMILY = "end_family"


def normal_email(text: str) -> str:
    """One spelling of an address: trimmed, lower case, NFC."""
    # In this order: lower case can bring together what composes, as in H with a macron below.
    return unicodedata.normalize("NFC", text.strip().lower())


def check_promotion(before: User, new: Mapping[str, Any]) -> None:
    """Rights are for the owner of an address, not for whoever typed it. Raises `RoleNeedsVerified`."""
    if new.get("role", Role.STUDENT) != Role.STUDENT and not new.get("verified", before.verified):
        raise RoleNeedsVerified


def check_new_password(
    password: str, email: str, full_name: str, *, common: bool, pointer: str, school: str = ""
) -> None:
    """Raises 422 at `pointer`: 8 to 128 characters in NFC, and nothing that is guessed first."""
    normal = unicodedata.normalize("NFC", password)
    if len(normal) not in PASSWORD_LENGTHS:
        message = f"Expected {PASSWORD_LENGTHS.start} to {PASSWORD_LENGTHS.stop - 1} characters."
        raise Invalid(errors=[FieldError(code="invalid", message=message, pointer=pointer)])
    name = normal_email(full_name)
    own = {normal_email(email), normal_email(email).partition("@")[0], name, "".join(name.split())}
    message = "One of the commonest passwords." if common else ""
    if normal_email(normal) in own:
        message = "Your own name or address."
    elif _is_of(normal, school):
        message = "The school's name."
    if message:
        raise CommonPassword(errors=[FieldError(code=CommonPassword.code, message=message, pointer=pointer)])


def _is_of(password: str, school: str) -> bool:
    """Whether it is the school's name or a word of it, whatever digits and signs stand around."""
    words = normal_email(school).split()
    return _letters(password) in {_letters(school), *map(_letters, words)} - {""}


def _letters(text: str) -> str:
    return "".join(character for character in normal_email(text) if character.isalpha())


def judge_refresh(presented: int, current: int, rotated_at: datetime, now: datetime, grace: timedelta) -> Refreshing:
    """The current generation rotates, the one before is repeated for a while (phones lose answers), else a thief."""
    if presented == current:
        return Refreshing.ROTATE
    if presented == current - 1 and now - rotated_at <= grace:
        return Refreshing.REPEAT
    return Refreshing.END_FAMILY
