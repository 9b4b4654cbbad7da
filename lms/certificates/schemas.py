"""What crosses HTTP about certificates."""

from typing import Literal
from uuid import UUID

from lms.certificates.documents import CertificateStatus
from lms.schemas import Moment, Output


class CertificateRead(Output):
    """`id` is the enrolment's; `verify_url` is what the QR code carries; `name` is null once they were erased."""

    id: UUID
    number: str
    name: str | None
    course_id: UUID
    course_title: str
    status: CertificateStatus
    issued_at: Moment
    revoked_at: Moment | None
    reason: str | None
    verify_url: str


class Verification(Output):
    """The public answer about a number: names as they were at the issue. `name` is null where its person was erased."""

    status: Literal["valid", "revoked", "expired"]
    number: str
    name: str | None
    course_title: str
    issued_at: Moment
    revoked_at: Moment | None = None
    reason: str | None = None
