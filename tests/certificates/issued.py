"""Enrolments that are completed and certificates that are issued, stored without the way there."""

from typing import Any

from lms import clock
from lms.accounts.documents import User
from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.numbers import number_of
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.outbox.documents import Event
from lms.transactions import Session, in_transaction

PDF = b"%PDF-1.7 stands for one"


async def a_completed_enrollment(student: User, course: Course, **fields: Any) -> Enrollment:
    values: dict[str, Any] = {"status": EnrollmentStatus.COMPLETED, "percent": 100, "completed_at": clock.utc_now()}
    return await Enrollment(student_id=student.id, course_id=course.id, **(values | fields)).insert()


async def a_certificate(student: User, course: Course, **fields: Any) -> Certificate:
    enrollment = await a_completed_enrollment(student, course, certificate_issued=True)
    values: dict[str, Any] = {
        "id": enrollment.id,
        "student_id": student.id,
        "course_id": course.id,
        "course_slug": course.slug,
        "number": number_of(enrollment.id),
        "name": student.full_name,
        "course_title": course.title,
        "instructor_name": "Ivy Okafor",
        "issuer": "Tidewater School",
        "issued_at": enrollment.completed_at,
    }
    await CertificatePdf(id=enrollment.id, content=PDF).insert()
    return await Certificate(**(values | fields)).insert()


async def an_event(job: str, **data: Any) -> Event:
    async def emit(session: Session) -> Event:
        return await Event.emit(session, "test", [job], **data)

    return await in_transaction(emit)
