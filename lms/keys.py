"""Making secrets. Imports nothing heavy: `lms keys` starts at once."""

import base64
import os
import secrets
from pathlib import Path

SEED_BYTES = 32


def new_seed() -> str:
    """A signing key for `LMS_JWT_KEYS`: 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SEED_BYTES)).rstrip(b"=").decode()


def new_secrets() -> dict[str, str]:
    """What production needs of its own, by the settings' names."""
    return {
        "secret_key": secrets.token_urlsafe(48),
        "password_pepper": secrets.token_urlsafe(48),
        "jwt_keys": new_seed(),
    }


def write_secrets(directory: Path) -> list[Path]:
    """A new file for each secret, for its owner only. Raises FileExistsError, before anything is written."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {directory / name: value for name, value in new_secrets().items()}
    for path in made:
        if path.exists():
            raise FileExistsError(path)
    for path, value in made.items():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{value}\n")
    return list(made)
