"""Who may do what: for every route the answers to each kind of caller.

The columns are a visitor; Sam, a student, whose enrolment, certificate and session these are; Stella, another student;
Ivy, the instructor whose course it is; Oscar, another instructor; Ada, an administrator. `-` repeats the one before.
"""

from typing import Any

CALLERS = ("visitor", "sam", "stella", "ivy", "oscar", "ada")
API = "/api/v1"

ANYBODY, SIGNED_IN, ADMIN = "200 - - - - -", "401 200 - - - -", "401 403 - - - 200"

TABLE: dict[str, str] = {
    f"POST {API}/auth/register": "202 - - - - -",
    f"POST {API}/auth/login": ANYBODY,
    f"POST {API}/auth/refresh": ANYBODY,
    f"POST {API}/auth/logout": SIGNED_IN,
    f"POST {API}/auth/logout-all": SIGNED_IN,
    f"GET {API}/auth/sessions": SIGNED_IN,
    f"DELETE {API}/auth/sessions/{{session_id}}": "401 204 404 - - -",
    f"POST {API}/auth/forgot-password": "202 - - - - -",
    f"POST {API}/auth/reset-password": "422 - - - - -",
    f"POST {API}/auth/verify-email/request": "202 - - - - -",
    f"POST {API}/auth/verify-email/confirm": "422 - - - - -",
    f"POST {API}/auth/change-email/confirm": "422 - - - - -",
    f"POST {API}/auth/change-password": "401 200 403 - - -",
    f"POST {API}/auth/change-email": "401 202 403 - - -",
    f"POST {API}/auth/login/mfa": "422 - - - - -",
    f"GET {API}/auth/mfa": SIGNED_IN,
    f"POST {API}/auth/mfa/totp": "401 200 403 - - -",
    f"POST {API}/auth/mfa/totp/confirm": "401 409 - - - -",
    f"DELETE {API}/auth/mfa/totp": "401 409 - - - -",
    f"POST {API}/auth/mfa/recovery-codes": "401 409 - - - -",
    f"POST {API}/auth/prove": "401 200 403 - - -",
    f"GET {API}/users/me": SIGNED_IN,
    f"PATCH {API}/users/me": SIGNED_IN,
    f"GET {API}/users": ADMIN,
    f"POST {API}/users": "401 403 - - - 201",
    f"GET {API}/users/{{user_id}}": ADMIN,
    f"PATCH {API}/users/{{user_id}}": ADMIN,
    f"GET {API}/users/{{user_id}}/enrollments": ADMIN,
    f"GET {API}/users/invitations": ADMIN,
    f"POST {API}/users/invitations": "401 403 - - - 202",
    f"GET {API}/users/invitations/{{invitation_id}}": ADMIN,
    f"DELETE {API}/users/invitations/{{invitation_id}}": "401 403 - - - 204",
    f"POST {API}/auth/invitations/accept": "422 - - - - -",
    f"POST {API}/users/{{user_id}}/logout-all": ADMIN,
    f"DELETE {API}/users/{{user_id}}": "401 403 - - - 204",
    f"GET {API}/users/{{user_id}}/export": ADMIN,
    f"DELETE {API}/users/me": "401 204 - 409 204 409",
    f"GET {API}/users/me/export": SIGNED_IN,
    f"GET {API}/users/me/identities": SIGNED_IN,
    f"DELETE {API}/users/me/identities/{{identity_id}}": "401 204 404 - - -",
    f"GET {API}/auth/api-keys": SIGNED_IN,
    f"POST {API}/auth/api-keys": "401 403 - 201 - -",
    f"GET {API}/auth/api-keys/{{key_id}}": "401 404 - 200 404 -",
    f"DELETE {API}/auth/api-keys/{{key_id}}": "401 404 - 204 404 -",
    f"GET {API}/auth/oidc": ANYBODY,
    f"GET {API}/auth/oidc/{{provider}}/start": "404 - - - - -",
    f"GET {API}/auth/oidc/{{provider}}/callback": "404 - - - - -",
    f"POST {API}/auth/oidc/{{provider}}/exchange": "404 - - - - -",
    f"GET {API}/courses": ANYBODY,
    f"POST {API}/courses": "401 403 - 201 - -",
    f"GET {API}/courses/{{course_id}}": ANYBODY,
    f"GET {API}/courses/slug/{{slug}}": ANYBODY,
    f"PATCH {API}/courses/{{course_id}}": "401 403 - 200 403 200",
    f"POST {API}/courses/{{course_id}}/publish": "401 403 - 200 403 200",
    f"POST {API}/courses/{{course_id}}/unpublish": "401 403 - 200 403 200",
    f"POST {API}/courses/{{course_id}}/archive": "401 403 - 200 403 200",
    f"DELETE {API}/courses/{{course_id}}": "401 403 - 409 403 409",
    f"POST {API}/courses/{{course_id}}/duplicate": "401 403 - 201 403 201",
    f"GET {API}/courses/{{course_id}}/outline": ANYBODY,
    f"PUT {API}/courses/{{course_id}}/outline": "401 403 - 422 403 422",
    f"POST {API}/courses/{{course_id}}/modules": "401 403 - 201 403 201",
    f"PATCH {API}/courses/{{course_id}}/modules/{{module_id}}": "401 403 - 200 403 200",
    f"DELETE {API}/courses/{{course_id}}/modules/{{module_id}}": "401 403 - 409 403 409",
    f"GET {API}/courses/{{course_id}}/lessons": ANYBODY,
    f"POST {API}/courses/{{course_id}}/lessons": "401 403 - 201 403 201",
    f"GET {API}/courses/{{course_id}}/lessons/{{lesson_id}}": "401 200 403 200 403 200",
    f"PATCH {API}/courses/{{course_id}}/lessons/{{lesson_id}}": "401 403 - 200 403 200",
    f"DELETE {API}/courses/{{course_id}}/lessons/{{lesson_id}}": "401 403 - 204 403 204",
    f"GET {API}/enrollments": SIGNED_IN,
    f"POST {API}/enrollments": "401 409 201 - - -",
    f"GET {API}/enrollments/{{enrollment_id}}": "401 200 404 200 404 200",
    f"DELETE {API}/enrollments/{{enrollment_id}}": "401 204 404 - - -",
    f"PUT {API}/enrollments/{{enrollment_id}}/lessons/{{lesson_id}}/progress": "401 200 404 - - -",
    f"POST {API}/enrollments/{{enrollment_id}}/lessons/{{lesson_id}}/complete": "401 200 404 - - -",
    f"GET {API}/certificates": SIGNED_IN,
    f"GET {API}/certificates/{{certificate_id}}": "401 200 404 200 404 200",
    f"GET {API}/certificates/{{certificate_id}}/pdf": "401 200 404 200 404 200",
    f"GET {API}/audit": ADMIN,
    "GET /verify/{number}": ANYBODY,
    "GET /.well-known/jwks.json": ANYBODY,
    "GET /health/live": ANYBODY,
    "GET /health/ready": ANYBODY,
    "GET /docs": ANYBODY,
    "GET /docs/assets/{name}": ANYBODY,
    f"GET {API}/openapi.json": ANYBODY,
}

