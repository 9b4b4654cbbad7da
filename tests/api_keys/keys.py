"""Keys for tests, stored without a request."""

import secrets
from datetime import timedelta
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from lms.accounts.documents import User
from lms.api_keys.documents import ApiKey, Scope
from lms.api_keys.rules import key_text, parse_key
from lms.clock import utc_now
from lms.ids import new_id
from lms.tokens import digest_of

ALL = tuple(Scope)


async def a_key(owner: User, *scopes: Scope, **fields: Any) -> tuple[ApiKey, str]:
    """A stored key with these scopes, and its text."""
    key_id = new_id()
    text = key_text(key_id, secrets.token_bytes(32))
    values: dict[str, Any] = {
        "owner_id": owner.id,
        "name": "nightly load",
        "scopes": list(scopes),
        "digest": digest_of(parse_key(text)[1]),
        "expires_at": utc_now() + timedelta(days=90),
    }
    return await ApiKey(id=key_id, **(values | fields)).insert(), text


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def routes_of(app: Litestar) -> list[tuple[str, str, HTTPRouteHandler]]:
    """Method, path and handler of every route."""
    return [
        (method, route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    ]
