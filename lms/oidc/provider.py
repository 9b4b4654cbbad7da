"""One provider: what it says of itself, its keys, and who came back with a code."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus

import jwt

from lms.clock import utc_now
from lms.oidc.addresses import check_endpoint, with_query
from lms.oidc.fetching import Fetcher, Json
from lms.oidc.id_tokens import Header, find_key, hash_of, header_of, read_claims
from lms.oidc.rules import OidcProviderNotFound, Person, SignInFailed, check_claims, person_of, wrong_answer
from lms.setting_types import OidcProvider

T = TypeVar("T")

ANEW = "login"
"""The `prompt` by which a provider asks again who is there, whoever is signed in there."""
KEPT_SECONDS = 3600.0
REST_SECONDS = 2.0
"""How long a failure is answered without asking again."""
BETWEEN_REFETCHES_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    authentication: tuple[str, ...]
    tells_issuer: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    id_token: str
    access_token: str


class Kept(Generic[T]):
    """What `fetch` gave, for an hour. Asked for once at a time, and not at once again where that failed."""

    def __init__(self, fetch: Callable[[], Awaitable[T]]) -> None:
        self._fetch = fetch
        self._asking = asyncio.Lock()
        self._found: tuple[T, float] | None = None
        self._failed: tuple[SignInFailed, float] | None = None
        self._refetched_at = float("-inf")

    async def get(self) -> T:
        async with self._asking:
            return self._found[0] if self._found and time.monotonic() < self._found[1] else await self._ask()

    async def get_newer(self, seen: T) -> T:
        """What has come since `seen`; asked for now, where nobody has asked a moment ago."""
        async with self._asking:
            now = time.monotonic()
            if self._found and self._found[0] is seen and now >= self._refetched_at + BETWEEN_REFETCHES_SECONDS:
                self._refetched_at = now
                return await self._ask()
            return self._found[0] if self._found else seen

    async def _ask(self) -> T:
        if self._failed and time.monotonic() < self._failed[1]:
            raise SignInFailed(self._failed[0].failure, self._failed[0].reason)
        try:
            found = await self._fetch()
        except SignInFailed as error:
            self._failed = (error, time.monotonic() + REST_SECONDS)
            raise
        self._found = (found, time.monotonic() + KEPT_SECONDS)
        return found


class Provider:
    """Raises `SignInFailed` where it cannot be asked, or says what is not to be believed."""

    def __init__(self, config: OidcProvider, fetcher: Fetcher) -> None:
        self.config = config
        self._fetcher = fetcher
        self._metadata = Kept(self._discover)
        self._keys = Kept(self._fetch_keys)

    async def metadata(self) -> Metadata:
        return await self._metadata.get()

    async def _discover(self) -> Metadata:
        issuer = self.config.issuer
        found = await self._fetcher.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise wrong_answer("its metadata name another issuer")
        userinfo = found.get("userinfo_endpoint")
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Metadata(
            authorization_endpoint=check_endpoint(found.get("authorization_endpoint"), issuer),
            token_endpoint=check_endpoint(found.get("token_endpoint"), issuer),
            jwks_uri=check_endpoint(found.get("jwks_uri"), issuer),
            userinfo_endpoint=None if userinfo is None else check_endpoint(userinfo, issuer),
            authentication=tuple(map(str, methods)) if isinstance(methods, list) else (),
            tells_issuer=found.get("authorization_response_iss_parameter_supported") is True,
        )

    async def _fetch_keys(self) -> list[Json]:
        found = (await self._fetcher.get((await self.metadata()).jwks_uri)).get("keys")
        if not isinstance(found, list):
            raise wrong_answer("its keys are no list")
        return [one for one in found if isinstance(one, dict)]

    async def authorization(self, state: str, nonce: str, challenge: str, redirect_uri: str, prompt: str | None) -> str:
        """Where to send the browser."""
        asked = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if prompt:
            asked["prompt"] = prompt
        if prompt == ANEW:
            # Without it providers need not tell when they asked (OpenID Connect Core 3.1.2.1).
            asked["max_age"] = "0"
        return with_query((await self.metadata()).authorization_endpoint, asked)

    async def person(self, code: str, verifier: str, nonce: str, redirect_uri: str) -> Person:
        """Who signed in there."""
        tokens = await self._exchange(code, verifier, redirect_uri)
        header = header_of(tokens.id_token)
        claims = read_claims(tokens.id_token, await self._key(header), header.algorithm)
        now = utc_now()
        check_claims(
            claims,
            issuer=self.config.issuer,
            client_id=self.config.client_id,
            nonce=nonce,
            at_hash=hash_of(tokens.access_token, header.algorithm),
            now=now,
        )
        more = await self._more(claims, tokens)
        return person_of(self.config.issuer, claims, more, trusts_mfa=self.config.trusts_mfa, now=now)

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers, proof = self._authentication(metadata.authentication)
        found = await self._fetcher.post(metadata.token_endpoint, headers, form | proof)
        id_token, access_token = found.get("id_token"), found.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise wrong_answer("no tokens")
        return Tokens(id_token, access_token)

    def _authentication(self, methods: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and fields that prove that it is us who ask (RFC 6749 2.3.1)."""
        secret = self.config.client_secret.get_secret_value()
        if not secret:
            return {}, {"client_id": self.config.client_id}
        if "client_secret_basic" in methods:
            pair = f"{quote_plus(self.config.client_id)}:{quote_plus(secret)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
        if "client_secret_post" in methods:
            return {}, {"client_id": self.config.client_id, "client_secret": secret}
        raise wrong_answer("it takes no client secret")

    async def _key(self, header: Header) -> jwt.PyJWK:
        """Providers change their keys when they like: one that is unknown may be one that is new."""
        keys = await self._keys.get()
        key = find_key(keys, header) or find_key(await self._keys.get_newer(keys), header)
        if key is None:
            raise wrong_answer("the ID token's key is unknown")
        return key

    async def _more(self, claims: Mapping[str, Any], tokens: Tokens) -> Json:
        """Some providers tell addresses and names only where they are asked for them (OpenID Connect Core 5.4)."""
        endpoint = (await self.metadata()).userinfo_endpoint
        if "email" in claims or endpoint is None:
            return {}
        found = await self._fetcher.get(endpoint, {"Authorization": f"Bearer {tokens.access_token}"})
        if found.get("sub") != claims["sub"]:
            raise wrong_answer("it tells of somebody else")
        return found


class Providers:
    """Those of the settings, by name. One per process."""

    def __init__(self, configs: list[OidcProvider]) -> None:
        self._fetcher = Fetcher()
        self._named = {config.name: Provider(config, self._fetcher) for config in configs}

    def all(self) -> list[OidcProvider]:
        return [one.config for one in self._named.values()]

    def named(self, name: str) -> Provider:
        """Raises `OidcProviderNotFound`."""
        found = self._named.get(name)
        if found is None:
            raise OidcProviderNotFound
        return found

    async def close(self) -> None:
        await self._fetcher.close()
