"""Who is asking: bearer tokens and API keys, the verdict on a token's session, and the guards of routes.

A token's signature is checked once and remembered. Whether its session still stands is the database's word: `sessions`
and the user's `auth_epoch`, asked for all who wait at once. A process reuses a verdict for half a second, so that
a revocation is seen everywhere within one. Nothing is passed on through Redis: one person's requests are seldom so
close together that another process could still use what was found, and asking it costs every request.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send

from lms.accounts.documents import Role, SignIn, User
from lms.api_keys.documents import Scope as KeyScope
from lms.api_keys.rules import PREFIX, ApiKeyNotAllowed
from lms.clock import utc_now
from lms.errors import Forbidden, LMSError, Unauthenticated
from lms.second_factor.rules import ProofTooOld, SecondFactorRequired
from lms.together import Together
from lms.tokens import Claims, KeyRing, TokenRefused

REUSE_SECONDS = 0.5
REMEMBERED = 20_000

INVALID_TOKEN = 'Bearer error="invalid_token"'  # noqa: S105 - a challenge, no secret


@dataclass(frozen=True, slots=True)
class Caller:
    """The signed-in person, as the token and the verdict on it say.

    With an API key it is the key's owner, who has no session: `session_id` is the key's own id then, which no session
    has, and `scopes` is all that may be done.

    A `restricted` one has yet to set up the second factor that their role must have; only routes that say so in their
    `opt` get to see them.
    """

    id: UUID
    role: Role
    session_id: UUID
    scopes: frozenset[KeyScope] | None = None
    restricted: bool = False


CurrentUser = NamedDependency[Caller]
OptionalUser = NamedDependency[Caller | None]


class WrongRole(Forbidden):
    detail = "Your role does not allow this."


class TokenNotValid(Unauthenticated):
    code = Unauthenticated.code
    detail = "The access token is not valid or no longer valid."


class Recent(OrderedDict[Any, Any]):
    """A mapping that forgets its oldest entries."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > REMEMBERED:
            self.popitem(last=False)


class SessionVerdicts:
    """Whether a session stands, and at which epoch of its user. One per process."""

    def __init__(self) -> None:
        self._recent: Recent = Recent()
        self._stored = Together(_read_epochs)

    async def epoch(self, claims: Claims) -> int | None:
        """The user's current epoch, or None where the session or the user is out."""
        found = self._recent.get(claims.session_id)
        asked_at = time.monotonic()
        # A token of a later epoch than the remembered one is newer than what is remembered.
        if found is not None and asked_at < found[1] and (found[0] is None or found[0] >= claims.epoch):
            return found[0]
        epoch = await self._stored.get((claims.session_id, claims.user_id))
        self._recent[claims.session_id] = (epoch, asked_at + REUSE_SECONDS)
        return epoch

    def forget(self, *session_ids: UUID) -> None:
        """Called where a session ends, so that this process need not wait until its verdict is old."""
        for session_id in session_ids:
            self._recent.pop(session_id, None)


async def _read_epochs(keys: list[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], int]:
    """The epochs of the active users whose (session, user) stands."""
    session_ids, user_ids = ([*column] for column in zip(*keys, strict=True))
    live = {"_id": {"$in": session_ids}, "ended_at": None, "expires_at": {"$gt": utc_now()}}
    active = {"_id": {"$in": user_ids}, "active": True}
    sessions, users = await asyncio.gather(
        SignIn.get_pymongo_collection().find(live, {"user_id": 1}).to_list(),
        User.get_pymongo_collection().find(active, {"auth_epoch": 1}).to_list(),
    )
    epochs = {user["_id"]: int(user["auth_epoch"]) for user in users}
    pairs = ((session["_id"], session["user_id"]) for session in sessions)
    return {pair: epochs[pair[1]] for pair in pairs if pair[1] in epochs}


class ApiKeys(Protocol):
    """Tells whose a key is."""

    async def caller(self, text: str) -> Caller:
        """Raises `Unauthenticated` for a key that does not stand."""
        ...


