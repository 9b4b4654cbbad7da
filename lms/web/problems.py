"""Turns every failure into one shape: `application/problem+json` (RFC 9457)."""

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Scope
from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError

from lms.errors import FieldError, Invalid, LMSError, Unauthenticated, Unavailable, code_of
from lms.schemas import encode
from lms.second_factor.rules import SecondFactorRequired

MEDIA_TYPE = "application/problem+json"
UNKNOWN_OUTCOME = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
HIDING = frozenset({403, 404})

logger = structlog.get_logger("lms.errors")


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The body of every error answer. `detail` is one plain sentence; `code` is what a client decides by."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] = []


def request_id_of(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def problem_of(error: LMSError, request_id: str) -> dict[str, Any]:
    """The members of the answer to `error`, those that it brings itself last."""
    problem = Problem(
        type=f"urn:lms:problem:{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.message,
        code=error.code,
        request_id=request_id,
        errors=error.errors,
    )
    return msgspec.to_builtins(problem) | error.members


def answer(error: LMSError, request_id: str) -> Response[bytes]:
    return Response(
        encode(problem_of(error, request_id)),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=error.headers,
    )


def render_problem(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """The exception handler of the whole application."""
    error = as_ours(exception)
    if type(error) is LMSError:
        logger.error("unexpected_error", exc_info=exception, request_id=request_id_of(request.scope))
    refusal: Unauthenticated | None = request.scope.get("state", {}).get("token_refused")
    if error.status in HIDING and refusal is not None:
        # Optional sign-in: the app holds a stale token and should refresh it before it believes a 403 or 404.
        error = refusal
    elif request.scope.get("state", {}).get("second_factor_missing") and _is_for_visitors(request, error):
        # Likewise: the app should have the second factor set up before it believes what a visitor is told.
        error = SecondFactorRequired()
    return answer(error, request_id_of(request.scope))


def _is_for_visitors(request: Request[Any, Any, Any], error: LMSError) -> bool:
    """A 401 of a write may be about credentials in its body, as of a refresh; reads have none of their own."""
    return error.status in HIDING or (isinstance(error, Unauthenticated) and request.method in {"GET", "HEAD"})


def as_ours(exception: Exception) -> LMSError:
    """The client's view of any exception."""
    if isinstance(exception, LMSError):
        return exception
    if isinstance(exception, ValidationException):
        return _validation(exception)
    if isinstance(exception, HTTPException):
        return _http(exception)
    if isinstance(exception, PyMongoError) and is_outage(exception):
        return Unavailable("The database cannot be reached; nothing is known to have been saved.", part="mongodb")
    return LMSError()


def is_outage(error: PyMongoError) -> bool:
    """The database is away or slow, or a commit's outcome is unknown: trying again may work."""
    return (
        error.timeout
        or isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError)
        or any(error.has_error_label(label) for label in UNKNOWN_OUTCOME)
    )


def _validation(exception: ValidationException) -> LMSError:
    """Litestar's findings about path, query and header values; bodies are checked in `lms.web.requests`."""
    errors: list[FieldError] = []
    for item in exception.extra if isinstance(exception.extra, list) else []:
        found: dict[str, Any] = item if isinstance(item, dict) else {}
        where = "header" if str(found.get("source", "")).endswith("header") else "parameter"
        name, message = str(found.get("key", "")), str(found.get("message", exception.detail))
        errors.append(FieldError(code="invalid", message=message, **{where: name}))
    return Invalid(errors=errors or [FieldError(code="invalid", message=exception.detail, parameter="")])


class _FromLitestar(LMSError):
    """An error that the framework raises, under the status's own name."""

    def __init__(self, exception: HTTPException, phrase: str) -> None:
        super().__init__(f"{phrase}.", headers=dict(exception.headers or {}))
        self.status = exception.status_code  # pyright: ignore[reportAttributeAccessIssue]
        self.code = code_of(phrase.title().replace(" ", ""))  # pyright: ignore[reportAttributeAccessIssue]


def _http(exception: HTTPException) -> LMSError:
    if exception.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LMSError()
    return _FromLitestar(exception, HTTPStatus(exception.status_code).phrase)
