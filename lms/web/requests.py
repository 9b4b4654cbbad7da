"""What happens to every request before its handler runs, and around all of it."""

import asyncio
import re
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from lms.errors import FieldError, Invalid, Unavailable, UnsupportedMedia
from lms.ids import new_id
from lms.web.bodies import decode_body

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

        await self.app(scope, receive, send_with_id)


class Deadline(ASGIMiddleware):
    """A request that takes too long is given up and answered 503."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await next_app(scope, receive, send)
        except TimeoutError:
            raise RequestTimeout from None


def _request_id(scope: HTTPScope) -> str:
    """The caller's own id where it is a harmless word, so that one id runs through several services."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _SAFE_ID.fullmatch(given) else new_id().hex


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Refuse query parameters that the route does not know, and bodies that break its types."""
    handler = request.route_handler
    if request.scope["query_string"] and not handler.opt.get("any_query"):
        _check_query(request, handler)
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is not None and handler.opt.get("json_body", True):
        if request.content_type[0] != "application/json":
            raise UnsupportedMedia
        decode_body(await request.body(), data.annotation)


def _check_query(request: Request[Any, Any, Any], handler: HTTPRouteHandler) -> None:
    known = known_query(request, handler)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        hint = f"Known here: {', '.join(sorted(known))}." if known else "This route takes none."
        raise Invalid(
            errors=[
                FieldError(
                    code="unknown_parameter", message=f"There is no such parameter. {hint}", parameter=name[:100]
                )
                for name in unknown[:100]
            ]
        )


def known_query(request: Request[Any, Any, Any], handler: HTTPRouteHandler) -> frozenset[str]:
    """The query parameters of the handler and its dependencies, as the framework resolved them."""
    cached: frozenset[str] | None = handler.opt.get("known_query")
    if cached is None:
        path = request.scope["path_template"]
        route = next(one for one in request.app.routes if one.path_format == path)
        model = handler.create_kwargs_model(path_parameters=route.path_parameters)
        cached = frozenset(one.field_alias for one in model.expected_query_params)
        handler.opt["known_query"] = cached
    return cached
