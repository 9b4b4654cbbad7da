"""Decisions about second factors. Pure: values in, a value or a typed error out."""

from collections.abc import Collection

from lms.accounts.documents import User
from lms.errors import Conflict, FieldError, Forbidden, Invalid, RateLimited, Unauthenticated
from lms.second_factor.documents import SignInChallenge

TRIES_A_CHALLENGE = 5
TRIES_AT_ENROLLING = 5
WAITS = (0, 0, 0, 0, 60, 120, 240, 480, 900)
"""Seconds to wait after the first wrong code in a row, the second, and so on; after all others as after the last one.

Three of a million codes are right at a time, so that four guesses an hour find one in some ten years.
"""
LOCKED_FROM = next(number for number, wait in enumerate(WAITS, start=1) if wait)


class SecondFactorRequired(Forbidden):
    detail = "Your role needs a second factor; set one up first, at POST /api/v1/auth/mfa/totp."


class ProofTooOld(Forbidden):
    detail = (
        "Prove again who you are, at POST /api/v1/auth/prove or, without a password, by signing in again at the "
        "provider with prompt=login, and then repeat this."
    )


class ChallengeRefused(Unauthenticated):
    detail = "This sign-in is over, was finished or had too many wrong codes; sign in again."


class WrongCode(Forbidden):
    detail = "The code is wrong, too old or used already."


class TooManyCodes(RateLimited):
    detail = "Too many wrong codes; wait and try again."


class NothingToConfirm(Conflict):
    detail = "There is no authenticator app to confirm, or not any more; begin again."


class NoSecondFactor(Conflict):
    detail = "You have no second factor."


class RoleNeedsFactor(Conflict):
    detail = "Your role must have a second factor; set up another one, which takes this one's place."


def given(password: str | None) -> str:
    """Raises 422 where it is left out."""
    if password is None:
        message = "Give your password."
        raise Invalid(errors=[FieldError(code="required", message=message, pointer="#/current_password")])
    return password


def lacks_factor(user: User, required_for: Collection[str]) -> bool:
    """Whether they may do nothing but set one up."""
    return user.totp is None and user.role in required_for


def check_one_code(code: object, recovery_code: object, *, required: bool = True) -> None:
    """Raises 422 where there are both, or neither although one is required."""
    if code is not None and recovery_code is not None:
        message = "Give a code or a recovery code, not both."
        raise Invalid(errors=[FieldError(code="invalid", message=message, pointer="#/recovery_code")])
    if required and code is None and recovery_code is None:
        message = "Give the code that your app shows, or a recovery code."
        raise Invalid(errors=[FieldError(code="required", message=message, pointer="#/code")])


def counts_for(challenge: SignInChallenge, user: User) -> bool:
    """Whoever changed the password or the role meanwhile, or closed the account, may not have wanted this sign-in."""
    then, now = (challenge.password_rev, challenge.auth_epoch), (user.password_rev, user.auth_epoch)
    return user.active and user.totp is not None and then == now
