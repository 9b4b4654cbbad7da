"""The one shape of every error answer (DESIGN section 6)."""

import httpx

FIELDS = {"type", "title", "status", "detail", "code", "request_id"}


def check_shape(answer: httpx.Response) -> None:
    """Raises AssertionError where an error answer is not what clients build on."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() >= FIELDS
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"] == f"urn:lms:problem:{body['code']}"
    assert body["detail"].endswith((".", "?", "!"))
    assert ("errors" in body) == (answer.status_code == 422)
    for error in body.get("errors", []):
        assert {"code", "message"} <= error.keys()
        assert len({"pointer", "parameter", "header"} & error.keys()) == 1
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
