"""/metrics on the API's own port, for a scraper that knows the token."""

import asyncio
import hmac
from typing import Any

from litestar import Request, Response, Router, get

from lms.errors import NotFound, Unauthenticated
from lms.metrics import MEDIA_TYPE, read_outbox, render
from lms.settings import Settings
from lms.transactions import database


def metrics_router(settings: Settings) -> Router:
    """Without `metrics_token` there is nothing here."""
    token = settings.metrics_token.get_secret_value()
    wanted = f"Bearer {token}".encode()

    @get("/metrics", opt={"rate_limit": "none", "quiet": True, "own_credentials": True}, include_in_schema=False)
    async def read_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        if not token:
            raise NotFound
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted):
            raise Unauthenticated
        text = await asyncio.to_thread(render, await read_outbox(database()))
        return Response(text, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    return Router("/", route_handlers=[read_metrics])
