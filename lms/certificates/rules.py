"""Who sees a certificate, and what the public learns about one. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from lms.certificates.documents import CertificateStatus
from lms.errors import Gone, NotFound


class CertificateNotFound(NotFound):
    detail = "There is no such certificate."


class PdfErased(Gone):
    detail = "The printed form showed a name, and is gone with the rest of its person's data; the number stays valid."


def check_can_see(certificate: Mapping[str, Any] | None, caller_id: UUID, *, staff: bool) -> None:
    """The student, the course's staff and administrators; for others there is no such certificate."""
    if certificate is None or not (staff or certificate["student_id"] == caller_id):
        raise CertificateNotFound


def public_status(certificate: Mapping[str, Any], now: datetime) -> Literal["valid", "revoked", "expired"]:
    """Revoked stays revoked, expired or not."""
    if certificate["status"] == CertificateStatus.REVOKED:
        return "revoked"
    expires_at = certificate.get("expires_at")
    return "expired" if expires_at is not None and expires_at <= now else "valid"
