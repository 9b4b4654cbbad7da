"""The reads of certificates."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.page import verify_url
from lms.certificates.schemas import CertificateRead
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.queries import NEWEST_FIRST
from lms.settings import Settings
from lms.together import Together, by_id
from lms.web.lists import Paging, find_page


async def _read_certificates(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await by_id(Certificate.get_pymongo_collection(), ids)


async def _read_pdfs(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await by_id(CertificatePdf.get_pymongo_collection(), ids)


certificates = Together(_read_certificates)
"""By id, read together by whoever asks at the same time, as `pdfs` are. Shared, so not to be changed."""
pdfs = Together(_read_pdfs)


async def list_certificates(
    student_id: UUID, paging: Paging, settings: Settings
) -> tuple[list[CertificateRead], int | None, str | None]:
    """Through the completed enrolments, whose ids the certificates have: both are found by their own keys."""
    completed = {"student_id": student_id, "status": EnrollmentStatus.COMPLETED.value, "certificate_issued": True}
    projection = {"created_at": 1}
    enrollments = Enrollment.get_pymongo_collection()
    rows, total, cursor = await find_page(enrollments, completed, NEWEST_FIRST, paging, projection)
    issued = await certificates.get_all([row["_id"] for row in rows])
    return [shown(issued[row["_id"]], settings) for row in rows], total, cursor


def shown(raw: Mapping[str, Any], settings: Settings) -> CertificateRead:
    return CertificateRead.from_raw(raw, verify_url=verify_url(raw["number"], settings))
