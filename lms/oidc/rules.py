"""Decisions about signing in at a provider. Pure: values in, a value or a typed error out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from lms.accounts.documents import User
from lms.errors import Conflict, FieldError, Invalid, NotFound, Unauthenticated
from lms.oidc.documents import Identity

LEEWAY_SECONDS = 60
"""How far a provider's clock may be from ours."""
LONGEST_SUBJECT = 255


class OidcProviderNotFound(NotFound):
    detail = "There is no such provider."


class OidcCodeRefused(Unauthenticated):
    detail = "The code is not valid or no longer valid; sign in again."


class IdentityNotFound(NotFound):
    detail = "You have no such identity."


class OnlyWayIn(Conflict):
    detail = "You could not sign in any more; set a password first, by asking to reset it."


class ReturnAddressRefused(Invalid):
    code = "return_address_refused"
    detail = "People can only be sent back to the school's own apps."

    def __init__(self, message: str) -> None:
        super().__init__(errors=[FieldError(code="invalid", message=message, parameter="return_to")])


class Failure(StrEnum):
    """Why a sign-in did not work, as the app is told."""

    CANCELLED = "cancelled"
    EMAIL_NOT_VERIFIED = "email_not_verified"
    LINKED_OTHERWISE = "linked_otherwise"
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    SIGN_IN_REFUSED = "sign_in_refused"
    STATE_REFUSED = "state_refused"


class SignInFailed(Exception):
    """`reason` is for the log, in words of ours."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(f"{failure}: {reason}")
        self.failure = failure
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as a provider tells of them. `email` is empty where it does not vouch for one.

    `auth_time` is when they last proved there who they are, where it says so.
    """

    issuer: str
    subject: str
    email: str
    names: tuple[str, ...]
    methods: tuple[str, ...]
    auth_time: datetime | None = None


class Linking(StrEnum):
    """What becomes of a person whom no identity is known of."""

    CREATE = "create"
    LINK = "link"
    TAKE_OVER = "take_over"


def wrong_answer(reason: str) -> SignInFailed:
    """The provider's answer is not one to believe."""
    return SignInFailed(Failure.PROVIDER_REFUSED, reason)


def failure_of(error: str) -> SignInFailed:
    """What the provider says in place of a code (RFC 6749 4.1.2.1). Its own words go no further than this."""
    if error in {"access_denied", "login_required", "interaction_required", "consent_required"}:
        return SignInFailed(Failure.CANCELLED, "cancelled at the provider")
    if error in {"temporarily_unavailable", "server_error"}:
        return SignInFailed(Failure.PROVIDER_UNAVAILABLE, "the provider says that it does not work")
    return wrong_answer("the provider refused the request")


def check_issuer(told: Sequence[str], issuer: str, *, is_promised: bool) -> None:
    """The answer comes from whom it was asked of (RFC 9207), so that one provider cannot pass for another."""
    if list(told) != [issuer] and (told or is_promised):
        raise wrong_answer("the answer names another issuer")


def check_claims(
    claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, at_hash: str, now: datetime
) -> None:
    """OpenID Connect Core 3.1.3.7, but for the signature."""
    seconds = now.timestamp()
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    times = [claims.get(name) for name in ("exp", "iat")]
    subject = claims.get("sub")
    if claims.get("iss") != issuer:
        raise wrong_answer("iss")
    if client_id not in audiences or claims.get("azp", client_id) != client_id:
        raise wrong_answer("aud")
    if len(audiences) > 1 and "azp" not in claims:
        raise wrong_answer("azp")
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times):
        raise wrong_answer("times")
    if claims["exp"] <= seconds - LEEWAY_SECONDS:
        raise wrong_answer("expired")
    if max(claims["iat"], _number(claims.get("nbf"))) > seconds + LEEWAY_SECONDS:
        raise wrong_answer("not valid yet")
    if claims.get("nonce") != nonce:
        raise wrong_answer("nonce")
    if claims.get("at_hash", at_hash) != at_hash:
        raise wrong_answer("at_hash")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise wrong_answer("sub")


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def person_of(
    issuer: str, signed: Mapping[str, Any], more: Mapping[str, Any], *, trusts_mfa: bool, now: datetime
) -> Person:
    """What the ID token's claims (`signed`) and the userinfo (`more`) tell.

    An address counts only where the provider says that it has verified it. How and when somebody proved who they are
    is the ID token's alone to say, and a second factor there counts only where the school trusts the provider in that.
    """
    claims = {**more, **signed}
    # Some providers write the boolean as text.
    is_verified = claims.get("email_verified") in (True, "true")
    methods = signed.get("amr")
    is_strong = trusts_mfa and isinstance(methods, list) and "mfa" in methods
    both = " ".join(filter(None, (_text(claims, "given_name"), _text(claims, "family_name"))))
    names = (_text(claims, "name"), both, _text(claims, "preferred_username"))
    return Person(
        issuer=issuer,
        subject=str(signed["sub"]),
        email=_text(claims, "email") if is_verified else "",
        names=tuple(name for name in names if name),
        methods=("fed", "mfa") if is_strong else ("fed",),
        auth_time=_auth_time(signed.get("auth_time"), now),
    )


def _auth_time(value: Any, now: datetime) -> datetime | None:
    """Never later than now; None for what is no time at all, such as one in milliseconds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if not 0 < value <= now.timestamp() + LEEWAY_SECONDS:
        return None
    return min(datetime.fromtimestamp(value, UTC), now)


def check_asked_again(person: Person, since: datetime | None) -> None:
    """A browser that was sent to prove anew who is there (`since`) must not come back with a proof of before."""
    if since is None:
        return
    if person.auth_time is None or person.auth_time < since - timedelta(seconds=LEEWAY_SECONDS):
        raise wrong_answer("it does not say that it has asked again")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.strip() if isinstance(value, str) else ""


def decide_linking(user: User | None, other: Identity | None) -> Linking:
    """What to do for a verified address: `user` has it here, `other` is theirs at the same issuer already.

    An address that nobody has proved here may have been signed up by a stranger, who waits for its owner to come; and
    so may one whose owner followed a link that they had not asked for. Its owner gets the account as by a reset of the
    password, without anything that could let the stranger back in.
    An address that the provider has given to somebody else must not carry the account over to them.
    """
    if user is None:
        return Linking.CREATE
    if not user.active:
        raise SignInFailed(Failure.SIGN_IN_REFUSED, "the account is closed")
    if other is not None:
        raise SignInFailed(Failure.LINKED_OTHERWISE, "the account has another identity at this issuer")
    is_safe = user.owner_proved or (user.verified and not user.password_hash)
    return Linking.LINK if is_safe else Linking.TAKE_OVER


def check_unlinking(*, has_password: bool, identities: int) -> None:
    """Raises `OnlyWayIn`."""
    if not has_password and identities <= 1:
        raise OnlyWayIn
