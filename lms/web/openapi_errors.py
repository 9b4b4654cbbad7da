"""Which errors an operation answers with: those that its shape brings along, and those that its handler declares."""

from typing import Any, Literal

from litestar.handlers import HTTPRouteHandler

from lms.api_keys.rules import ApiKeyNotAllowed, ScopeMissing
from lms.auth import WrongRole, proved_recently
from lms.errors import (
    Invalid,
    LMSError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from lms.second_factor.rules import ProofTooOld, SecondFactorRequired
from lms.web.bodies import MalformedJson
from lms.web.etags import RevisionMismatch
from lms.web.idempotency import IdempotencyKeyInUse, IdempotencyKeyReused

GUARD = "requires."


def errors_of(operation: dict[str, Any], method: str, handler: HTTPRouteHandler) -> list[type[LMSError]]:
    """Each error once, in the order of a request's way through the layers."""
    places = {one["in"] for one in operation["parameters"]}
    body = "requestBody" in operation
    always = signs_in(handler) == "always"
    found: dict[type[LMSError], bool] = {
        MalformedJson: body,
        TooLarge: body,
        UnsupportedMedia: body,
        Invalid: body or "query" in places,
        Unauthenticated: always,
        WrongRole: always,
        ApiKeyNotAllowed: always and "scope" not in handler.opt,
        ScopeMissing: "scope" in handler.opt,
        SecondFactorRequired: always and not handler.opt.get("restricted"),
        ProofTooOld: proved_recently in handler.resolve_guards(),
        IdempotencyKeyInUse: bool(handler.opt.get("idempotent")),
        IdempotencyKeyReused: bool(handler.opt.get("idempotent")),
        RevisionMismatch: is_conditional_write(method, handler),
    }
    declared: list[type[LMSError]] = list(handler.opt.get("errors", ()))
    if "path" in places and not any(error.status == NotFound.status for error in declared):
        declared.append(NotFound)
    errors = [error for error, wanted in found.items() if wanted] + declared
    errors += [RateLimited] if is_limited(handler) else []
    return list(dict.fromkeys([*errors, LMSError, Unavailable]))


def signs_in(handler: HTTPRouteHandler) -> Literal["never", "maybe", "always"]:
    """Whether the handler, or what it depends on, wants to know who asks."""
    guards = [str(getattr(guard, "__qualname__", "")) for guard in handler.resolve_guards()]
    asked = _asked_for(handler)
    if any(name.startswith(GUARD) for name in guards) or "user" in asked:
        return "always"
    return "maybe" if "viewer" in asked or "scope" in handler.opt else "never"


def _asked_for(handler: HTTPRouteHandler) -> set[str]:
    """Names of the handler's dependencies, and of theirs."""
    provided = handler.resolve_dependencies()
    names: set[str] = set()
    waiting = set(handler.parsed_fn_signature.parameters)
    while waiting:
        name = waiting.pop()
        names.add(name)
        if name in provided:
            waiting |= provided[name].parsed_fn_signature.parameters.keys() - names
    return names


def is_limited(handler: HTTPRouteHandler) -> bool:
    return handler.opt.get("rate_limit") != "none"


def is_conditional_write(method: str, handler: HTTPRouteHandler) -> bool:
    return bool(handler.opt.get("conditional")) and method != "GET"