OWN_CREDENTIALS = {"GET /metrics": "asks for a token of its own, which tests/web/test_metrics.py tries"}
"""Routes that no sign-in opens, and why they are not in the table."""

BODIES: dict[str, dict[str, Any]] = {
    f"POST {API}/auth/register": {
        "email": "new@school.example",
        "password": "correct horse battery",
        "full_name": "Nia New",
    },
    f"POST {API}/auth/api-keys": {"name": "nightly", "scopes": ["courses:read"]},
    f"POST {API}/auth/oidc/{{provider}}/exchange": {"code": "c" * 43, "app_verifier": "v" * 43},
    f"PUT {API}/courses/{{course_id}}/outline": {"modules": []},
    f"PATCH {API}/courses/{{course_id}}/modules/{{module_id}}": {"title": "Another title"},
    f"POST {API}/auth/login": {"email": "sam@school.example", "password": "correct horse battery"},
    f"POST {API}/auth/refresh": {"refresh_token": "{refresh_token}"},
    f"POST {API}/auth/forgot-password": {"email": "sam@school.example"},
    f"POST {API}/auth/reset-password": {"token": "t" * 43, "password": "a fresh new start"},
    f"POST {API}/auth/verify-email/request": {"email": "sam@school.example"},
    f"POST {API}/auth/verify-email/confirm": {"token": "t" * 43},
    f"POST {API}/auth/change-email/confirm": {"token": "t" * 43},
    f"POST {API}/auth/change-password": {
        "current_password": "correct horse battery",
        "new_password": "a fresh new start",
    },
    f"POST {API}/auth/change-email": {
        "current_password": "correct horse battery",
        "new_email": "samuel@school.example",
    },
    f"POST {API}/auth/login/mfa": {"challenge_token": "t" * 43},
    f"POST {API}/auth/mfa/totp": {"current_password": "correct horse battery"},
    f"POST {API}/auth/mfa/totp/confirm": {"code": "123456"},
    f"POST {API}/auth/prove": {"password": "correct horse battery"},
    f"PATCH {API}/users/me": {"locale": "de"},
    f"POST {API}/users": {"email": "nia@school.example", "full_name": "Nia New", "role": "instructor"},
    f"PATCH {API}/users/{{user_id}}": {"role": "instructor", "active": False},
    f"POST {API}/users/invitations": {"email": "nia@school.example", "role": "instructor"},
    f"POST {API}/auth/invitations/accept": {"token": "t" * 43, "password": "a fresh new start"},
    f"POST {API}/courses": {"title": "Birds of the marsh"},
    f"PATCH {API}/courses/{{course_id}}": {"title": "Plants of the dunes"},
    f"POST {API}/courses/{{course_id}}/modules": {"title": "More"},
    f"POST {API}/courses/{{course_id}}/lessons": {"title": "More", "content_type": "text", "content": "More."},
    f"PATCH {API}/courses/{{course_id}}/lessons/{{lesson_id}}": {"title": "Another title"},
    f"POST {API}/enrollments": {"course_id": "{course_id}"},
    f"PUT {API}/enrollments/{{enrollment_id}}/lessons/{{lesson_id}}/progress": {"position_seconds": 5},
}


QUERIES = {
    f"DELETE {API}/users/me": {"confirm": "erase"},
    f"DELETE {API}/users/{{user_id}}": {"confirm": "erase"},
    f"GET {API}/auth/oidc/{{provider}}/start": {"return_to": "/", "app_challenge": "c" * 43},
}


def expected(key: str) -> dict[str, int]:
    """By caller."""
    found: list[int] = []
    for word in TABLE[key].split():
        found.append(found[-1] if word == "-" else int(word))
    return dict(zip(CALLERS, found, strict=True))
