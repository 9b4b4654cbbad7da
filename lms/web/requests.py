"""What happens to every request before its handler runs, and around all of it."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from lms.errors import FieldError, Invalid, Unavailable, UnsupportedMedia
from lms.ids import new_id
from lms.origin import answering
from lms.web.bodies import decode_body

MOST_PARAMETERS = 100
_SAFE_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")


class RequestTimeout(Unavailable):
    detail = "The request took too long and was given up."


class RequestId:
    """The outermost layer, for unknown routes too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        asked_before = answering(scope)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            asked_before.var.reset(asked_before)


class Deadline(ASGIMiddleware):
    """A request that takes too long is given up and answered 503.

    Of an answer with `opt={"streamed": True}` each part has that long to be read and sent: one that stands still, or
    whose reader does, is broken off, and one of any size that moves is not.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        try:
            async with asyncio.timeout(self.seconds) as limit:
                streamed = scope["route_handler"].opt.get("streamed")
                await next_app(scope, receive, self._prolonging(send, limit) if streamed else send)
        except TimeoutError:
            raise RequestTimeout from None

    def _prolonging(self, send: Send, limit: asyncio.Timeout) -> Send:
        async def send_and_prolong(message: Message) -> None:
            await send(message)
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time() + self.seconds)

        return send_and_prolong


def _request_id(scope: HTTPScope) -> str:
    """The caller's own id where it is a harmless word, so that one id runs through several services."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _SAFE_ID.fullmatch(given) else new_id().hex


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Refuse what the route does not know, and name everything that breaks its types."""
    handler = request.route_handler
    if not handler.opt.get("any_query") and (request.scope["query_string"] or _needs_query(request, handler)):
        _check_query(request, handler)
    if request.method == "POST" and "idempotency-key" in request.headers and not handler.opt.get("idempotent"):
        message = "This route keeps no answers; leave the header out."
        raise Invalid(errors=[FieldError(code="not_supported", message=message, header="Idempotency-Key")])
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is not None:
        if request.content_type[0] != "application/json":
            raise UnsupportedMedia
        decode_body(await request.body(), data.annotation)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter of a route: its name, its type with all limits, and whether it may be repeated."""

    name: str
    kind: Any
    repeated: bool
    required: bool

    def errors(self, request: Request[Any, Any, Any]) -> list[FieldError]:
        values: list[str] = request.query_params.getall(self.name)
        if len(values) > 1 and not self.repeated:
            return [FieldError(code="repeated", message="Give this parameter once.", parameter=self.name)]
        try:
            msgspec.convert(values if self.repeated else values[0], self.kind, strict=False)
        except msgspec.ValidationError as error:
            message = f"{str(error).split(' - at ', maxsplit=1)[0].replace('`', '')}."
            return [FieldError(code="invalid", message=message, parameter=self.name)]
        return []


def _check_query(request: Request[Any, Any, Any], handler: HTTPRouteHandler) -> None:
    known = _parameters(request, handler)
    given = list(dict.fromkeys(request.query_params))[:MOST_PARAMETERS]
    errors: list[FieldError] = []
    for name in given:
        if name in known:
            errors += known[name].errors(request)
        else:
            hint = f"Known here: {', '.join(sorted(known))}." if known else "This route takes none."
            message = f"There is no such parameter. {hint}"
            errors.append(FieldError(code="unknown_parameter", message=message, parameter=name[:100]))
    missing = [name for name, one in known.items() if one.required and name not in given]
    message = "This parameter is required."
    errors += [FieldError(code="required", message=message, parameter=name) for name in missing]
    if errors:
        raise Invalid(errors=errors)


def _needs_query(request: Request[Any, Any, Any], handler: HTTPRouteHandler) -> bool:
    """Whether the route cannot do without; worked out once."""
    needs: bool | None = handler.opt.get("needs_query")
    if needs is None:
        needs = handler.opt["needs_query"] = any(one.required for one in _parameters(request, handler).values())
    return needs


def _parameters(request: Request[Any, Any, Any], handler: HTTPRouteHandler) -> dict[str, Parameter]:
    """The query parameters of the handler and its dependencies, as the framework resolved them; worked out once."""
    cached: dict[str, Parameter] | None = handler.opt.get("query_parameters")
    if cached is None:
        path = request.scope["path_template"]
        route = next(one for one in request.app.routes if one.path_format == path)
        model = handler.create_kwargs_model(path_parameters=route.path_parameters)
        signatures = [handler.signature_model]
        signatures += [one.provide.signature_model for batch in model.dependency_batches for one in batch]
        kinds = {name: kind for signature in signatures for name, kind in signature.__annotations__.items()}
        cached = {
            one.field_alias: Parameter(one.field_alias, kinds[one.field_name], one.is_sequence, one.is_required)
            for one in model.expected_query_params
        }
        handler.opt["query_parameters"] = cached
    return cached
