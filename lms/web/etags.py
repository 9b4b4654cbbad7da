"""Conditional requests (RFC 9110): strong ETags from revisions, weak ones from the bytes of an answer."""

import hashlib
import re
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from lms.errors import FieldError, Invalid, PreconditionFailed

_TAG = re.compile(r'(?:W/)?"[^"\x00-\x20\x7f]*"')
_DROPPED_BY_304 = frozenset({b"content-length", b"content-type", b"content-encoding"})


class RevisionMismatch(PreconditionFailed):
    detail = "Somebody changed this since you read it; look at `current` and decide again."

    def __init__(self, etag: str, current: dict[str, Any]) -> None:
        super().__init__(headers={"ETag": etag}, current=current)


def strong_tag(*revisions: int) -> str:
    """An ETag made of revision numbers, such as `"3.7"`."""
    return f'"{".".join(map(str, revisions))}"'


def if_match(request: Request[Any, Any, Any]) -> list[str] | None:
    """The tags that the caller last saw; None where it does not mind (no header, or `*`). Raises 422 if malformed."""
    value = request.headers.get("if-match")
    if value is None or value.strip() == "*":
        return None
    tags = [part.strip() for part in value.split(",")]
    if not all(_TAG.fullmatch(tag) for tag in tags):
        message = 'A list of quoted tags, such as "3.7", or *.'
        raise Invalid(errors=[FieldError(code="invalid", message=message, header="If-Match")])
    return tags


def seen_revision(tags: list[str] | None, current: int) -> bool:
    """Whether the caller saw revision `current`: the first number of a tag is the resource's own revision."""
    return tags is None or any(tag.strip('"').split(".")[0] == str(current) for tag in tags if not tag.startswith("W/"))


class ConditionalReads(ASGIMiddleware):
    """Answers 304 to a read whose ETag the caller has; gives answers without one a weak ETag of their bytes."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await next_app(scope, receive, send)
            return
        wanted = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
        start: HTTPResponseStartEvent | None = None

        async def send_conditionally(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                held, start = start, None
                body = b"" if message.get("more_body") else message["body"]
                if _is_fresh(held, body, wanted):
                    await send(_not_modified(held))
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                await send(held)
            await send(message)

        await next_app(scope, receive, send_conditionally)


def _is_fresh(start: HTTPResponseStartEvent, body: bytes, wanted: bytes) -> bool:
    if start["status"] != 200:  # noqa: PLR2004 - only a full answer has a representation to compare
        return False
    tag = next((value for name, value in start["headers"] if name.lower() == b"etag"), None)
    if tag is None and body:
        tag = b'W/"' + hashlib.blake2b(body, digest_size=12).hexdigest().encode() + b'"'
        start["headers"] = [*start["headers"], (b"etag", tag)]
    if not wanted or tag is None:
        return False
    opaque = tag.removeprefix(b"W/")
    seen = {part.strip().removeprefix(b"W/") for part in wanted.split(b",")}
    return b"*" in seen or opaque in seen


def _not_modified(start: HTTPResponseStartEvent) -> HTTPResponseStartEvent:
    kept = [pair for pair in start["headers"] if pair[0].lower() not in _DROPPED_BY_304]
    return {"type": "http.response.start", "status": 304, "headers": kept}
