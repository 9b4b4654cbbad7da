import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from lms.accounts.documents import User
from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.numbers import number_of
from lms.certificates.tasks import generate_certificate, send_certificate_email
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, retry_failed, run_job
from tests.build import a_course, a_user
from tests.certificates.issued import PDF, a_certificate, a_completed_enrollment, an_event
from tests.certificates.papers import read
from tests.commands import Commands
from tests.conftest import ClientFor, HeldClock, settings_for
from tests.servers import SmtpSink

ContextWith = Callable[..., JobContext]


@pytest.fixture
def context_with(mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, commands: Commands) -> ContextWith:
    """What a worker hands to jobs, with mail going to the sink."""

    def make(**more: str) -> JobContext:
        wanted = {"LMS_SMTP_URL": smtp_sink.url, "LMS_SCHOOL_NAME": "Tidewater School"} | more
        settings = settings_for(mongodb_url, redis_url, **wanted)
        return JobContext(settings, Mailer(settings))

    return make


@pytest.fixture
def context(context_with: ContextWith) -> JobContext:
    return context_with()


async def issue(enrollment: Enrollment, context: JobContext) -> Outcome:
    event = await an_event(generate_certificate.name, enrollment_id=enrollment.id, student_id=enrollment.student_id)
    return await run_job(generate_certificate.name, event.id, context)


async def nothing_is_issued() -> bool:
    return await Certificate.count() == 0 and await CertificatePdf.count() == 0


async def test_a_completed_enrolment_gets_its_certificate_and_the_mail_is_due(
    context: JobContext, sam: User, ivy: User, course: Course
) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    assert await issue(enrollment, context) is Outcome.DONE
    certificate, pdf = await Certificate.get(enrollment.id), await CertificatePdf.get(enrollment.id)
    assert certificate is not None
    assert pdf is not None
    assert certificate.model_dump(exclude={"created_at", "updated_at", "revision_id"}) | {"issued_at": None} == {
        "id": enrollment.id,
        "student_id": sam.id,
        "course_id": course.id,
        "course_slug": course.slug,
        "number": number_of(enrollment.id),
        "name": sam.full_name,
        "course_title": course.title,
        "instructor_name": ivy.full_name,
        "issuer": "Tidewater School",
        "status": "valid",
        "revision": 1,
        "issued_at": None,
        "expires_at": None,
        "revoked_at": None,
        "reason": None,
        "seq": 1,
    }
    stored = await Enrollment.get(enrollment.id)
    assert stored is not None
    assert stored.certificate_issued
    assert certificate.issued_at == stored.completed_at
    paper = read(pdf.content)
    assert {"Sam Okafor", "Plants of the tidal zone", "Instructor Ivy Okafor", "Tidewater School"} <= set(paper.lines)
    assert paper.codes == [f"http://lms.test/verify/{certificate.number}"]
    [event] = await Event.find_all().to_list()
    assert (event.kind, event.todo) == ("certificate.issued", ["send_certificate_email"])
    assert event.data == {"certificate_id": str(enrollment.id)}
    assert event.due is not None


async def test_six_deliveries_at_once_issue_one_certificate(context: JobContext, sam: User, course: Course) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    event = await an_event(generate_certificate.name, enrollment_id=enrollment.id, student_id=enrollment.student_id)
    outcomes = await asyncio.gather(*(run_job(generate_certificate.name, event.id, context) for _ in range(6)))
    assert set(outcomes) <= {Outcome.DONE, Outcome.NOTHING_LEFT}
    assert Outcome.DONE in outcomes
    assert (await Certificate.count(), await CertificatePdf.count()) == (1, 1)
    assert Counter([one.kind async for one in Event.find_all()]) == {"certificate.issued": 1}


async def test_two_events_of_one_enrolment_issue_one_certificate(
    context: JobContext, sam: User, course: Course
) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    assert await asyncio.gather(*(issue(enrollment, context) for _ in range(2))) == [Outcome.DONE] * 2
    first = await Certificate.get(enrollment.id)
    await sam.update({"$set": {"full_name": "Samuel Okafor"}})
    assert await issue(enrollment, context) is Outcome.DONE
    assert await Certificate.get(enrollment.id) == first
    assert Counter([one.kind async for one in Event.find_all()]) == {"certificate.issued": 1}


async def test_a_delivery_whose_event_was_done_meanwhile_leaves_nothing(
    context: JobContext, sam: User, course: Course
) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    event = await an_event(generate_certificate.name, enrollment_id=enrollment.id, student_id=enrollment.student_id)
    assert await event.finish(generate_certificate.name)
    await generate_certificate.handler(event, context)
    assert await nothing_is_issued()
    assert await Event.count() == 0


