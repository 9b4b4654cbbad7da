"""Access tokens (RFC 9068 in spirit: Ed25519 JWTs of type `at+jwt`), refresh tokens, and tokens of links in mails.

The algorithm always comes from our own key record, never from a token's header.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lms.settings import Settings

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's name of the type, no secret
ALGORITHM = "EdDSA"
REQUIRED = ["iss", "aud", "exp", "iat", "sub", "sid", "role", "epoch"]
FORBIDDEN_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "crit"})
MAX_TOKEN_LENGTH = 2048
CLOCK_LEEWAY_SECONDS = 5


class TokenRefused(Exception):
    """The token is malformed, forged, expired, or meant for somebody else."""


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: UUID
    session_id: UUID
    role: str
    epoch: int
    expires_at: int
    restricted: bool = False


class KeyRing:
    """The keys of `LMS_JWT_KEYS`: the first signs, all verify, so that keys rotate without signing anybody out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        private = [Ed25519PrivateKey.from_private_bytes(seed) for seed in settings.signing_seeds]
        self._signing_key = private[0]
        self._public = {_thumbprint(key.public_key()): key.public_key() for key in private}
        self._key_id = _thumbprint(self._signing_key.public_key())

    def published(self) -> dict[str, str]:
        """What others need to verify our tokens: each key's id, and its public part in base64url (RFC 8037's `x`)."""
        return {key_id: _base64url(key.public_bytes_raw()) for key_id, key in self._public.items()}

    def issue(
        self,
        user_id: UUID,
        session_id: UUID,
        role: str,
        epoch: int,
        now: datetime,
        until: datetime | None = None,
        *,
        restricted: bool = False,
    ) -> str:
        """A signed access token that lives for `access_token_seconds`, but not beyond `until`.

        With a `restricted` one nothing can be done but setting up a second factor.
        """
        ends = now + timedelta(seconds=self._settings.access_token_seconds)
        claims: dict[str, Any] = {
            "iss": self._settings.jwt_issuer,
            "aud": self._settings.jwt_audience,
            "iat": int(now.timestamp()),
            "exp": int(min(ends, until or ends).timestamp()),
            "sub": str(user_id),
            "sid": str(session_id),
            "role": role,
            "epoch": epoch,
        }
        if restricted:
            claims["restricted"] = True
        return jwt.encode(claims, self._signing_key, ALGORITHM, headers={"typ": TOKEN_TYPE, "kid": self._key_id})

    def verify(self, token: str, now: datetime) -> Claims:
        """What a genuine token says. Raises `TokenRefused`."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenRefused("too long")
        try:
            key = self._key_for(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                # Times are checked against our own clock below.
                options={"require": REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            _check_times(claims, now)
            return Claims(
                user_id=UUID(claims["sub"]),
                session_id=UUID(claims["sid"]),
                role=str(claims["role"]),
                epoch=int(claims["epoch"]),
                expires_at=int(claims["exp"]),
                restricted="restricted" in claims,
            )
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise TokenRefused(type(error).__name__) from None

    def _key_for(self, header: dict[str, Any]) -> Ed25519PublicKey:
        if header.get("typ") != TOKEN_TYPE or FORBIDDEN_HEADERS & header.keys():
            raise TokenRefused("header")
        key = self._public.get(str(header.get("kid")))
        if key is None:
            raise TokenRefused("unknown key")
        return key


def _check_times(claims: dict[str, Any], now: datetime) -> None:
    seconds = now.timestamp()
    if int(claims["exp"]) <= seconds:
        raise TokenRefused("expired")
    if max(int(claims["iat"]), int(claims.get("nbf", 0))) > seconds + CLOCK_LEEWAY_SECONDS:
        raise TokenRefused("not valid yet")


def _thumbprint(key: Ed25519PublicKey) -> str:
    """RFC 7638 thumbprint of the public key, which names it in the token's header."""
    x = _base64url(key.public_bytes_raw())
    return _base64url(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """`family.generation.HMAC-SHA256(server key, family, generation, nonce)`: nothing that is stored can sign in."""

    family: UUID
    generation: int
    proof: str

    @classmethod
    def make(cls, settings: Settings, family: UUID, generation: int, nonce: str) -> "RefreshToken":
        return cls(family, generation, _proof(settings, family, generation, nonce))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken":
        """Raises `TokenRefused` where `text` has not the form of a refresh token."""
        parts = text.split(".")
        try:
            family, generation, proof = parts
            if not (generation.isascii() and generation.isdigit() and len(generation) <= 9 and proof.isascii()):  # noqa: PLR2004
                raise TokenRefused("form")
            return cls(UUID(family), int(generation), proof)
        except ValueError:
            raise TokenRefused("form") from None

    def is_genuine(self, settings: Settings, nonce: str) -> bool:
        return hmac.compare_digest(self.proof, _proof(settings, self.family, self.generation, nonce))

    def __str__(self) -> str:
        return f"{self.family}.{self.generation}.{self.proof}"


def _proof(settings: Settings, family: UUID, generation: int, nonce: str) -> str:
    return _keyed(settings, f"{family}\0{generation}\0{nonce}")


def mail_token(settings: Settings, purpose: str, nonce: str) -> str:
    """What a link in a mail carries: 32 bytes that need the server's key as well as the random nonce.

    A mail is sent at least once and under one id, so every try must carry the same token although none is stored.
    """
    return _keyed(settings, f"mail\0{purpose}\0{nonce}")


def derived_token(settings: Settings, purpose: str, secret: str) -> str:
    """Another secret of the same life as `secret`, so that it need not be stored."""
    return _keyed(settings, f"{purpose}\0{secret}")


def new_nonce() -> str:
    """What makes one token unlike all others: 32 random bytes."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is stored of a token that comes in: its SHA-256. It has 256 bits of its own, so it needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def hidden_name(settings: Settings, *parts: str) -> str:
    """A name for what is kept about an address, which cannot be found out from it without the server's key."""
    return _keyed(settings, "\0".join(("name", *parts)))


def hidden_digest(settings: Settings, octets: bytes) -> str:
    """To know `octets` again that may hold a password, which cannot be guessed at without the server's key."""
    return _keyed(settings, f"digest\0{hashlib.sha256(octets).hexdigest()}")


def _keyed(settings: Settings, text: str) -> str:
    return _base64url(hmac.new(settings.secret_key.get_secret_value().encode(), text.encode(), hashlib.sha256).digest())
