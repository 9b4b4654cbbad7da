"""A small school, made anew for each request of the matrix, since many of them change it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.accounts.service import Accounts
from lms.api_keys.documents import Scope
from lms.clock import utc_now
from lms.oidc.documents import Identity
from lms.outbox.documents import Event
from lms.users.documents import Invitation
from tests.accounts.people import PASSWORD, a_person, sign_in
from tests.api_keys.keys import a_key
from tests.build import a_course
from tests.certificates.issued import a_certificate
from tests.conftest import open_client, token_for
from tests.permissions.table import QUERIES

ROLES = {
    "sam": Role.STUDENT,
    "stella": Role.STUDENT,
    "ivy": Role.INSTRUCTOR,
    "oscar": Role.INSTRUCTOR,
    "ada": Role.ADMIN,
}


@dataclass
class School:
    app: Litestar
    accounts: Accounts
    people: dict[str, User]
    ids: dict[str, str]

    async def token(self, name: str) -> str:
        return await token_for(self.accounts, self.people[name])

    async def ask(self, key: str, body: dict[str, Any] | None, token: str | None = None) -> httpx.Response:
        method, _, template = key.partition(" ")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with open_client(self.app, **headers) as client:
            url = f"http://lms.test{template.format_map(self.ids)}"
            filled = None if body is None else _filled(body, self.ids)
            return await client.request(method, url, params=QUERIES.get(key), json=filled)


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, ids) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, ids) for one in value]
    return value.format_map(ids) if isinstance(value, str) else value


async def a_school(app: Litestar, accounts: Accounts, database: AsyncDatabase[dict[str, Any]]) -> School:
    """Sam studies Ivy's course and has a certificate of another one of hers."""
    for name in await database.list_collection_names():
        if name != "meta":
            await database[name].delete_many({})
    people = {name: await a_person(accounts, name.title(), role=role, verified=True) for name, role in ROLES.items()}
    # Sam's is the password that all bodies have; the others have one of their own.
    others = {"_id": {"$ne": people["sam"].id}}
    own = await accounts.passwords.hash("a password of their own")
    await User.get_pymongo_collection().update_many(others, {"$set": {"password_hash": own}})
    course = await a_course(people["ivy"].id).insert()
    certificate = await a_certificate(people["sam"], await a_course(people["ivy"].id, "Birds").insert())
    async with open_client(app) as client:
        signed = await sign_in(client, people["sam"], PASSWORD)
        enrolled = await client.post("/enrollments", json={"course_id": str(course.id)}, headers=signed.header)
        assert enrolled.status_code == 201, enrolled.text
    invitation = await Invitation(
        email="ian@school.example",
        full_name="Ian Invited",
        role=Role.INSTRUCTOR,
        invited_by=people["ada"].id,
        expires_at=utc_now() + timedelta(days=7),
    ).insert()
    key, _ = await a_key(people["ivy"], Scope.COURSES_READ)
    identity = await Identity(
        user_id=people["sam"].id, issuer="https://id.example", subject="sam", provider="id"
    ).insert()
    await Event.find_all().delete()
    ids = {
        "session_id": signed.family,
        "refresh_token": signed.refresh_token,
        "course_id": str(course.id),
        "slug": course.slug,
        "lesson_id": course.lessons[1].id,
        "module_id": course.modules[0].id,
        "enrollment_id": enrolled.json()["id"],
        "certificate_id": str(certificate.id),
        "number": certificate.number,
        "name": "swagger-ui.css",
        "key_id": str(key.id),
        "identity_id": str(identity.id),
        "provider": "unknown",
        "invitation_id": str(invitation.id),
        "user_id": str(people["stella"].id),
    }
    return School(app, accounts, people, ids)
