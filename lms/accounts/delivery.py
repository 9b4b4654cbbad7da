"""Where a refresh token goes: into the answer, or into a cookie of the browser.

Only `refresh` and `logout` read the cookie; everywhere else whoever has nothing but it is a visitor. Since a browser
sends it along by itself, those two then need an `Origin` from LMS_CORS_ORIGINS, and a header that no form can send.
`SameSite=Strict` keeps it from other sites, so the app and the API have to be of one.
"""

from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie

from lms.accounts.rules import CsrfHeaderMissing, OriginRefused, RefreshRefused
from lms.accounts.schemas import Delivery, Refresh, Tokens
from lms.errors import FieldError, Invalid
from lms.schemas import Output
from lms.settings import Settings

PLAIN_NAME = "lms_refresh"
CSRF_HEADER = "X-LMS-CSRF"

T = TypeVar("T", bound=Output)
AnyRequest = Request[Any, Any, Any]


def host_only(settings: Settings, name: str) -> str:
    """The prefix keeps other hosts of the site from planting one (RFC 6265bis 4.1.3.2); it needs https."""
    return f"__Host-{name}" if settings.has_https else name


def cookie_name(settings: Settings) -> str:
    return host_only(settings, PLAIN_NAME)


def kept_token(request: AnyRequest, settings: Settings) -> str | None:
    """What the cookie holds. Whoever acts by it calls `check_browser` as well."""
    return request.cookies.get(cookie_name(settings)) or None


def check_delivery(request: AnyRequest, settings: Settings, delivery: Delivery) -> None:
    """Before anything is done. Raises `OriginRefused`: a foreign page must not sign a browser in as somebody else."""
    if delivery == "cookie" and request.headers.get("Origin") not in settings.cors_origins:
        raise OriginRefused


def check_browser(request: AnyRequest, settings: Settings) -> None:
    """Raises `OriginRefused` or `CsrfHeaderMissing` where the cookie may have been sent without the app's doing."""
    check_delivery(request, settings, "cookie")
    if request.headers.get(CSRF_HEADER) != "1":
        raise CsrfHeaderMissing


def presented(request: AnyRequest, settings: Settings, data: Refresh) -> tuple[str, Delivery]:
    """The one refresh token that came, and where its successor goes. What came by cookie never goes into a body, where
    scripts could read it.
    """
    kept = kept_token(request, settings)
    if isinstance(data.refresh_token, str):
        if kept is not None:
            raise _refused("ambiguous", "There is one in the cookie as well; sign out of that, or leave this one out.")
        delivery = data.delivery if isinstance(data.delivery, str) else "body"
        check_delivery(request, settings, delivery)
        return data.refresh_token, delivery
    if kept is None:
        raise _refused("required", "This field is required, unless the browser sends the cookie.")
    check_browser(request, settings)
    if data.delivery == "body":
        raise _refused("not_supported", "What is in the cookie stays in the cookie.", "#/delivery")
    return kept, "cookie"


def _refused(code: str, message: str, pointer: str = "#/refresh_token") -> Invalid:
    return Invalid(errors=[FieldError(code=code, message=message, pointer=pointer)])


def answer_tokens(request: AnyRequest, settings: Settings, answer: T, delivery: Delivery) -> Response[T]:
    """What every way to sign in answers with, after `check_delivery`; it may be that a code is asked for first."""
    check_delivery(request, settings, delivery)
    if delivery == "body" or not isinstance(answer, Tokens) or not isinstance(answer.refresh_token, str):
        return Response(answer)
    cookie = _cookie(settings, answer.refresh_token, answer.refresh_expires_in)
    return Response(msgspec.structs.replace(answer, refresh_token=msgspec.UNSET), cookies=[cookie])


def forgetting(request: AnyRequest, settings: Settings) -> list[Cookie]:
    """Takes the cookie away from a browser that has one."""
    return [_cookie(settings, "", 0)] if cookie_name(settings) in request.cookies else []


def forget(refused: RefreshRefused, request: AnyRequest, settings: Settings) -> None:
    """A cookie that is worth nothing any more would only be refused again."""
    for cookie in forgetting(request, settings):
        refused.headers["Set-Cookie"] = cookie.to_header(header="")


def _cookie(settings: Settings, value: str, seconds: int) -> Cookie:
    return Cookie(
        cookie_name(settings),
        value=value,
        path="/",
        max_age=seconds,
        secure=settings.has_https,
        httponly=True,
        samesite="strict",
    )
