"""Idempotency-Key: the effect, and the record of its answer, are committed together or not at all."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from beanie import Document
from litestar import Request, Response
from litestar.di import NamedDependency
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError, OperationFailure

from lms.auth import CurrentUser
from lms.clock import utc_now
from lms.errors import Conflict, FieldError, Invalid, LMSError
from lms.schemas import Output, encode
from lms.settings import Settings
from lms.tokens import hidden_digest
from lms.transactions import Session, in_transaction
from lms.web.problems import MEDIA_TYPE, problem_of, request_id_of

KEPT_HOURS = 24
MAX_KEPT_BODY = 64 * 1024
MAX_KEY_LENGTH = 255
WRITE_CONFLICT = 112
NEVER_KEPT = frozenset({401, 403, 429})


class IdempotencyRecord(Document):
    """One answered request, under the hash of (caller, method, path, key). No `status` yet: the request runs.

    `user_id` is the caller, whose data the answer may hold, and `subject_id` another person whom it tells of.
    """

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    user_id: UUID | None = None
    subject_id: UUID | None = None
    body_hash: str
    status: int | None = None
    body: bytes | None = None
    media_type: str = "application/json"
    headers: dict[str, str] = {}
    expires_at: datetime

    class Settings:
        name = "idempotency"
        indexes = [
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
            IndexModel([("user_id", ASCENDING)], name="user"),
            IndexModel(
                [("subject_id", ASCENDING)],
                name="subject",
                partialFilterExpression={"subject_id": {"$type": "binData"}},
            ),
        ]


class IdempotencyKeyInUse(Conflict):
    detail = "The first request with this Idempotency-Key is still running."


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"
    detail = "This Idempotency-Key was used for a request with another body."


class AnswerNotKept(Conflict):
    """The first request was done; only its answer is too large to be told again, or tells of who was erased."""

    detail = "The request with this Idempotency-Key was done, but its answer is not kept."


class Answer(msgspec.Struct):
    """What an effect gives back for the client; `about` is another person whom the body tells of."""

    body: Output
    status: int = 200
    headers: dict[str, str] = {}
    about: UUID | None = None


Effect = Callable[[Session], Awaitable[Answer]]


class Once:
    """Runs a request's effect in a transaction, at most once for one key."""

    def __init__(self, request: Request[Any, Any, Any], caller_id: UUID, body: bytes, settings: Settings) -> None:
        self._request_id = request_id_of(request.scope)
        self._caller_id = caller_id
        self._key = _checked_key(request.headers.get("idempotency-key"))
        scope = "\0".join((str(caller_id), str(request.method), request.url.path, self._key or ""))
        self._id = hashlib.sha256(scope.encode()).hexdigest()
        self._body_hash = hidden_digest(settings, body)

    async def run(self, effect: Effect) -> Response[Any]:
        """The answer to `effect`, or the kept answer of the request that had this key before."""
        if self._key is None:
            return _respond(await in_transaction(effect))
        try:
            return _respond(await in_transaction(lambda session: self._recorded(effect, session)))
        except DuplicateKeyError as error:
            if ".idempotency index: _id_" not in str(error):
                raise
            return await self._kept()
        except LMSError as error:
            await self._keep_refusal(error)
            raise

    async def _recorded(self, effect: Effect, session: Session) -> Answer:
        """The record goes in first, so that a doubled request stops here and not at something the first one did."""
        records = IdempotencyRecord.get_pymongo_collection()
        try:
            await records.insert_one({"_id": self._id, **self._new_record()}, session=session)
        except OperationFailure as error:
            if error.code == WRITE_CONFLICT:
                raise IdempotencyKeyInUse(headers={"Retry-After": "1"}) from None
            raise
        done = await effect(session)
        body = encode(done.body)
        kept = body if len(body) <= MAX_KEPT_BODY else None
        change: dict[str, Any] = {"status": done.status, "body": kept, "headers": done.headers}
        change |= {} if done.about is None else {"subject_id": done.about}
        await records.update_one({"_id": self._id}, {"$set": change}, session=session)
        return done

    def _new_record(self) -> dict[str, Any]:
        expires_at = utc_now() + timedelta(hours=KEPT_HOURS)
        return {"user_id": self._caller_id, "body_hash": self._body_hash, "expires_at": expires_at}

    async def _kept(self) -> Response[Any]:
        record = await IdempotencyRecord.get(self._id)
        if record is None or record.status is None:
            raise IdempotencyKeyInUse(headers={"Retry-After": "1"})
        if record.body_hash != self._body_hash:
            raise IdempotencyKeyReused(errors=[_broken("reused", "used for another body")])
        if record.body is None:
            raise AnswerNotKept(headers=record.headers, location=record.headers.get("Location"))
        return Response(record.body, status_code=record.status, media_type=record.media_type, headers=record.headers)

    async def _keep_refusal(self, error: LMSError) -> None:
        """The effect was refused and undone; the refusal itself is what a repetition gets."""
        ours = isinstance(error, IdempotencyKeyInUse | IdempotencyKeyReused | AnswerNotKept)
        if ours or error.status in NEVER_KEPT or error.status >= 500:  # noqa: PLR2004 - HTTP's own boundary
            return
        record = self._new_record() | {
            "status": error.status,
            "body": encode(problem_of(error, self._request_id)),
            "media_type": MEDIA_TYPE,
            "headers": error.headers,
        }
        records = IdempotencyRecord.get_pymongo_collection()
        await records.update_one({"_id": self._id}, {"$setOnInsert": record}, upsert=True)


def _respond(done: Answer) -> Response[Any]:
    return Response(encode(done.body), status_code=done.status, media_type="application/json", headers=done.headers)


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise Invalid(errors=[_broken("invalid", f"1 to {MAX_KEY_LENGTH} printable ASCII characters")])
    return key


def _broken(code: str, message: str) -> FieldError:
    return FieldError(code=code, message=message, header="Idempotency-Key")


async def forget_answers(about: UUID, session: Session) -> None:
    """A repetition still does nothing again, but is told nothing of the person any more."""
    told = {"subject_id": about, "body": {"$type": "binData"}}
    await IdempotencyRecord.get_pymongo_collection().update_many(told, {"$set": {"body": None}}, session=session)


async def provide_once(request: Request[Any, Any, Any], user: CurrentUser, settings: NamedDependency[Settings]) -> Once:
    """The dependency `once` of every authenticated POST that creates or triggers something."""
    return Once(request, user.id, await request.body(), settings)
