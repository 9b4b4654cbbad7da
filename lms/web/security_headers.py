"""Headers that tell browsers and caches what they may do with an answer.

Stands around the whole application, so that errors and unknown routes carry them too.
"""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from lms.settings import Settings

API = "/api/"
AUTH = "/api/v1/auth/"
FIRST_ERROR = 400
HALF_A_YEAR = 15_552_000

Header = tuple[bytes, bytes]

ALWAYS: list[Header] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
NO_STORE = (b"cache-control", b"no-store")
# A shared cache may give what it stored for a visitor to a request with a token, unless it is told what made it.
VARY = (b"vary", b"Authorization")


class SecurityHeaders:
    """A header that the answer has already is left as it is."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._always = list(ALWAYS)
        if settings.has_https:
            self._always.append((b"strict-transport-security", f"max-age={HALF_A_YEAR}".encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._completed(list(message["headers"]), scope, message["status"])
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _completed(self, given: list[Header], scope: Scope, status: int) -> list[Header]:
        present = {name.lower() for name, _ in given}
        private = is_private(scope, status)
        wanted = [*self._always, NO_STORE] if private else self._always
        given += [pair for pair in wanted if pair[0] not in present]
        if not private and scope["path"].startswith(API):
            given.append(VARY)
        return given


def is_private(scope: Scope, status: int) -> bool:
    """Whether an answer that says nothing of caches must not be kept: somebody's own, a token, or an error."""
    return scope.get("user") is not None or status >= FIRST_ERROR or scope["path"].startswith(AUTH)
