"""Certificates: issued once per completed enrolment, under that enrolment's id."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.documents import BaseDocument


class CertificateStatus(StrEnum):
    VALID = "valid"
    REVOKED = "revoked"


class Certificate(BaseDocument):
    """`_id` is the enrolment's id, so that once is once by construction. Names and titles are a snapshot; `name` goes
    when its student is erased.

    `seq` is its place among all that the student can see change.
    """

    student_id: UUID
    course_id: UUID
    course_slug: str
    number: str
    name: str | None
    course_title: str
    instructor_name: str
    issuer: str
    status: CertificateStatus = CertificateStatus.VALID
    revision: int = 1
    issued_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    reason: str | None = None
    seq: int = 0

    class Settings:
        name = "certificates"
        indexes = [
            IndexModel([("course_id", ASCENDING), ("issued_at", DESCENDING)], name="course_issued"),
        ]


class CertificatePdf(BaseDocument):
    """The printed form, under the certificate's id: committed with it, so that neither exists without the other."""

    revision: int = 1
    content: bytes

    class Settings:
        name = "certificate_pdfs"
