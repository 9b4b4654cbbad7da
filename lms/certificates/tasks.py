"""The chained pair: a completed enrolment gets its certificate, and the certificate goes out by mail."""

import asyncio
import threading
from uuid import UUID

from pymongo.errors import DuplicateKeyError

from lms import letters
from lms.accounts.queries import people
from lms.accounts.tasks import MAIL_RETRY
from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.numbers import number_of
from lms.certificates.page import verify_url
from lms.certificates.pdf import CertificateText, Fonts, MissingGlyph, load_fonts, render_pdf
from lms.certificates.queries import certificates, pdfs
from lms.clock import utc_now
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.queries import course_heads, enrollment_heads
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
    certificate = await _certificate_for(event.subject("student_id"), event.subject("enrollment_id"), context.settings)
    if certificate is None:
        return
    pdf = CertificatePdf(id=certificate.id, content=await _print(certificate, context.settings))
    mail = [send_certificate_email.name]

    async def issue(session: Session) -> None:
        certificate.seq = await next_student_seq(certificate.student_id, session)
        await Certificate.get_pymongo_collection().insert_one(certificate.as_stored(), session=session)
        mine = {"_id": certificate.id, "student_id": certificate.student_id}
        issued = {"$set": {"certificate_issued": True}}
        if not (await Enrollment.get_pymongo_collection().update_one(mine, issued, session=session)).matched_count:
            # The student was erased while it was printed.
            raise AlreadyDone
        await CertificatePdf.get_pymongo_collection().insert_one(pdf.as_stored(), session=session)
        data = {"certificate_id": str(certificate.id)}
        if not await event.follow(session, generate_certificate.name, "certificate.issued", mail, **data):
            raise AlreadyDone

    try:
        await in_transaction(issue)
    except (DuplicateKeyError, AlreadyDone):
        # Another delivery of this event was first, and its certificate is the certificate; or there is to be none.
        return


async def _certificate_for(student_id: UUID, enrollment_id: UUID, settings: Settings) -> Certificate | None:
    """None where there is none to issue, or one is issued."""
    enrollment = await enrollment_heads.get((student_id, enrollment_id))
    if enrollment is None or enrollment["status"] != EnrollmentStatus.COMPLETED or enrollment["certificate_issued"]:
        return None
    student, course = await asyncio.gather(people.get(student_id), course_heads.get(enrollment["course_id"]))
    if student is None or course is None:
        return None
    instructor = course["instructor"]
    return Certificate(
        id=enrollment_id,
        student_id=student_id,
        course_id=enrollment["course_id"],
        course_slug=course["slug"],
        number=number_of(enrollment_id),
        name=student["full_name"],
        course_title=course["title"],
        instructor_name=instructor["full_name"] if instructor else "",
        issuer=settings.school_name,
        issued_at=enrollment["completed_at"] or utc_now(),
    )


async def _print(certificate: Certificate, settings: Settings) -> bytes:
    text = CertificateText(
        name=certificate.name or "",
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


@job("send_certificate_email", retry=MAIL_RETRY)
async def send_certificate_email(event: Event, context: JobContext) -> None:
    certificate_id = event.subject("certificate_id")
    certificate, pdf = await asyncio.gather(certificates.get(certificate_id), pdfs.get(certificate_id))
    student = await people.get(certificate["student_id"]) if certificate is not None else None
    if certificate is not None and student is None:
        # Erased meanwhile; the certificate stays verifiable, and there is nobody to write to.
        return
    if certificate is None or pdf is None or student is None:
        raise PermanentFailure("The certificate of this event does not exist.")
    letter = letters.certificate_issued(
        certificate["name"],
        certificate["issuer"],
        certificate["course_title"],
        certificate["number"],
        verify_url(certificate["number"], context.settings),
    )
    await context.mailer.send(
        Mail(
            to=student["email"],
            subject=letter.subject,
            text=letter.as_text(),
            html=letter.as_html(),
            attachments=(Attachment("certificate.pdf", "application/pdf", pdf["content"]),),
            message_id=message_id_for(event.id, context.settings),
        )
    )
