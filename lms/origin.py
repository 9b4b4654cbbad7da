"""Where the request that is being answered comes from: recorded, never trusted."""

from contextvars import ContextVar, Token
from dataclasses import dataclass

from litestar.types import HTTPScope

MAX_USER_AGENT = 300

_request: ContextVar[HTTPScope | None] = ContextVar("lms_request", default=None)


@dataclass(frozen=True, slots=True)
class Origin:
    """All empty outside of a request, as for an operator's command."""

    request_id: str = ""
    address: str = ""
    user_agent: str = ""
    api_key_id: str = ""


def answering(scope: HTTPScope) -> Token[HTTPScope | None]:
    """Called once a request, in its own context."""
    return _request.set(scope)


def origin() -> Origin:
    scope = _request.get()
    if scope is None:
        return Origin()
    client = scope["client"]
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    return Origin(
        request_id=str(scope["state"].get("request_id", "")),
        address=client[0] if client else "",
        user_agent=agent.decode("latin-1")[:MAX_USER_AGENT],
        api_key_id=str(scope["state"].get("api_key_id", "")),
    )