class Authentication(ASGIMiddleware):
    """Sets `scope["user"]` to the `Caller` or None. Why it is None is remembered: the route decides what it means.

    A route that names no scope (`opt={"scope": ...}`) is asked by a visitor where it is asked with an API key, which is
    then not even looked up; who wants to know who asks is told that keys do not count there. Likewise a restricted
    caller is a visitor to all routes but those with `opt={"restricted": True}`, so that none can forget it; what a
    visitor would be refused is then a 403 that says what is missing.
    """

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "own_credentials"

    def __init__(self, keys: KeyRing, verdicts: SessionVerdicts, api_keys: ApiKeys) -> None:
        self._keys = keys
        self._verdicts = verdicts
        self._api_keys = api_keys
        self._verified: Recent = Recent()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        scope["user"] = None
        if header is None:
            await next_app(scope, receive, send)
            return
        token = _bearer(header)
        is_key = token.startswith(PREFIX)
        if is_key and "scope" not in scope["route_handler"].opt:
            scope["state"]["key_not_allowed"] = True
            await next_app(scope, receive, send)
            return
        try:
            caller = await (self._key_owner(token, scope) if is_key else self._caller(token))
        except Unauthenticated as refusal:
            refusal.headers["WWW-Authenticate"] = INVALID_TOKEN
            scope["state"]["token_refused"] = refusal
            await next_app(scope, receive, _for_a_visitor(send, INVALID_TOKEN))
            return
        if caller.restricted and not scope["route_handler"].opt.get("restricted"):
            scope["state"]["second_factor_missing"] = True
            send = _for_a_visitor(send)
        else:
            scope["user"] = caller
        await next_app(scope, receive, send)

    async def _key_owner(self, text: str, scope: Scope) -> Caller:
        caller = await self._api_keys.caller(text)
        scope["state"]["api_key_id"] = str(caller.session_id)
        return caller

    async def _caller(self, token: str) -> Caller:
        try:
            claims = self._claims(token)
        except TokenRefused:
            raise TokenNotValid from None
        if await self._verdicts.epoch(claims) != claims.epoch:
            raise TokenNotValid
        return Caller(claims.user_id, Role(claims.role), claims.session_id, restricted=claims.restricted)

    def _claims(self, token: str) -> Claims:
        now = utc_now()
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verified[token] = self._keys.verify(token, now)
        if claims.expires_at <= now.timestamp():
            raise TokenRefused("expired")
        return claims


def _bearer(header: bytes) -> str:
    """The token; empty where it is another scheme."""
    scheme, _, token = header.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _for_a_visitor(send: Send, challenge: str | None = None) -> Send:
    """A public read with a token that does not count is served as for a visitor, and says so: not to be kept."""

    async def send_for_now(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            if challenge is not None:
                kept = (pair for pair in headers if pair[0].lower() != b"www-authenticate")
                headers = [*kept, (b"www-authenticate", challenge.encode())]
            message["headers"] = [*headers, (b"vary", b"Authorization"), (b"cache-control", b"no-store")]
        await send(message)

    return send_for_now


def requires(*roles: Role) -> Guard:
    """A guard that lets in only these roles. An administrator is let in where ADMIN is named, nowhere else."""

    async def check_role(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        caller: Caller | None = connection.scope["user"]
        if caller is None:
            raise signed_out(connection)
        if caller.role not in roles:
            raise WrongRole

    return check_role


ANYONE_SIGNED_IN = tuple(Role)


async def proved_recently(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard of dangerous actions: whoever is signed in has proved who they are a few minutes ago, with all factors.

    It stands behind `requires(...)`. Reads the session, so it is for what is done now and then.
    """
    caller: Caller | None = connection.scope["user"]
    if caller is None:
        raise signed_out(connection)
    await check_proof(caller, connection.app.state.proof_life)


async def check_proof(caller: Caller, life: timedelta) -> None:
    """Raises `ProofTooOld` where the session has none of the last `life`."""
    fresh = {"_id": caller.session_id, "user_id": caller.id, "proved_at": {"$gt": utc_now() - life}}
    if await SignIn.get_pymongo_collection().find_one(fresh, {"_id": 1}) is None:
        raise ProofTooOld


def signed_out(connection: ASGIConnection[Any, Any, Any, Any]) -> LMSError:
    state = connection.scope["state"]
    if state.get("key_not_allowed"):
        return ApiKeyNotAllowed()
    if state.get("second_factor_missing"):
        return SecondFactorRequired()
    refusal: Unauthenticated | None = state.get("token_refused")
    return refusal or Unauthenticated()


async def provide_user(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The dependency `user`: raises 401 for a visitor."""
    caller: Caller | None = request.scope["user"]
    if caller is None:
        raise signed_out(request)
    return caller


async def provide_viewer(request: ASGIConnection[Any, Any, Any, Any]) -> Caller | None:
    """The dependency `viewer` of public reads: None for a visitor."""
    if request.scope["state"].get("key_not_allowed"):
        raise ApiKeyNotAllowed
    return request.scope["user"]
