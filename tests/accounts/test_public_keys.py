from typing import Any

import httpx
import jwt
import pytest
from jwt.api_jwk import PyJWKSet

from lms.accounts.service import Accounts
from lms.keys import new_seed
from lms.settings import Settings
from lms.tokens import KeyRing
from tests.accounts.people import a_person, me, refusal, sign_in
from tests.conftest import settings_for

URL = "http://lms.test/.well-known/jwks.json"


def ring_of(seeds: str) -> KeyRing:
    return KeyRing(settings_for("mongodb://unused", "", LMS_JWT_KEYS=seeds))


async def test_others_verify_our_tokens_with_what_is_public(client: httpx.AsyncClient, accounts: Accounts) -> None:
    signed = await sign_in(client, await a_person(accounts, "Sam"))
    token = signed.body["access_token"]
    response = await client.get(URL)
    assert response.status_code == 200
    key = PyJWKSet.from_dict(response.json())[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="lms-api", issuer="lms")
    assert claims["sub"] == signed.body["user"]["id"]


async def test_it_is_a_key_set_without_anything_secret_that_caches_keep(client: httpx.AsyncClient) -> None:
    response = await client.get(URL)
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert response.headers["cache-control"] == "public, max-age=3600"
    (key,) = response.json()["keys"]
    fixed = {name: value for name, value in key.items() if name not in {"kid", "x"}}
    assert fixed == {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"}
    assert set(key) == {"kty", "crv", "alg", "use", "kid", "x"}
    fresh = await client.get(URL, headers={"If-None-Match": response.headers["etag"]})
    assert (fresh.status_code, fresh.content) == (304, b"")


async def test_all_keys_are_public_while_they_rotate(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (await client.get(URL)).json()["keys"]
    seeds = f"{new_seed()},{settings.jwt_keys.get_secret_value()}"
    monkeypatch.setattr(accounts, "keys", ring_of(seeds))
    keys = (await client.get(URL)).json()["keys"]
    assert len({key["kid"] for key in keys}) == 2
    assert keys[1:] == old


async def test_a_key_that_somebody_publishes_elsewhere_opens_nothing(
    client: httpx.AsyncClient, accounts: Accounts
) -> None:
    signed = await sign_in(client, await a_person(accounts, "Sam"))
    claims: dict[str, Any] = jwt.decode(signed.body["access_token"], options={"verify_signature": False})
    ring = ring_of(new_seed())
    (kid, x), *_ = ring.published().items()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}
    ours = jwt.get_unverified_header(signed.body["access_token"])["kid"]
    tries = [
        {"kid": kid},
        {"kid": ours},
        {"jwk": jwk},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://e.example"},
    ]
    key = ring._signing_key  # pyright: ignore[reportPrivateUsage]
    for more in tries:
        forged = jwt.encode(claims, key, "EdDSA", headers={"typ": "at+jwt", "kid": kid} | more)
        answer = await client.get("/users/me", headers={"Authorization": f"Bearer {forged}"})
        assert refusal(answer) == (401, "unauthenticated"), more
    assert await me(client, signed) == 200
