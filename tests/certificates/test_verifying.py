import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from lms.accounts.documents import User
from lms.certificates.controller import wants_page
from lms.certificates.documents import Certificate, CertificateStatus
from lms.certificates.numbers import number_of
from lms.certificates.page import VerifyView, render_verify_page
from lms.certificates.rules import public_status
from lms.courses.documents import Course
from tests.certificates.issued import a_certificate
from tests.conftest import ClientFor, HeldClock

VERIFY = "http://lms.test/verify"
PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
UNKNOWN = number_of(UUID("0190a5b2-7c3d-7e4f-8a6b-0c1d2e3f4a5b"))
ISSUED = datetime(2026, 3, 9, 12, tzinfo=UTC)
REVOKED = {
    "status": CertificateStatus.REVOKED,
    "revoked_at": datetime(2026, 4, 2, 8, tzinfo=UTC),
    "reason": "Copied answers",
}


class Seen(HTMLParser):
    """What a reader sees, what a browser would fetch or run, and the page's own style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.style = ""
        self.classes: list[str | None] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes += [value for name, value in attrs if name == "class" and tag == "main"]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["style"] and not self.style:
            self.style = data
        elif data.strip():
            self.text.append(data.strip())


@pytest.fixture
async def certificate(sam: User, course: Course) -> Certificate:
    return await a_certificate(sam, course, issued_at=ISSUED)


async def test_programs_learn_that_a_certificate_is_valid(client: httpx.AsyncClient, certificate: Certificate) -> None:
    response = await client.get(f"{VERIFY}/{certificate.number}")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {
        "status": "valid",
        "number": certificate.number,
        "name": "Sam Okafor",
        "course_title": "Plants of the tidal zone",
        "issued_at": "2026-03-09T12:00:00.000Z",
        "revoked_at": None,
        "reason": None,
    }


async def test_people_see_that_a_certificate_is_valid(client: httpx.AsyncClient, certificate: Certificate) -> None:
    response = await client.get(f"{VERIFY}/{certificate.number}", headers=PAGE)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    seen = Seen(response.text)
    assert seen.classes == ["valid"]
    assert seen.text == [
        "This certificate is valid",
        "Tidewater School",
        "This certificate is valid",
        "It was issued by this school and stands as shown.",
        "Awarded to",
        "Sam Okafor",
        "For completing",
        "Plants of the tidal zone",
        "Issued",
        "9 March 2026",
        "Number",
        certificate.number,
    ]


async def test_a_revoked_certificate_says_when_and_why(client: httpx.AsyncClient, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course, issued_at=ISSUED, **REVOKED)
    body = (await client.get(f"{VERIFY}/{certificate.number}")).json()
    assert (body["status"], body["revoked_at"], body["reason"]) == (
        "revoked",
        "2026-04-02T08:00:00.000Z",
        "Copied answers",
    )
    response = await client.get(f"{VERIFY}/{certificate.number}", headers=PAGE)
    assert response.status_code == 200
    seen = Seen(response.text)
    assert seen.classes == ["revoked"]
    assert "This certificate was revoked" in seen.text
    assert " ".join(seen.text).count("valid") == 0
    assert seen.text[-6:-2] == ["Revoked", "2 April 2026", "Reason", "Copied answers"]


async def test_a_revocation_without_a_reason_shows_none(client: httpx.AsyncClient, sam: User, course: Course) -> None:
    certificate = await a_certificate(sam, course, **(REVOKED | {"reason": None}))
    assert "Reason" not in Seen((await client.get(f"{VERIFY}/{certificate.number}", headers=PAGE)).text).text
    assert (await client.get(f"{VERIFY}/{certificate.number}")).json()["reason"] is None


async def test_an_expired_certificate_says_so_from_that_moment_on(
    client: httpx.AsyncClient, sam: User, course: Course, held_clock: HeldClock
) -> None:
    certificate = await a_certificate(sam, course, expires_at=held_clock.now + timedelta(seconds=1))
    path = f"{VERIFY}/{certificate.number}"
    assert (await client.get(path)).json()["status"] == "valid"
    held_clock.advance(seconds=1)
    assert (await client.get(path)).json()["status"] == "expired"
    page = await client.get(path, headers=PAGE)
    assert (page.status_code, Seen(page.text).classes) == (200, ["expired"])
    assert "This certificate has expired" in page.text


def test_revoked_stays_revoked_when_it_expires() -> None:
    both = {"status": "revoked", "expires_at": ISSUED}
    assert public_status(both, ISSUED + timedelta(days=1)) == "revoked"
    assert public_status({"status": "valid"}, ISSUED) == "valid"


@pytest.mark.parametrize("number", [UNKNOWN, UNKNOWN[:-1] + "0", "1", "hello", "%00", "9" * 500])
async def test_an_unknown_number_is_not_found_in_both_forms(client: httpx.AsyncClient, number: str) -> None:
    answer = await client.get(f"{VERIFY}/{number}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    page = await client.get(f"{VERIFY}/{number}", headers=PAGE)
    assert answer.json()["code"] == "certificate_not_found"
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    seen = Seen(page.text)
    assert seen.classes == ["unknown"]
    assert "No such certificate" in seen.text
    assert "Open School" in seen.text
    assert not {"Awarded to", "Issued"} & set(seen.text)


def typings(number: str) -> dict[str, str]:
    return {
        "lower case": number.lower(),
        "no hyphens": number.replace("-", ""),
        "spaces": quote(number.replace("-", " ")),
        "o and l": number.lower().replace("0", "o").replace("1", "l"),
        "O and I": number.replace("0", "O").replace("1", "I"),
        "all escaped": "".join(f"%{ord(char):02X}" for char in number),
    }


@pytest.mark.parametrize("way", typings(""))
async def test_a_number_may_be_typed_in_many_ways(
    client: httpx.AsyncClient, certificate: Certificate, way: str
) -> None:
    for headers in ({}, PAGE):
        response = await client.get(f"{VERIFY}/{typings(certificate.number)[way]}", headers=headers)
        assert response.status_code == 200
        # What is shown is the number as it was issued.
        assert certificate.number in response.text


async def test_every_check_symbol_can_stand_in_an_address(client: httpx.AsyncClient, sam: User, course: Course) -> None:
    shown = (await a_certificate(sam, course)).model_dump()
    for place in range(37):
        enrollment_id = UUID(int=(0x0190A5B2 << 96) + place)
        number = number_of(enrollment_id)
        await Certificate.model_validate(shown | {"id": enrollment_id, "number": number}).insert()
        response = await client.get(f"{VERIFY}/{number}")
        assert (response.status_code, response.json()["number"]) == (200, number)


async def test_what_people_typed_is_escaped_on_the_page(client: httpx.AsyncClient, sam: User, course: Course) -> None:
    nasty = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    fields = {"name": nasty, "course_title": nasty, "issuer": nasty, "issued_at": ISSUED}
    certificate = await a_certificate(sam, course, **fields, **(REVOKED | {"reason": nasty}))
    page = (await client.get(f"{VERIFY}/{certificate.number}", headers=PAGE)).text
    seen = Seen(page)
    assert "script" not in seen.tags
    assert seen.text.count(nasty) == 4
    body = (await client.get(f"{VERIFY}/{certificate.number}")).json()
    assert (body["name"], body["course_title"], body["reason"]) == (nasty, nasty, nasty)


@pytest.mark.parametrize("typed", ["<script>alert(1)<script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "عدد"])
async def test_an_unknown_number_is_escaped_on_the_page(client: httpx.AsyncClient, typed: str) -> None:
    page = await client.get(f"{VERIFY}/{quote(typed, safe='')}", headers=PAGE)
    assert page.status_code == 404
    seen = Seen(page.text)
    assert not {"script", "img"} & set(seen.tags)
    assert seen.text[-2:] == ["Number", typed]


async def test_a_very_long_number_is_cut_on_the_page(client: httpx.AsyncClient) -> None:
    page = await client.get(f"{VERIFY}/{'A' * 3000}", headers=PAGE)
    assert Seen(page.text).text[-1] == "A" * 60


@pytest.mark.parametrize("headers", [{}, PAGE], ids=["JSON", "page"])
async def test_unknown_query_parameters_are_tolerated(
    client: httpx.AsyncClient, certificate: Certificate, headers: dict[str, str]
) -> None:
    # Mail programs and social networks add their own to links.
    for query in ("utm_source=mail&fbclid=1", "x=1&x=2", "number=other", "%00=%ff", "="):
        response = await client.get(f"{VERIFY}/{certificate.number}?{query}", headers=headers)
        assert response.status_code == 200
        assert certificate.number in response.text


async def test_the_page_is_whole_by_itself(client: httpx.AsyncClient, certificate: Certificate) -> None:
    for number in (certificate.number, UNKNOWN):
        page = (await client.get(f"{VERIFY}/{number}", headers=PAGE)).text
        seen = Seen(page)
        assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a", "svg"} & set(seen.tags)
        assert not {"src", "href", "srcset", "style", "action", "background"} & seen.attributes
        assert not [name for name in seen.attributes if name.startswith("on")]
        assert not re.search(r"url\(|@import|https?:|//", page)


async def test_the_policy_allows_the_pages_own_style_and_nothing_else(
    client: httpx.AsyncClient, certificate: Certificate
) -> None:
    response = await client.get(f"{VERIFY}/{certificate.number}", headers=PAGE)
    digest = base64.b64encode(hashlib.sha256(Seen(response.text).style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
    assert response.headers.get_list("content-security-policy") == [policy]


@pytest.mark.parametrize("headers", [{}, PAGE], ids=["JSON", "page"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_answers_are_safe_set_no_cookie_and_are_not_kept_unasked(
    client: httpx.AsyncClient, certificate: Certificate, headers: dict[str, str], *, known: bool
) -> None:
    response = await client.get(f"{VERIFY}/{certificate.number if known else UNKNOWN}", headers=headers)
    assert "set-cookie" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == ("no-cache" if known or headers else "no-store")
    if known or headers:
        assert "accept" in response.headers["vary"].lower().replace(" ", "").split(",")


@pytest.mark.parametrize("headers", [{}, PAGE], ids=["JSON", "page"])
async def test_a_cache_asks_whether_its_copy_is_still_true(
    client: httpx.AsyncClient, certificate: Certificate, headers: dict[str, str]
) -> None:
    path = f"{VERIFY}/{certificate.number}"
    tag = (await client.get(path, headers=headers)).headers["etag"]
    same = await client.get(path, headers=headers | {"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    await certificate.update({"$set": REVOKED})
    changed = await client.get(path, headers=headers | {"If-None-Match": tag})
    assert changed.status_code == 200
    assert "revoked" in changed.text
    other_form = await client.get(path, headers=({} if headers else PAGE) | {"If-None-Match": changed.headers["etag"]})
    assert other_form.status_code == 200


async def test_it_stays_verifiable_without_its_student_and_its_course(
    client: httpx.AsyncClient, certificate: Certificate, sam: User, course: Course
) -> None:
    await sam.delete()
    await course.delete()
    assert (await client.get(f"{VERIFY}/{certificate.number}")).json()["name"] == "Sam Okafor"


async def test_a_stale_token_is_no_obstacle(
    client_for: ClientFor, certificate: Certificate, sam: User, stella: User
) -> None:
    stranger = await client_for(stella)
    assert (await stranger.get(f"{VERIFY}/{certificate.number}")).json()["status"] == "valid"
    stranger.headers["Authorization"] = "Bearer nonsense"
    assert (await stranger.get(f"{VERIFY}/{certificate.number}")).json()["status"] == "valid"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML;q=0.9", True),
        ("application/xhtml+xml", True),
        (PAGE["Accept"], True),
        ("application/json, text/html", False),
        ("text/html, application/json", True),
        ("application/*, text/html", False),
        ("text/plain, */*", False),
        (",;,", False),
    ],
)
def test_a_page_is_for_who_names_it_first(accept: str, *, page: bool) -> None:
    assert wants_page(accept) is page


def test_days_are_written_in_full() -> None:
    view = VerifyView(status="valid", number="1", issuer="School", issued_at=datetime(2027, 12, 1, tzinfo=UTC))
    assert '<time datetime="2027-12-01T00:00:00+00:00">1 December 2027</time>' in render_verify_page(view)
