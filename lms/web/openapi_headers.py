"""The headers of requests and answers, as the OpenAPI document tells of them."""

from typing import Any

from litestar.handlers import HTTPRouteHandler

from lms.web.openapi_errors import is_conditional_write, is_limited

OK = range(200, 300)


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


HEADERS: dict[str, dict[str, Any]] = {
    "ETag": _header("The state of what was answered, for If-Match and If-None-Match.", '"3.7"'),
    "Link": _header(
        "RFC 8288: the first, previous, next and last page, or the next cursor.", '</...?page=2>; rel="next"'
    ),
    "Location": _header("Where what was made is found.", "/api/v1/courses/0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03"),
    "RateLimit": _header("Requests left, and seconds until all are there again.", '"reads";r=1199;t=1'),
    "RateLimit-Policy": _header("Requests allowed in how many seconds.", '"reads";q=1200;w=60'),
    "Retry-After": _header("Seconds after which to try again.", "2"),
    "WWW-Authenticate": _header("How to sign in, and what is wrong with the token.", "Bearer"),
    "X-Request-Id": _header("Name it when you report a problem.", "0198c5a27d3e7c419f562b8a4d1e6f03"),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": _header(
        "A name for this attempt, up to 255 characters. For 24 hours the same request with it gets the same answer.",
        "b7f9a1c2-enrol",
    ),
    "If-Match": _header("The ETag last seen; 412 where somebody changed it since.", '"3.7"'),
    "If-None-Match": _header("ETags at hand; 304 where one of them is still right.", '"3.7"'),
}


def request_headers(method: str, handler: HTTPRouteHandler) -> list[dict[str, Any]]:
    wanted = {
        "Idempotency-Key": bool(handler.opt.get("idempotent")),
        "If-Match": is_conditional_write(method, handler),
        "If-None-Match": method == "GET",
    }
    return [{"name": name, "in": "header"} | PARAMETERS[name] for name, present in wanted.items() if present]


def header_names(method: str, handler: HTTPRouteHandler, status: int) -> list[str]:
    """The headers of an answer with this status, in the order of their names."""
    good = status in OK
    tagged = method == "GET" and (good or status == 304)  # noqa: PLR2004 - Not Modified
    # What is deleted has no state to tell of.
    told = (good and method != "DELETE") or status == 412  # noqa: PLR2004 - Precondition Failed
    changed = is_conditional_write(method, handler) and told
    wanted = {
        "ETag": tagged or changed,
        "Link": good and "paging" in handler.parsed_fn_signature.parameters,
        "Location": status in {201, 302},
        "RateLimit": is_limited(handler),
        "RateLimit-Policy": is_limited(handler),
        "Retry-After": status in {429, 503},
        "WWW-Authenticate": status == 401,  # noqa: PLR2004 - Unauthorized
        "X-Request-Id": True,
    }
    return [name for name, present in wanted.items() if present]
