from datetime import timedelta

import httpx
import pytest

from lms import clock
from lms.accounts.documents import User
from lms.certificates.documents import CertificatePdf, CertificateStatus
from lms.courses.documents import Course
from lms.enrollments.documents import EnrollmentStatus
from tests.build import a_course
from tests.certificates.issued import PDF, a_certificate, a_completed_enrollment
from tests.conftest import ClientFor

MISSING = "00000000-0000-4000-8000-000000000000"


async def test_a_student_reads_the_certificate(client_for: ClientFor, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course)
    response = await (await client_for(sam)).get(f"/certificates/{certificate.id}")
    assert response.status_code == 200
    assert response.json() == {
        "id": str(certificate.id),
        "number": certificate.number,
        "name": "Sam Okafor",
        "course_id": str(course.id),
        "course_title": "Plants of the tidal zone",
        "status": "valid",
        "issued_at": response.json()["issued_at"],
        "revoked_at": None,
        "reason": None,
        "verify_url": f"http://lms.test/verify/{certificate.number}",
    }
    assert response.headers["cache-control"] == "no-store"


async def test_staff_and_administrators_read_it_too(
    client_for: ClientFor, sam: User, ivy: User, oscar: User, ada: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    await course.update({"$set": {"co_instructor_ids": [oscar.id]}})
    for reader in (ivy, oscar, ada):
        client = await client_for(reader)
        assert (await client.get(f"/certificates/{certificate.id}")).json()["id"] == str(certificate.id)
        assert (await client.get(f"/certificates/{certificate.id}/pdf")).content == PDF


@pytest.mark.parametrize("form", ["", "/pdf"])
async def test_for_others_there_is_no_such_certificate(
    client_for: ClientFor, sam: User, stella: User, oscar: User, course: Course, form: str
) -> None:
    certificate = await a_certificate(sam, course)
    for stranger in (stella, oscar):
        client = await client_for(stranger)
        hidden = await client.get(f"/certificates/{certificate.id}{form}")
        unknown = await client.get(f"/certificates/{MISSING}{form}")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "certificate_not_found")
        assert hidden.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}


@pytest.mark.parametrize("path", ["", "/{id}", "/{id}/pdf"])
async def test_a_visitor_must_sign_in(client: httpx.AsyncClient, sam: User, course: Course, path: str) -> None:
    certificate = await a_certificate(sam, course)
    response = await client.get(f"/certificates{path.format(id=certificate.id)}")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["not-an-id", "123", "00000000-0000-4000-8000-00000000000g", "not-an-id/pdf"])
