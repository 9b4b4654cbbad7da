"""The public page that verifies a certificate."""

import base64
import hashlib
from datetime import datetime
from importlib import resources
from typing import Literal

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lms.settings import Settings

STYLE = resources.files("lms.certificates").joinpath("verify.css").read_text(encoding="utf-8").strip()
STYLE_CSP_HASH = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""For `style-src`: the page's own style is allowed, and nothing else."""

SAYS = {
    "valid": ("This certificate is valid", "It was issued by this school and stands as shown."),
    "revoked": ("This certificate was revoked", "It was issued by this school and no longer counts."),
    "expired": ("This certificate has expired", "It was issued by this school and its time has run out."),
    "unknown": (
        "No such certificate",
        "This school has not issued a certificate with this number. Check it for typing errors.",
    ),
}

_templates = Environment(
    loader=PackageLoader("lms.certificates", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class VerifyView(msgspec.Struct, kw_only=True):
    """What the page shows. An unknown number has only itself."""

    status: Literal["valid", "revoked", "expired", "unknown"]
    number: str
    issuer: str
    name: str | None = None
    course_title: str | None = None
    issued_at: datetime | None = None
    revoked_at: datetime | None = None
    reason: str | None = None

    @property
    def is_erased(self) -> bool:
        """Whether the certificate has outlived what is known of its person."""
        return self.name is None and self.status != "unknown"


def render_verify_page(view: VerifyView) -> str:
    heading, explanation = SAYS[view.status]
    return _templates.get_template("verify.html").render(
        view=view,
        heading=heading,
        explanation=explanation,
        # Our own file, whose hash the page's policy names; escaping would change its bytes.
        style=Markup(STYLE),  # noqa: S704
        day=_day,
    )


def _day(time: datetime) -> str:
    return f"{time.day} {time:%B %Y}"


def verify_url(number: str, settings: Settings) -> str:
    """What the QR code and the mail carry, for ever."""
    return f"{settings.public_url}/verify/{number}"
