"""Codes of authenticator apps (RFC 6238: SHA-1, 30 seconds, six digits), and recovery codes.

Written here and not taken from a library: what is needed beside a dozen lines is the time step that a code belongs to,
so that it counts once, and the usual library tells only whether a code is right.
"""

import base64
import hmac
import io
import secrets
from datetime import datetime
from urllib.parse import quote

import segno

STEP_SECONDS = 30
DIGITS = 6
SECRET_BYTES = 20
"""As long as SHA-1's output, as RFC 4226 recommends."""
SKEW = 1
"""How many steps a phone's clock may be off, either way."""
RECOVERY_CODES = 10
RECOVERY_BYTES = 15
"""120 bits: nobody guesses that, so a plain digest of it can be stored."""
GROUP = 4


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def code_of(secret: bytes, step: int) -> str:
    """RFC 4226's truncation, of the step in the place of the counter."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    start = mac[-1] & 0x0F
    number = int.from_bytes(mac[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_at(now: datetime) -> int:
    return int(now.timestamp()) // STEP_SECONDS


def matching_step(secret: bytes, code: str, now: datetime, after: int) -> int | None:
    """The step around `now` and later than `after` of which this is the code; None where there is none."""
    current = step_at(now)
    # All are compared, so that the time it takes does not tell which one it was.
    steps = [
        step
        for step in range(current - SKEW, current + SKEW + 1)
        if hmac.compare_digest(code_of(secret, step).encode(), code.encode("utf-8", "surrogatepass"))
    ]
    return next((step for step in steps if step > after), None)


def normal_code(text: str) -> str:
    """Apps show codes in two groups."""
    return "".join(text.split())


def as_base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def provisioning_uri(secret: bytes, issuer: str, account: str) -> str:
    """What the QR code carries (Google Authenticator's key URI format). A colon would end the issuer in the label."""
    name = quote(issuer.replace(":", " "), safe="")
    label = f"{name}:{quote(account, safe='@')}"
    parameters = f"secret={as_base32(secret)}&issuer={name}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}"
    return f"otpauth://totp/{label}?{parameters}"


def qr_svg(uri: str) -> str:
    """Takes some 10 ms, so not on the event loop."""
    picture = io.BytesIO()
    segno.make(uri, error="m").save(picture, kind="svg", scale=4, border=4, xmldecl=False)
    return picture.getvalue().decode()


def new_recovery_code() -> str:
    """Six groups of four letters and digits, without those that are taken for each other."""
    text = base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()
    return "-".join(text[start : start + GROUP] for start in range(0, len(text), GROUP))


def normal_recovery_code(text: str) -> str:
    """However it was typed: any case, with or without hyphens and spaces."""
    return "".join(text.lower().replace("-", " ").split())
