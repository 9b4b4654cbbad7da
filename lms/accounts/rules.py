"""Decisions about people. Pure: values in, a value or a typed error out."""

import unicodedata
from datetime import datetime, timedelta
from enum import Enum

from lms.errors import NotFound, Unauthenticated


class BadCredentials(Unauthenticated):
    detail = "The email address or the password is wrong."


class RefreshRefused(Unauthenticated):
    detail = "The refresh token is not valid or no longer valid; sign in again."


class SessionNotFound(NotFound):
    detail = "You have no such session."


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


def judge_refresh(presented: int, current: int, rotated_at: datetime, now: datetime, grace: timedelta) -> Refreshing:
    """The current generation rotates, the one before is repeated for a while (phones lose answers), else a thief."""
    if presented == current:
        return Refreshing.ROTATE
    if presented == current - 1 and now - rotated_at <= grace:
        return Refreshing.REPEAT
    return Refreshing.END_FAMILY
