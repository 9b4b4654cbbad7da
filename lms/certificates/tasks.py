"""The chained pair: a completed enrolment gets its certificate, and the certificate goes out by mail."""

import asyncio
import threading
from uuid import UUID

from pymongo.errors import DuplicateKeyError

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY
from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.numbers import number_of
from lms.certificates.pdf import CertificateText, Fonts, MissingGlyph, load_fonts, render_pdf
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.sequence import next_student_seq
from lms.mail import Attachment, Mail, message_id_for
from lms.outbox.documents import AlreadyDone, Event
from lms.outbox.jobs import JobContext, PermanentFailure, job
from lms.settings import Settings
from lms.transactions import Session, in_transaction

_fonts: dict[str, Fonts] = {}
_reading = threading.Lock()


@job("generate_certificate")
async def generate_certificate(event: Event, context: JobContext) -> None:
    """Issue the certificate of a completed enrolment: document, PDF and the event for the mail commit together."""
    enrollment_id = event.subject("enrollment_id")
    if await Certificate.get(enrollment_id) is not None:
        return
    certificate = await _certificate_for(enrollment_id, context.settings)
    if certificate is None:
        return
    pdf = CertificatePdf(id=certificate.id, content=await _print(certificate, context.settings))

    async def issue(session: Session) -> None:
        certificate.seq = await next_student_seq(certificate.student_id, session)
        await certificate.insert(session=session)
        issued = {"$set": {"certificate_issued": True}}
        await Enrollment.get_pymongo_collection().update_one({"_id": enrollment_id}, issued, session=session)
        await pdf.insert(session=session)
        await Event.emit(
            session, "certificate.issued", [send_certificate_email.name], certificate_id=str(certificate.id)
        )
        if not await event.finish(generate_certificate.name, session=session):
            raise AlreadyDone

    try:
        await in_transaction(issue)
    except (DuplicateKeyError, AlreadyDone):
        # Another delivery of this event was first; its certificate is the certificate.
        return


async def _certificate_for(enrollment_id: UUID, settings: Settings) -> Certificate | None:
    enrollment = await Enrollment.get(enrollment_id)
    if enrollment is None or enrollment.status is not EnrollmentStatus.COMPLETED:
        return None
    student, course = await asyncio.gather(User.get(enrollment.student_id), _head(enrollment.course_id))
    if student is None or course is None:
        return None
    instructor = await User.get(course.instructor_id)
    return Certificate(
        id=enrollment.id,
        student_id=student.id,
        course_id=course.id,
        course_slug=course.slug,
        number=number_of(enrollment.id),
        name=student.full_name,
        course_title=course.title,
        instructor_name=instructor.full_name if instructor else "",
        issuer=settings.school_name,
        issued_at=enrollment.completed_at or utc_now(),
    )


async def _head(course_id: UUID) -> Course | None:
    """The course without its lessons, whose content a certificate does not need."""
    raw = await Course.get_pymongo_collection().find_one({"_id": course_id}, {"lessons": 0, "modules": 0})
    return None if raw is None else Course.model_validate({**raw, "id": raw["_id"]})


async def _print(certificate: Certificate, settings: Settings) -> bytes:
    text = CertificateText(
        name=certificate.name,
        course_title=certificate.course_title,
        issued_on=certificate.issued_at,
        number=certificate.number,
        verify_url=verify_url(certificate.number, settings),
        issuer=certificate.issuer,
        instructor=certificate.instructor_name,
    )
    try:
        return await asyncio.to_thread(_render, text, settings)
    except MissingGlyph as error:
        raise PermanentFailure(str(error)) from error


def _render(text: CertificateText, settings: Settings) -> bytes:
    """Fonts are read once per process, in the thread that renders first."""
    where = str(settings.certificate_fonts or "")
    with _reading:
        if where not in _fonts:
            _fonts[where] = load_fonts(settings.certificate_fonts)
    return render_pdf(text, _fonts[where])


def verify_url(number: str, settings: Settings) -> str:
    """What the QR code and the mail carry, for ever."""
    return f"{settings.public_url}/verify/{number}"


@job("send_certificate_email", retry=MAIL_RETRY)
async def send_certificate_email(event: Event, context: JobContext) -> None:
    certificate_id = event.subject("certificate_id")
    certificate, pdf = await asyncio.gather(Certificate.get(certificate_id), CertificatePdf.get(certificate_id))
    if certificate is None or pdf is None:
        raise PermanentFailure("The certificate of this event does not exist.")
    student = await User.get(certificate.student_id)
    if student is None:
        # Erased meanwhile; the certificate stays verifiable, and there is nobody to write to.
        return
    letter = letters.certificate_issued(
        certificate.name,
        certificate.issuer,
        certificate.course_title,
        certificate.number,
        verify_url(certificate.number, context.settings),
    )
    await context.mailer.send(
        Mail(
            to=student.email,
            subject=letter.subject,
            text=letter.as_text(),
            html=letter.as_html(),
            attachments=(Attachment("certificate.pdf", "application/pdf", pdf.content),),
            message_id=message_id_for(event.id, context.settings),
        )
    )
