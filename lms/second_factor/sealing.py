"""Secrets that must be read again, at rest: AES-256-GCM under a key from `LMS_SECRET_KEY`, for one owner each."""

import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lms.settings import Settings

NONCE_BYTES = 12
PURPOSE = b"lms second factor"


def seal(settings: Settings, secret: bytes, owner: UUID) -> bytes:
    """The nonce, and what is sealed. Copied to somebody else it cannot be opened."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(_key(settings)).encrypt(nonce, secret, owner.bytes)


def unseal(settings: Settings, sealed: bytes, owner: UUID) -> bytes | None:
    """None where it was sealed with another key or for somebody else."""
    try:
        return AESGCM(_key(settings)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.bytes)
    except InvalidTag:
        return None


def _key(settings: Settings) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(settings.secret_key.get_secret_value().encode())
