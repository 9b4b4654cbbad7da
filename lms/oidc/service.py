"""Signing in at a provider: away to it, back from it, and what an app gets for that; one's own identities."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from lms.accounts.documents import User
from lms.accounts.rules import BadCredentials
from lms.accounts.schemas import CodeAsked, Tokens
from lms.accounts.service import Accounts
from lms.audit import record
from lms.audit.documents import Act
from lms.auth import Caller
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.oidc.addresses import return_address, with_fragment
from lms.oidc.documents import Identity, OidcCode, OidcStart
from lms.oidc.linking import Arrival
from lms.oidc.provider import ANEW, Provider
from lms.oidc.rules import (
    Failure,
    IdentityNotFound,
    OidcCodeRefused,
    Person,
    SignInFailed,
    check_asked_again,
    check_issuer,
    check_unlinking,
    failure_of,
)
from lms.oidc.schemas import OidcExchange
from lms.settings import Settings
from lms.tokens import derived_token, digest_of, new_nonce
from lms.transactions import Session, in_transaction

security = structlog.get_logger("lms.security")

START_LIFE = timedelta(minutes=10)
CODE_LIFE = timedelta(seconds=60)
SHARE_OF_REQUEST = 0.7
"""What of a request's time may be spent on the provider, so that the app is still told when it does not answer."""

Query = Mapping[str, Sequence[str]]


def callback_url(settings: Settings, provider: str) -> str:
    return f"{settings.public_url}/api/v1/auth/oidc/{provider}/callback"


async def start(
    settings: Settings, provider: Provider, cookie: str, *, return_to: str, app_challenge: str, prompt: str | None
) -> str:
    """Where the browser goes: to the provider, or back with an error. Raises `ReturnAddressRefused`."""
    back = return_address(return_to, settings.links_to, settings.cors_origins)
    name, state = provider.config.name, new_nonce()
    try:
        async with asyncio.timeout(settings.request_timeout_seconds * SHARE_OF_REQUEST):
            address = await provider.authorization(
                state,
                derived_token(settings, "oidc.nonce", state),
                challenge_of(derived_token(settings, "oidc.verifier", state)),
                callback_url(settings, name),
                prompt,
            )
    except TimeoutError:
        return _failed(back, name, SignInFailed(Failure.PROVIDER_UNAVAILABLE, "too slow"))
    except SignInFailed as error:
        return _failed(back, name, error)
    now = utc_now()
    await OidcStart(
        id=digest_of(state),
        provider=name,
        browser=digest_of(cookie),
        return_to=back,
        app_challenge=app_challenge,
        anew_since=now if prompt == ANEW else None,
        expires_at=now + START_LIFE,
    ).insert()
    return address


async def come_back(accounts: Accounts, provider: Provider, cookie: str, query: Query) -> str:
    """Where the browser goes from the callback: to the app, with a code or with an error."""
    settings, name = accounts.settings, provider.config.name
    state = _only(query, "state")
    started = await OidcStart.take(name, state, cookie)
    if started is None:
        # Not to where that sign-in wanted to return: it is another browser's, or over.
        unknown = SignInFailed(Failure.STATE_REFUSED, "unknown, used, expired, or of another browser")
        return _failed(f"{settings.links_to}/", name, unknown)
    try:
        person = await _identify(settings, provider, state, query)
        check_asked_again(person, started.anew_since)
        arrival = Arrival(name, person)
        user = await arrival.user()
    except SignInFailed as error:
        return _failed(started.return_to, name, error)
    accounts.forget(arrival.ended)
    code = new_nonce()
    await OidcCode(
        id=digest_of(code),
        provider=name,
        user_id=user.id,
        auth_epoch=user.auth_epoch,
        methods=list(person.methods),
        auth_time=person.auth_time,
        app_challenge=started.app_challenge,
        expires_at=utc_now() + CODE_LIFE,
    ).insert()
    return with_fragment(started.return_to, code=code, provider=name)


