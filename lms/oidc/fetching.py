"""HTTP to providers: the one thing that a request waits for outside of our own servers, so bounded in every way.

Time, size, how many at once; no redirects, no proxies of the environment, and only the addresses that are given.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx
import msgspec

from lms.oidc.rules import Failure, SignInFailed, wrong_answer

FETCH_SECONDS = 3.0
AT_ONCE = 8
LARGEST = 256 * 1024

Json = dict[str, Any]


class Fetcher:
    """One per process; opens nothing before the first request."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(AT_ONCE)

    async def get(self, address: str, headers: Mapping[str, str] | None = None) -> Json:
        return await self._fetch("GET", address, headers or {}, None)

    async def post(self, address: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Json:
        return await self._fetch("POST", address, headers, form)

    async def _fetch(
        self, method: str, address: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Json:
        """The JSON object of a 200. Raises `SignInFailed`."""
        try:
            # Waiting for a place counts: whoever comes late to a slow provider is not to wait for ever.
            async with asyncio.timeout(FETCH_SECONDS), self._places:
                body = await self._read(method, address, headers, form)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise SignInFailed(Failure.PROVIDER_UNAVAILABLE, type(error).__name__) from None
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise wrong_answer("no JSON object") from None

    async def _read(
        self, method: str, address: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> bytes:
        # Without compression, so that what comes in is what it takes.
        plain = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        body = bytearray()
        async with self._opened().stream(method, address, headers=plain, data=form) as response:
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise SignInFailed(Failure.PROVIDER_UNAVAILABLE, f"status {response.status_code}")
            if response.status_code != HTTPStatus.OK:
                raise wrong_answer(f"status {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST:
                    raise wrong_answer("too large an answer")
        return bytes(body)

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            # The certificates that httpx brings, and those of the system, where a school puts its own.
            trusted = httpx.create_ssl_context(trust_env=False)
            trusted.load_default_certs()
            self._client = httpx.AsyncClient(
                verify=trusted, follow_redirects=False, trust_env=False, timeout=httpx.Timeout(FETCH_SECONDS)
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