@pytest.mark.parametrize("status", [one for one in EnrollmentStatus if one is not EnrollmentStatus.COMPLETED])
async def test_without_completion_there_is_no_certificate(
    context: JobContext, sam: User, course: Course, status: EnrollmentStatus
) -> None:
    enrollment = await a_completed_enrollment(sam, course, status=status)
    assert await issue(enrollment, context) is Outcome.DONE
    assert await nothing_is_issued()
    assert await Event.count() == 0


async def test_what_was_erased_meanwhile_gets_no_certificate(
    context: JobContext, sam: User, stella: User, course: Course, ivy: User
) -> None:
    gone = await a_completed_enrollment(sam, course)
    await gone.delete()
    without_student = await a_completed_enrollment(sam, course)
    await sam.delete()
    deleted = await a_course(ivy.id, "Deleted").insert()
    without_course = await a_completed_enrollment(stella, deleted)
    await deleted.delete()
    for enrollment in (gone, without_student, without_course):
        assert await issue(enrollment, context) is Outcome.DONE
    assert await nothing_is_issued()
    assert await Event.count() == 0


async def test_without_its_instructor_a_certificate_names_none(
    context: JobContext, sam: User, ivy: User, course: Course
) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    await ivy.delete()
    assert await issue(enrollment, context) is Outcome.DONE
    pdf = await CertificatePdf.get(enrollment.id)
    assert pdf is not None
    assert not any("Instructor" in line for line in read(pdf.content).lines)


async def test_without_a_time_of_completion_it_is_issued_now(
    held_clock: HeldClock, context: JobContext, sam: User, course: Course
) -> None:
    enrollment = await a_completed_enrollment(sam, course, completed_at=None)
    await issue(enrollment, context)
    certificate = await Certificate.get(enrollment.id)
    assert certificate is not None
    assert certificate.issued_at == held_clock.now


async def test_a_character_without_a_glyph_fails_for_good_and_leaves_nothing_half_written(
    context: JobContext, course: Course
) -> None:
    student = await a_user("Tashi", full_name="Tashi \u0f40\u0f0b 🎓").insert()
    enrollment = await a_completed_enrollment(student, course)
    assert await issue(enrollment, context) is Outcome.FAILED
    assert await nothing_is_issued()
    [event] = await Event.find_all().to_list()
    assert (event.todo, event.due) == (["generate_certificate"], None)
    assert event.failed_at is not None
    assert event.last_error is not None
    assert event.last_error.startswith("PermanentFailure: No font has U+0F40 TIBETAN LETTER KA in the name, U+0F0B")
    assert "U+1F393 GRADUATION CAP in the name" in event.last_error
    await student.update({"$set": {"full_name": "Tashi"}})
    assert await retry_failed(event.id) == 1
    assert await run_job(generate_certificate.name, event.id, context) is Outcome.DONE
    assert await Certificate.count() == 1


async def test_names_of_any_script_are_issued(context: JobContext, course: Course) -> None:
    for place, name in enumerate(("فاطمة الزهراء", "欧阳娜娜", "लक्ष्मी त्रिपाठी", "Zoë Łukasiewicz", '#{}[]*_$\\<>"')):
        student = await a_user(f"Student {place}", full_name=name).insert()
        enrollment = await a_completed_enrollment(student, course)
        assert await issue(enrollment, context) is Outcome.DONE
        certificate = await Certificate.get(enrollment.id)
        assert certificate is not None
        assert certificate.name == name


async def test_a_deleted_font_folder_is_no_reason_to_fail(
    context_with: ContextWith, sam: User, course: Course, tmp_path: object
) -> None:
    enrollment = await a_completed_enrollment(sam, course)
    context = context_with(LMS_CERTIFICATE_FONTS=f"{tmp_path}/gone")
    assert await issue(enrollment, context) is Outcome.DONE


async def test_the_mail_brings_the_certificate(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.DONE
    assert await Event.count() == 0
    [message] = smtp_sink.messages
    assert (message["To"], message["Subject"]) == (sam.email, "Your certificate: Plants of the tidal zone")
    assert message["Message-ID"] == f"<{event.id}@lms.test>"
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        assert f"http://lms.test/verify/{certificate.number}" in part
        assert "Congratulations, Sam Okafor!" in part
    [attachment] = message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content_type()) == ("certificate.pdf", "application/pdf")
    assert attachment.get_content() == PDF


