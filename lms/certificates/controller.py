from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from lms.accounts.documents import Role
from lms.api_keys.documents import Scope
from lms.auth import ANYONE_SIGNED_IN, Caller, CurrentUser, requires
from lms.certificates import queries
from lms.certificates.numbers import enrollment_id_of
from lms.certificates.page import STYLE_CSP_HASH, VerifyView, render_verify_page
from lms.certificates.rules import CertificateNotFound, PdfErased, check_can_see, public_status
from lms.certificates.schemas import CertificateRead, Verification
from lms.clock import utc_now
from lms.courses import queries as courses
from lms.courses.rules import is_staff
from lms.schemas import from_stored
from lms.settings import Settings
from lms.web.etags import strong_tag
from lms.web.lists import CursorPage, Page, Paging, answer_list


class CertificateController(Controller):
    path = "/certificates"
    tags = ["certificates"]
    guards = [requires(*ANYONE_SIGNED_IN)]

    @get("/", opt={"scope": Scope.CERTIFICATES_READ})
    async def list_certificates(
        self,
        request: Request[Any, Any, Any],
        user: CurrentUser,
        paging: NamedDependency[Paging],
        settings: NamedDependency[Settings],
    ) -> Response[Page[CertificateRead] | CursorPage[CertificateRead]]:
        """The caller's own certificates, newest enrolment first."""
        items, total, cursor = await queries.list_certificates(user.id, paging, settings)
        return answer_list(request, paging, items, total, cursor)

    @get("/{certificate_id:uuid}", opt={"scope": Scope.CERTIFICATES_READ, "errors": [CertificateNotFound]})
    async def get_certificate(
        self, certificate_id: FromPath[UUID], user: CurrentUser, settings: NamedDependency[Settings]
    ) -> CertificateRead:
        """A certificate: for its student, the course's staff and administrators."""
        return queries.shown(await _visible(certificate_id, user), settings)

    @get(
        "/{certificate_id:uuid}/pdf",
        media_type="application/pdf",
        opt={"scope": Scope.CERTIFICATES_READ, "conditional": True, "errors": [CertificateNotFound, PdfErased]},
    )
    async def get_certificate_pdf(self, certificate_id: FromPath[UUID], user: CurrentUser) -> Response[bytes]:
        """The printed form."""
        raw = await _visible(certificate_id, user)
        if raw["name"] is None:
            raise PdfErased
        pdf = await queries.pdfs.get(certificate_id)
        if pdf is None:
            raise CertificateNotFound
        headers = {
            "ETag": strong_tag(pdf["revision"]),
            "Content-Disposition": f'attachment; filename="certificate-{raw["number"]}.pdf"',
        }
        return Response(bytes(pdf["content"]), media_type="application/pdf", headers=headers)


async def _visible(certificate_id: UUID, caller: Caller) -> dict[str, Any]:
    raw = await queries.certificates.get(certificate_id)
    staff = False
    if raw is not None and raw["student_id"] != caller.id:
        course = await courses.course(raw["course_id"], courses.RIGHTS)
        # A certificate outlives its course.
        staff = is_staff(course, caller.id, caller.role) if course else caller.role is Role.ADMIN
    check_can_see(raw, caller.id, staff=staff)
    return raw or {}


@get(
    "/verify/{number:str}",
    tags=["public"],
    opt={"any_query": True, "errors": [CertificateNotFound]},
)
async def verify_certificate(
    request: Request[Any, Any, Any], number: FromPath[str], settings: NamedDependency[Settings]
) -> Response[Verification]:
    """Whether a certificate is genuine: a page for people, JSON for programs, by the Accept header."""
    certificate_id = enrollment_id_of(number)
    raw = await queries.certificates.get(certificate_id) if certificate_id else None
    status = public_status(raw, utc_now()) if raw else "unknown"
    if wants_page(request.headers.get("accept", "")):
        return _page(VerifyView(**_facts(raw, status, number), issuer=raw["issuer"] if raw else settings.school_name))
    if raw is None or status == "unknown":
        raise CertificateNotFound
    body = msgspec.convert(_facts(raw, status, number), Verification, dec_hook=from_stored)
    return Response(body, headers={"Vary": "Accept", "Cache-Control": "no-cache"})


def wants_page(accept: str) -> bool:
    """Browsers name text/html; programs that name nothing, or anything, get JSON."""
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    html = next((place for place, kind in enumerate(kinds) if kind in {"text/html", "application/xhtml+xml"}), None)
    json = next((place for place, kind in enumerate(kinds) if kind in {"application/json", "application/*"}), None)
    return html is not None and (json is None or html < json)


def _facts(raw: dict[str, Any] | None, status: str, number: str) -> dict[str, Any]:
    if raw is None:
        return {"status": status, "number": number[:60]}
    revoked = status == "revoked"
    return {
        "status": status,
        "number": raw["number"],
        "name": raw["name"],
        "course_title": raw["course_title"],
        "issued_at": raw["issued_at"],
        "revoked_at": raw["revoked_at"] if revoked else None,
        "reason": raw["reason"] if revoked else None,
    }


def _page(view: VerifyView) -> Response[Any]:
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src {STYLE_CSP_HASH}; frame-ancestors 'none'",
        "Vary": "Accept",
        "Cache-Control": "no-cache",
    }
    status = 404 if view.status == "unknown" else 200
    return Response(render_verify_page(view), status_code=status, media_type="text/html", headers=headers)
