"""How a key is written, and why one is refused. Pure.

    lms_ + id (22) + _ + secret (43) + checksum (6)

in base 62, always 76 characters: `lms_[0-9A-Za-z]{22}_[0-9A-Za-z]{49}`. The checksum is made of all that stands before
it, so that a typing mistake is told from a revoked key, and that whoever finds one in a repository can tell it from
chance.
"""

import hashlib
from datetime import datetime
from uuid import UUID

from lms.errors import Conflict, Forbidden, NotFound, Unauthenticated

MOST_KEYS = 20
PREFIX = "lms_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 22, 43, 6
LENGTH = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
SECRET_BYTES = 32
CHECKSUM_BYTES = 4
ID_BITS = 128


class ApiKeyMistyped(Unauthenticated):
    detail = "This is no API key: it was cut, or there is a typing mistake in it."


class ApiKeyRefused(Unauthenticated):
    detail = "This API key is unknown, has expired or was revoked, or its owner may not use it any more."


class ApiKeyNotAllowed(Forbidden):
    detail = "This cannot be done with an API key; sign in instead."


class ScopeMissing(Forbidden):
    detail = "The API key has not the scope that this needs."


class ApiKeyNotFound(NotFound):
    detail = "You have no such API key."


class TooManyApiKeys(Conflict):
    detail = f"You have {MOST_KEYS} API keys that still work; revoke one first."


def key_text(key_id: UUID, secret: bytes) -> str:
    """The key as it is shown, once."""
    return _with_checksum(f"{prefix_of(key_id)}_{_base62(secret, SECRET_LENGTH)}")


def prefix_of(key_id: UUID) -> str:
    """What a key starts with, by which its owner knows it again."""
    return PREFIX + _base62(key_id.bytes, ID_LENGTH)


def parse_key(text: str) -> tuple[UUID, str]:
    """The id and the secret part. Raises `ApiKeyMistyped`."""
    body, secret_at = text[:-CHECKSUM_LENGTH], len(PREFIX) + ID_LENGTH + 1
    if len(text) != LENGTH or not text.isascii() or _with_checksum(body) != text:
        raise ApiKeyMistyped
    key_id = id_of(body[: secret_at - 1])
    if key_id is None:
        raise ApiKeyMistyped
    return key_id, body[secret_at:]


def id_of(prefix: str) -> UUID | None:
    """Whose `prefix_of` this is."""
    number = 0
    for symbol in prefix.removeprefix(PREFIX):
        number = number * len(ALPHABET) + ALPHABET.find(symbol)
    if number < 0 or number >> ID_BITS or prefix_of(UUID(int=number)) != prefix:
        return None
    return UUID(int=number)


def _with_checksum(body: str) -> str:
    return body + _base62(hashlib.sha256(body.encode()).digest()[:CHECKSUM_BYTES], CHECKSUM_LENGTH)


def _base62(octets: bytes, length: int) -> str:
    number, symbols = int.from_bytes(octets), ""
    for _ in range(length):
        number, place = divmod(number, len(ALPHABET))
        symbols = ALPHABET[place] + symbols
    return symbols


def state_of(revoked_at: datetime | None, expires_at: datetime, now: datetime) -> str:
    if revoked_at is not None:
        return "revoked"
    return "active" if expires_at > now else "expired"
