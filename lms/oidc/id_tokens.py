"""Reading ID tokens: signed by a key that the provider publishes, with an algorithm that we allow."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from lms.oidc.rules import wrong_answer

# By the key of the provider alone. Without `none`, and without HMAC, whose secret would be a public key.
KEY_TYPES = {
    "RS256": "RSA",
    "PS256": "RSA",
    "ES256": "EC",
    "EdDSA": "OKP",
}
CURVES = {"ES256": "P-256", "EdDSA": "Ed25519"}
LONGEST = 16_384
SMALLEST_RSA = 2048
MOST_KEYS = 50

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    algorithm: str
    key_id: str | None


def header_of(token: str) -> Header:
    """Raises `SignInFailed` for a token that no key could make good."""
    if len(token) > LONGEST:
        raise wrong_answer("the ID token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise wrong_answer("the ID token is malformed") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in KEY_TYPES or "crit" in header:
        raise wrong_answer("the ID token's algorithm is not allowed")
    return Header(str(algorithm), None if key_id is None else str(key_id))


def find_key(keys: list[Json], header: Header) -> jwt.PyJWK | None:
    """The key that the header names; without a name the only one that fits."""
    fitting = [one for one in _fitting(keys, header.algorithm) if header.key_id in (None, one.get("kid"))]
    if not fitting or (header.key_id is None and len(fitting) > 1):
        return None
    try:
        key = jwt.PyJWK(fitting[0], header.algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise wrong_answer("the provider's key is malformed") from None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < SMALLEST_RSA:
        raise wrong_answer("the provider's key is too short")
    return key


def _fitting(keys: list[Json], algorithm: str) -> Iterator[Json]:
    for one in keys[:MOST_KEYS]:
        fits = one.get("kty") == KEY_TYPES[algorithm] and one.get("alg", algorithm) == algorithm
        if fits and one.get("use", "sig") == "sig" and CURVES.get(algorithm) == (one.get("crv") or None):
            yield one


def read_claims(token: str, key: jwt.PyJWK, algorithm: str) -> Json:
    """What a token says that `key` has signed; whether that is for us is for `check_claims` to say."""
    # Claims are checked by our own clock and rules.
    unchecked = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        return jwt.decode(token, key.key, algorithms=[algorithm], options=unchecked)  # pyright: ignore[reportArgumentType]
    except (jwt.PyJWTError, ValueError, TypeError):
        raise wrong_answer("the ID token's signature") from None


def hash_of(access_token: str, algorithm: str) -> str:
    """What `at_hash` must be: half of the hash that the algorithm has."""
    # Ed25519 has SHA-512 inside of it, all the others here SHA-256.
    name = "sha512" if algorithm == "EdDSA" else "sha256"
    digest = hashlib.new(name, access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
