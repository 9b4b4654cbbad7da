"""What a person's browser does: it follows redirects, keeps cookies, fills in forms, and ends up in the app."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Self, cast
from urllib.parse import parse_qs, urljoin

import httpx
from litestar import Litestar

from lms.oidc.service import challenge_of
from tests.oidc.idp.people import PASSWORD

APP = "https://app.school.example"
VERIFIER = "a-verifier-that-the-app-keeps-for-itself-0123456789"


class Browser:
    """`verifier` is what the app in this browser holds; `was_asked`: the last sign-in needed the password."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.verifier = VERIFIER
        self.was_asked = False

    @classmethod
    @asynccontextmanager
    async def open(cls, app: Litestar) -> AsyncGenerator[Self]:
        transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
        mounts = {
            "http://lms.test": transport,
            APP: httpx.MockTransport(lambda _: httpx.Response(200, text="the app")),
        }
        async with httpx.AsyncClient(mounts=mounts, trust_env=False) as client:
            yield cls(client)

    async def start(self, provider: str, return_to: str = "/signed-in", **more: str) -> httpx.Response:
        asked = {"return_to": return_to, "app_challenge": challenge_of(self.verifier), **more}
        return await self.client.get(f"http://lms.test/api/v1/auth/oidc/{provider}/start", params=asked)

    async def away(self, provider: str = "rogue", **more: str) -> dict[str, str]:
        """Leave for a provider; gives what it is asked."""
        response = await self.start(provider, **more)
        assert response.status_code == 302, response.text
        return {
            name: values[0] for name, values in parse_qs(httpx.URL(response.headers["location"]).query.decode()).items()
        }

    async def callback(self, provider: str, **query: Any) -> httpx.URL:
        """Where a callback leads."""
        response = await self.client.get(f"http://lms.test/api/v1/auth/oidc/{provider}/callback", params=query)
        assert response.status_code == 302, response.text
        return httpx.URL(response.headers["location"])

    async def sign_in(
        self, email: str, provider: str = "school", return_to: str = "/signed-in", **more: str
    ) -> httpx.URL:
        """All the way: to the provider, its log-in and consent pages, and back to the app."""
        page = await self._follow(await self.start(provider, return_to, **more))
        self.was_asked = "/login/" in page.url.path
        if "/login/" in page.url.path:
            page = await self._submit(page, username=email.partition("@")[0], password=PASSWORD)
        if "/authorize" in page.url.path:
            page = await self._submit(page, allow="Authorize")
        return page.url

    async def to_the_consent(self, email: str, provider: str = "school") -> httpx.Response:
        page = await self._follow(await self.start(provider))
        return await self._submit(page, username=email.partition("@")[0], password=PASSWORD)

    async def decline(self, page: httpx.Response) -> httpx.URL:
        return (await self._submit(page)).url

    async def _submit(self, page: httpx.Response, **values: str) -> httpx.Response:
        assert page.status_code == 200, page.text
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
        answer = await self.client.post(str(page.url), data={**dict(hidden), **values})
        return await self._follow(answer)

    async def _follow(self, response: httpx.Response) -> httpx.Response:
        for _ in range(10):
            if not response.is_redirect:
                return response
            address = urljoin(str(response.url), response.headers["location"])
            response = await self.client.get(address)
        raise AssertionError("too many redirects")


def told(url: httpx.URL) -> dict[str, str]:
    """What the app reads behind the `#`."""
    return {name: values[0] for name, values in parse_qs(url.fragment).items()}


async def exchange(
    api: httpx.AsyncClient, url: httpx.URL, provider: str = "school", verifier: str = VERIFIER
) -> httpx.Response:
    """What the app gets for the code that it reads there."""
    body = {"code": told(url)["code"], "app_verifier": verifier}
    return await api.post(f"/auth/oidc/{provider}/exchange", json=body)
