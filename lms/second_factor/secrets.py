"""Authenticator apps' secrets at rest: under a key from `LMS_SECRET_KEY`, for one owner each."""

from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lms import sealing
from lms.settings import Settings

PURPOSE = b"lms second factor"


def seal(settings: Settings, secret: bytes, owner: UUID) -> bytes:
    """Copied to somebody else it cannot be opened."""
    return sealing.seal(_key(settings), secret, owner.bytes)


def unseal(settings: Settings, sealed: bytes, owner: UUID) -> bytes | None:
    """None where it was sealed with another key or for somebody else."""
    return sealing.unseal(_key(settings), sealed, owner.bytes)


def _key(settings: Settings) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(settings.secret_key.get_secret_value().encode())
