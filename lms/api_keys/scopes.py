"""The door that every API key has to pass: a route names the scope that it needs."""

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as Asgi

from lms.api_keys.documents import Scope
from lms.api_keys.rules import ScopeMissing
from lms.auth import Caller
from lms.web.problems import answer, request_id_of


class KeyScopes(ASGIMiddleware):
    """Runs after the limits, and answers by itself, so that a refusal is counted and told like any other answer.

    Only to routes with a scope does `Authentication` let a key.
    """

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Asgi, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        caller: Caller | None = scope.get("user")
        if caller is not None and caller.scopes is not None:
            needed: Scope = scope["route_handler"].opt["scope"]
            if needed not in caller.scopes:
                error = ScopeMissing(f"The API key has not the scope {needed}, which this needs.", scope=needed)
                refusal = answer(error, request_id_of(scope)).to_asgi_response(None, Request(scope))
                await refusal(scope, receive, send)
                return
        await next_app(scope, receive, send)
