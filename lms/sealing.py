"""What must be read again, at rest: AES-256-GCM, the nonce in front."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


def seal(key: bytes, octets: bytes, bound_to: bytes | None = None) -> bytes:
    """With `bound_to` it cannot be opened once it is copied to another place."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, octets, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes | None = None) -> bytes | None:
    """None where it was sealed with another key, bound to something else, or changed."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except InvalidTag:
        return None