async def test_a_malformed_id_is_not_found(client_for: ClientFor, sam: User, path: str) -> None:
    response = await (await client_for(sam)).get(f"/certificates/{path}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_a_certificate_outlives_its_course(
    client_for: ClientFor, sam: User, ivy: User, ada: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    await course.delete()
    for reader, status in ((sam, 200), (ada, 200), (ivy, 404)):
        client = await client_for(reader)
        assert (await client.get(f"/certificates/{certificate.id}")).status_code == status
        assert (await client.get(f"/certificates/{certificate.id}/pdf")).status_code == status


async def test_the_pdf_is_a_file_with_the_number_in_its_name(client_for: ClientFor, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course)
    response = await (await client_for(sam)).get(f"/certificates/{certificate.id}/pdf")
    assert (response.status_code, response.content) == (200, PDF)
    assert response.headers["content-type"] == "application/pdf"
    assert response.headers["content-disposition"] == f'attachment; filename="certificate-{certificate.number}.pdf"'
    assert response.headers["content-length"] == str(len(PDF))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_pdf_that_the_caller_has_is_not_sent_again(client_for: ClientFor, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course)
    client, path = await client_for(sam), f"/certificates/{certificate.id}/pdf"
    tag = (await client.get(path)).headers["etag"]
    assert tag == '"1"'
    same = await client.get(path, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await CertificatePdf.find_one({"_id": certificate.id}).update({"$set": {"revision": 2, "content": b"%PDF new"}})
    changed = await client.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.content, changed.headers["etag"]) == (200, b"%PDF new", '"2"')


async def test_the_tag_is_no_way_around_the_right_to_see(
    client_for: ClientFor, sam: User, stella: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    client = await client_for(stella)
    response = await client.get(f"/certificates/{certificate.id}/pdf", headers={"If-None-Match": "*"})
    assert (response.status_code, response.json()["code"]) == (404, "certificate_not_found")


async def test_a_certificate_without_its_pdf_is_not_found_as_pdf(
    client_for: ClientFor, sam: User, course: Course
) -> None:
    certificate = await a_certificate(sam, course)
    await CertificatePdf.find_one({"_id": certificate.id}).delete()
    response = await (await client_for(sam)).get(f"/certificates/{certificate.id}/pdf")
    assert (response.status_code, response.json()["code"]) == (404, "certificate_not_found")


async def test_a_revoked_certificate_says_so_to_its_student(client_for: ClientFor, sam: User, course: Course) -> None:
    revoked = {"status": CertificateStatus.REVOKED, "revoked_at": clock.utc_now(), "reason": "Copied answers"}
    certificate = await a_certificate(sam, course, **revoked)
    client = await client_for(sam)
    body = (await client.get(f"/certificates/{certificate.id}")).json()
    assert (body["status"], body["reason"]) == ("revoked", "Copied answers")
    assert body["revoked_at"].endswith("Z")
    assert (await client.get("/certificates")).json()["items"] == [body]


async def test_the_list_has_ones_own_newest_enrolment_first(
    client_for: ClientFor, sam: User, stella: User, ivy: User
) -> None:
    ids: list[str] = []
    for place in range(5):
        course = await a_course(ivy.id, f"Course {place}").insert()
        certificate = await a_certificate(sam, course)
        await a_certificate(stella, course)
        ids.append(str(certificate.id))
    client = await client_for(sam)
    whole = (await client.get("/certificates")).json()
    assert [one["id"] for one in whole["items"]] == ids[::-1]
    assert (whole["total"], whole["pages"]) == (5, 1)
    assert [one["course_title"] for one in whole["items"]] == [f"Course {place}" for place in (4, 3, 2, 1, 0)]
    second = (await client.get("/certificates", params={"page": 2, "page_size": 2})).json()
    assert ([one["id"] for one in second["items"]], second["total"]) == ([ids[2], ids[1]], 5)


async def test_the_list_by_cursor_has_each_certificate_once(client_for: ClientFor, sam: User, ivy: User) -> None:
    ids = [str((await a_certificate(sam, await a_course(ivy.id, f"Course {place}").insert())).id) for place in range(5)]
    client, seen, cursor = await client_for(sam), list[str](), ""
    while cursor is not None:
        page = (await client.get("/certificates", params={"cursor": cursor, "page_size": 2})).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]


async def test_the_list_of_who_has_none_is_empty(client_for: ClientFor, ivy: User, ada: User, sam: User) -> None:
    course = await a_course(ivy.id).insert()
    await a_certificate(sam, course)
    for reader in (ivy, ada):
        assert (await (await client_for(reader)).get("/certificates")).json()["items"] == []


async def test_what_is_not_issued_yet_is_not_in_the_list(
    client_for: ClientFor, sam: User, course: Course, ivy: User
) -> None:
    await a_completed_enrollment(sam, course)
    other = await a_course(ivy.id, "Other").insert()
    await a_completed_enrollment(sam, other, status=EnrollmentStatus.ACTIVE, completed_at=None)
    assert (await (await client_for(sam)).get("/certificates")).json()["total"] == 0


async def test_an_unknown_query_parameter_is_refused(client_for: ClientFor, sam: User) -> None:
    response = await (await client_for(sam)).get("/certificates", params={"student": "all"})
    assert response.status_code == 422
    assert [error["code"] for error in response.json()["errors"]] == ["unknown_parameter"]


async def test_the_time_of_issue_is_that_of_the_completion(client_for: ClientFor, sam: User, course: Course) -> None:
    completed = (clock.utc_now() - timedelta(days=3)).replace(microsecond=0)
    certificate = await a_certificate(sam, course, issued_at=completed)
    body = (await (await client_for(sam)).get(f"/certificates/{certificate.id}")).json()
    assert body["issued_at"].startswith(completed.strftime("%Y-%m-%dT%H:%M:%S"))
