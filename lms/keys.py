"""Making secrets. Imports nothing heavy: `lms keys` starts at once."""

import base64
import secrets

SEED_BYTES = 32


def new_seed() -> str:
    """A signing key for `LMS_JWT_KEYS`: 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SEED_BYTES)).rstrip(b"=").decode()
