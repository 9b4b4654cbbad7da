"""Who is asking: bearer tokens, the verdict on their session, and the guards of routes.

A token's signature is checked once and remembered. Whether its session still stands is the database's word: `sessions`
and the user's `auth_epoch`. A process reuses a verdict for half a second, Redis passes it on for 0.4 s at most, so
that together a revocation is seen everywhere within one second.
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
from redis.asyncio import Redis

from lms.accounts.documents import Role, SignIn, User
from lms.clock import utc_now
from lms.errors import Forbidden, Unauthenticated
from lms.redis_client import Accelerator, RedisUnavailable
from lms.tokens import Claims, KeyRing, TokenRefused

REUSE_SECONDS = 0.5
SHARED_MILLISECONDS = 400
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
    """Whether a session stands, and at which epoch of its user."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._recent: Recent = Recent()

    async def epoch(self, claims: Claims) -> int | None:
        """The user's current epoch, or None where the session or the user is out."""
        found = self._recent.get(claims.session_id)
        asked_at = time.monotonic()
        # A token of a later epoch than the remembered one is newer than what is remembered.
        if found is not None and asked_at < found[1] and (found[0] is None or found[0] >= claims.epoch):
            return found[0]
        epoch, redis_now = await self._shared(claims.session_id)
        if epoch is None or epoch < claims.epoch:
            asked_at = time.monotonic()
            epoch = await self._stored(claims)
            if epoch is not None and redis_now is not None:
                await self._share(claims.session_id, epoch, redis_now + SHARED_MILLISECONDS)
        self._recent[claims.session_id] = (epoch, asked_at + REUSE_SECONDS)
        return epoch

    async def _shared(self, session_id: UUID) -> tuple[int | None, int | None]:
        """The verdict that Redis has, and its clock in milliseconds; None for what it did not tell."""
        key = self._accelerator.key("session", session_id)

        async def look(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as both:
                both.get(key)
                both.time()
                return await both.execute()

        try:
            value, (seconds, microseconds) = await self._accelerator.call(look)
        except RedisUnavailable:
            return None, None
        return None if value is None else int(value), seconds * 1000 + microseconds // 1000

    async def _share(self, session_id: UUID, epoch: int, until: int) -> None:
        """Never over another one. Its end was fixed, by Redis's own clock, before the database was asked.

        So a command that a slow or frozen server carries out late passes on nothing that is old.
        """
        key = self._accelerator.key("session", session_id)
        try:
            await self._accelerator.call(lambda redis: redis.set(key, epoch, pxat=until, nx=True))
        except RedisUnavailable:
            return

    async def _stored(self, claims: Claims) -> int | None:
        live = {"_id": claims.session_id, "user_id": claims.user_id, "ended_at": None, "expires_at": {"$gt": utc_now()}}
        session, user = await asyncio.gather(
            SignIn.get_pymongo_collection().find_one(live, {"_id": 1}),
            User.get_pymongo_collection().find_one({"_id": claims.user_id, "active": True}, {"auth_epoch": 1}),
        )
        return None if session is None or user is None else int(user["auth_epoch"])

    async def forget(self, *session_ids: UUID) -> None:
        """Called where a session ends, so that this process and Redis know at once."""
        for session_id in session_ids:
            self._recent.pop(session_id, None)
        keys = [self._accelerator.key("session", session_id) for session_id in session_ids]
        try:
            await self._accelerator.call(lambda redis: redis.delete(*keys))
        except RedisUnavailable:
            return


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
