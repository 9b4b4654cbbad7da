"""Certificates outlive their person: verified by number as before, and naming nobody."""

import httpx
import pytest

from lms.accounts.documents import User
from lms.certificates.documents import CertificateStatus
from lms.certificates.tasks import generate_certificate, send_certificate_email
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.erasure.service import erase
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from tests.accounts.people import refusal
from tests.build import a_course
from tests.certificates.issued import a_certificate, a_completed_enrollment, an_event
from tests.certificates.test_verifying import PAGE, VERIFY, Seen
from tests.conftest import ClientFor
from tests.erasure.left import Database, work


async def test_programs_learn_the_same_but_for_the_name(
    client: httpx.AsyncClient, database: Database, settings: Settings, sam: User, course: Course
) -> None:
    number = (await a_certificate(sam, course)).number
    before = (await client.get(f"{VERIFY}/{number}")).json()
    assert before["name"] == "Sam Okafor"
    await erase(sam.id)
    await work(database, settings)
    response = await client.get(f"{VERIFY}/{number}")
    assert (response.status_code, response.json()) == (200, before | {"name": None})


async def test_people_see_that_it_is_valid_and_why_there_is_no_name(
    client: httpx.AsyncClient, database: Database, settings: Settings, sam: User, course: Course
) -> None:
    number = (await a_certificate(sam, course)).number
    before = Seen((await client.get(f"{VERIFY}/{number}", headers=PAGE)).text)
    await erase(sam.id)
    await work(database, settings)
    response = await client.get(f"{VERIFY}/{number}", headers=PAGE)
    seen = Seen(response.text)
    assert (response.status_code, seen.classes) == (200, ["valid"])
    instead = {"Sam Okafor": "A person whose data was erased since, the name with it"}
    assert seen.text == [instead.get(text, text) for text in before.text]


async def test_an_unknown_number_is_still_nobodys(client: httpx.AsyncClient, database: Database) -> None:
    response = await client.get(f"{VERIFY}/1", headers=PAGE)
    assert response.status_code == 404
    assert "Awarded to" not in response.text


async def test_a_revoked_one_stays_revoked_and_says_no_more_why(
    client: httpx.AsyncClient, database: Database, settings: Settings, sam: User, course: Course
) -> None:
    revoked = {"status": CertificateStatus.REVOKED, "revoked_at": utc_now(), "reason": "Sam Okafor copied"}
    number = (await a_certificate(sam, course, **revoked)).number
    await erase(sam.id)
    await work(database, settings)
    body = (await client.get(f"{VERIFY}/{number}")).json()
    assert (body["status"], body["name"], body["reason"]) == ("revoked", None, None)
    assert body["revoked_at"] is not None


async def test_its_pdf_is_gone_and_staff_is_told_so(
    client_for: ClientFor, database: Database, settings: Settings, sam: User, stella: User, ivy: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    staff = await client_for(ivy)
    assert (await staff.get(f"/certificates/{certificate.id}/pdf")).status_code == 200
    await erase(sam.id)
    await work(database, settings)
    assert refusal(await staff.get(f"/certificates/{certificate.id}/pdf")) == (410, "pdf_erased")
    assert await database["certificate_pdfs"].count_documents({}) == 0
    shown = await staff.get(f"/certificates/{certificate.id}")
    assert (shown.status_code, shown.json()["name"]) == (200, None)
    # Whoever may not see it is not told that there was one.
    other = await client_for(stella)
    assert (await other.get(f"/certificates/{certificate.id}/pdf")).status_code == 404


@pytest.mark.parametrize("first", ["erase", "work"])
async def test_mails_and_certificates_still_to_come_end_quietly(
    database: Database, settings: Settings, sam: User, course: Course, ivy: User, first: str
) -> None:
    issued = await a_certificate(sam, course)
    done = await a_completed_enrollment(sam, await a_course(ivy.id, "Tides").insert())
    events = [
        await an_event(send_certificate_email.name, certificate_id=str(issued.id)),
        await an_event(generate_certificate.name, student_id=str(sam.id), enrollment_id=str(done.id)),
        await an_event("send_welcome_email", user_id=str(sam.id), nonce="n"),
        await an_event("send_password_reset_email", user_id=str(sam.id), nonce="n"),
        await an_event("send_password_changed_email", user_id=str(sam.id)),
    ]
    await erase(sam.id)
    if first == "work":
        await work(database, settings)
    for event in events:
        assert await run_job(event.todo[0], event.id, JobContext(settings, Mailer(settings))) is Outcome.DONE
    assert await Event.find({"kind": "test"}).count() == 0
    assert await database["certificates"].count_documents({}) == 1
