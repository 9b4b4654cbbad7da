"""Who is asking: bearer tokens, the verdict on their session, and the guards of routes.

A token's signature is checked once and remembered. Whether its session still stands is the database's word: `sessions`
and the user's `auth_epoch`, asked for all who wait at once. A process reuses a verdict for half a second, so that
a revocation is seen everywhere within one. Nothing is passed on through Redis: one person's requests are seldom so
close together that another process could still use what was found, and asking it costs every request.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send

from lms.accounts.documents import Role, SignIn, User
from lms.clock import utc_now
from lms.errors import Forbidden, Unauthenticated
from lms.together import Together
from lms.tokens import Claims, KeyRing, TokenRefused

REUSE_SECONDS = 0.5
REMEMBERED = 20_000

INVALID_TOKEN = 'Bearer error="invalid_token"'  # noqa: S105 - a challenge, no secret


@dataclass(frozen=True, slots=True)
class Caller:
    """The signed-in person, as the token and the verdict on it say."""

    id: UUID
    role: Role
    session_id: UUID


CurrentUser = NamedDependency[Caller]
OptionalUser = NamedDependency[Caller | None]


class WrongRole(Forbidden):
    detail = "Your role does not allow this."


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


class Authentication(ASGIMiddleware):
    """Sets `scope["user"]` to the `Caller` or None. A refused token is remembered: the route decides what it means."""

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "own_credentials"

    def __init__(self, keys: KeyRing, verdicts: SessionVerdicts) -> None:
        self._keys = keys
        self._verdicts = verdicts
        self._verified: Recent = Recent()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        scope["user"] = None
        if header is None:
            await next_app(scope, receive, send)
            return
        scope["user"] = await self._caller(header)
        if scope["user"] is None:
            scope["state"]["token_refused"] = True
            send = _for_a_visitor(send)
        await next_app(scope, receive, send)

    async def _caller(self, header: bytes) -> Caller | None:
        scheme, _, token = header.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = self._claims(token.strip())
        except TokenRefused:
            return None
        if await self._verdicts.epoch(claims) != claims.epoch:
            return None
        return Caller(claims.user_id, Role(claims.role), claims.session_id)

    def _claims(self, token: str) -> Claims:
        now = utc_now()
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verified[token] = self._keys.verify(token, now)
        if claims.expires_at <= now.timestamp():
            raise TokenRefused("expired")
        return claims


def _for_a_visitor(send: Send) -> Send:
    """A public read with a bad token is served as for a visitor, and says so."""

    async def send_with_challenge(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0].lower() != b"www-authenticate"]
            challenge = (b"www-authenticate", INVALID_TOKEN.encode())
            headers = [*kept, challenge, (b"vary", b"Authorization"), (b"cache-control", b"no-store")]
            message["headers"] = headers
        await send(message)

    return send_with_challenge


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


def signed_out(connection: ASGIConnection[Any, Any, Any, Any]) -> Unauthenticated:
    if connection.scope["state"].get("token_refused"):
        return Unauthenticated("The access token is not valid or no longer valid.", challenge=INVALID_TOKEN)
    return Unauthenticated()


async def provide_user(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The dependency `user`: raises 401 for a visitor."""
    caller: Caller | None = request.scope["user"]
    if caller is None:
        raise signed_out(request)
    return caller


async def provide_viewer(request: ASGIConnection[Any, Any, Any, Any]) -> Caller | None:
    """The dependency `viewer` of public reads: None for a visitor."""
    return request.scope["user"]