async def test_a_title_that_is_made_to_add_headers_adds_none(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    title = "Tides\r\nBcc: evil@elsewhere.example\r\n\r\n=?utf-8?q?x=0D=0ABcc:_evil=40elsewhere.example?="
    certificate = await a_certificate(sam, course, course_title=title)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.DONE
    [message] = smtp_sink.messages
    assert message["Bcc"] is None
    assert message["Subject"].startswith("Your certificate: Tides Bcc: evil@elsewhere.example = ?utf-8")


async def test_a_mail_sent_twice_has_one_message_id(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    for _ in range(2):
        await send_certificate_email.handler(event, context)
    other = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    await send_certificate_email.handler(other, context)
    ids = [message["Message-ID"] for message in smtp_sink.messages]
    assert ids == [f"<{event.id}@lms.test>", f"<{event.id}@lms.test>", f"<{other.id}@lms.test>"]


async def test_a_mail_that_is_refused_for_now_is_tried_again(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course, held_clock: HeldClock
) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    smtp_sink.refuse("451 4.3.0 Try again later")
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.RETRY
    [waiting] = await Event.find_all().to_list()
    assert waiting.failed_at is None
    assert waiting.due is not None
    assert (waiting.due - held_clock.now).total_seconds() == 60
    assert waiting.last_error == "MailRefused: 451 4.3.0 Try again later"
    smtp_sink.accept()
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.NOTHING_LEFT
    held_clock.advance(seconds=60)
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.DONE
    assert [message["Message-ID"] for message in smtp_sink.messages] == [f"<{event.id}@lms.test>"]


async def test_a_mail_that_is_refused_for_good_is_kept_with_the_reason(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    smtp_sink.refuse("550 5.1.1 Nobody here", at="RCPT")
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.FAILED
    [failed] = await Event.find_all().to_list()
    assert failed.failed_at is not None
    assert "550" in (failed.last_error or "")
    assert await Certificate.count() == 1


async def test_where_no_mail_server_is_the_mail_waits(context_with: ContextWith, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    # Nothing listens on the port of discarded data.
    context = context_with(LMS_SMTP_URL="smtp://127.0.0.1:9")
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.RETRY
    [waiting] = await Event.find_all().to_list()
    assert (waiting.last_error or "").startswith("SMTPConnectError")


async def test_a_mail_server_that_stalls_costs_one_attempt_and_the_next_has_the_same_id(
    context_with: ContextWith, smtp_sink: SmtpSink, sam: User, course: Course, held_clock: HeldClock
) -> None:
    certificate = await a_certificate(sam, course)
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    smtp_sink.stall_before_reply()
    hasty = context_with(LMS_JOB_TIMEOUT_SECONDS="0.5")
    running = asyncio.create_task(run_job(send_certificate_email.name, event.id, hasty))
    [held] = await smtp_sink.wait_for_held(1)
    assert await running is Outcome.RETRY
    smtp_sink.release()
    held_clock.advance(seconds=60)
    assert await run_job(send_certificate_email.name, event.id, context_with()) is Outcome.DONE
    assert smtp_sink.messages[-1]["Message-ID"] == held["Message-ID"] == f"<{event.id}@lms.test>"


async def test_nobody_is_written_to_after_an_erasure(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    await sam.delete()
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.DONE
    assert smtp_sink.messages == []
    assert await Certificate.count() == 1


@pytest.mark.parametrize("lost", [Certificate, CertificatePdf])
async def test_a_mail_about_a_certificate_that_is_not_there_fails_for_good(
    context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course, lost: type[Certificate] | type[CertificatePdf]
) -> None:
    certificate = await a_certificate(sam, course)
    await lost.find_one({"_id": certificate.id}).delete()
    event = await an_event(send_certificate_email.name, certificate_id=certificate.id)
    assert await run_job(send_certificate_email.name, event.id, context) is Outcome.FAILED
    assert smtp_sink.messages == []


async def test_from_the_last_lesson_to_the_mail(
    client_for: ClientFor, context: JobContext, smtp_sink: SmtpSink, sam: User, course: Course
) -> None:
    client = await client_for(sam)
    enrollment = (await client.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    for lesson in course.lessons:
        await client.post(f"/enrollments/{enrollment}/lessons/{lesson.id}/complete")
    for name in (generate_certificate.name, send_certificate_email.name):
        [event] = await Event.find({"todo": name}).to_list()
        assert await run_job(name, event.id, context) is Outcome.DONE
    [attachment] = smtp_sink.messages[0].iter_attachments()
    served = await client.get(f"/certificates/{enrollment}/pdf")
    assert attachment.get_content() == served.content
    [code] = read(served.content).codes
    assert (await client.get(code)).json()["status"] == "valid"
