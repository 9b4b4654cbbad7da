"""Where the request that is being answered comes from: recorded, never trusted."""

from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from litestar.types import HTTPScope

MAX_USER_AGENT = 300
IPV6_NETWORK_BITS = 64

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


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The address; of IPv6 the /64, since one customer is given 2^64 addresses."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((found, IPV6_NETWORK_BITS), strict=False))