async def _identify(settings: Settings, provider: Provider, state: str, query: Query) -> Person:
    try:
        async with asyncio.timeout(settings.request_timeout_seconds * SHARE_OF_REQUEST):
            metadata = await provider.metadata()
            code = _only(query, "code")
            # Some that promise to name themselves do not do so in an error, which can do no harm.
            is_promised = metadata.tells_issuer and bool(code)
            check_issuer(query.get("iss", ()), provider.config.issuer, is_promised=is_promised)
            if not code:
                raise failure_of(_only(query, "error"))
            return await provider.person(
                code,
                derived_token(settings, "oidc.verifier", state),
                derived_token(settings, "oidc.nonce", state),
                callback_url(settings, provider.config.name),
            )
    except TimeoutError:
        raise SignInFailed(Failure.PROVIDER_UNAVAILABLE, "too slow") from None


def _only(query: Query, name: str) -> str:
    """A parameter that was given once; of one that was given twice nobody can say which counts."""
    values = query.get(name, ())
    return values[0] if len(values) == 1 else ""


def _failed(back: str, provider: str, error: SignInFailed) -> str:
    security.info("oidc_sign_in_failed", provider=provider, failure=str(error.failure), reason=error.reason)
    return with_fragment(back, error=str(error.failure), provider=provider)


async def exchange(accounts: Accounts, provider: Provider, data: OidcExchange) -> Tokens | CodeAsked:
    """Tokens for a code, once, and only for the app that holds the verifier. Raises `OidcCodeRefused`."""
    code = await OidcCode.take(provider.config.name, data.code)
    if code is None or not hmac.compare_digest(challenge_of(data.app_verifier), code.app_challenge):
        raise OidcCodeRefused
    user = await User.get(code.user_id)
    if user is None or not user.active or user.auth_epoch != code.auth_epoch:
        raise OidcCodeRefused
    try:
        return await identified(accounts, user, code.methods, code.auth_time)
    except BadCredentials:
        # Closed or changed since it was read.
        raise OidcCodeRefused from None


async def identified(
    accounts: Accounts, user: User, methods: list[str], auth_time: datetime | None
) -> Tokens | CodeAsked:
    """What follows once a provider has said who somebody is, by `methods`: `fed`, and `mfa` where that counts.

    Who has a second factor here gives its code, unless a provider that is trusted in this has asked for one. Providers
    let in without a question who is signed in there, so that coming from one is as old a proof as it says.
    """
    if "mfa" in methods:
        return await accounts.open_session(user, methods, proved_at=auth_time)
    return await accounts.open_or_ask(user, methods, proved_at=auth_time)


def challenge_of(verifier: str) -> str:
    """RFC 7636's S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


async def unlink(caller: Caller, identity_id: UUID) -> None:
    """Raises `IdentityNotFound` for what is not the caller's, `OnlyWayIn` where nothing else would be left."""

    async def write(session: Session) -> None:
        mine = {"_id": identity_id, "user_id": caller.id}
        identity = await Identity.find_one(mine, session=session)
        if identity is None:
            raise IdentityNotFound
        # Two who remove the last two at once meet here.
        user = await User.get_pymongo_collection().find_one_and_update(
            {"_id": caller.id}, {"$inc": {"rev": 1}}, {"password_hash": 1}, session=session
        )
        if user is None:
            raise Unauthenticated
        identities = Identity.get_pymongo_collection()
        count = await identities.count_documents({"user_id": caller.id}, session=session)
        check_unlinking(has_password=bool(user["password_hash"]), identities=count)
        await identities.delete_one(mine, session=session)
        facts = {"identity_id": str(identity_id), "provider": identity.provider, "issuer": identity.issuer}
        await record(session, Act.IDENTITY_UNLINKED, actor=caller.id, target=caller.id, facts=facts)

    await in_transaction(write)
