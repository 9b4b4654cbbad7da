"""What apps ask of a school all day, over HTTP, as one list of answers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.courses.documents import Course
from tests.build import a_course, a_user
from tests.promises.system import System, store

PASSWORD = "correct horse battery"


@dataclass
class School:
    """A stored course with its instructor, and a signed-in student."""

    course: Course
    ivy: User
    sam: User
    signed_in: dict[str, str]
    enrolled: dict[str, str] = field(default_factory=dict[str, str])


async def a_school(system: System, database: AsyncDatabase[dict[str, Any]]) -> School:
    ivy, sam = a_user("Ivy", Role.INSTRUCTOR), a_user("Sam")
    course = a_course(ivy.id)
    await store(database, ivy, sam, course)
    return School(course, ivy, sam, await system.sign_in(database, sam))


async def ask_everything(client: httpx.AsyncClient, school: School) -> list[httpx.Response]:
    """Reads and writes of visitors and of the student, in the order of a journey. All should succeed."""
    email = f"{uuid4().hex}@school.example"
    course, signed_in = f"/api/v1/courses/{school.course.id}", school.signed_in
    answers = await asyncio.gather(
        client.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD, "full_name": "New"}),
        client.get("/api/v1/courses"),
        client.get(course),
        client.get(f"{course}/lessons/{school.course.lessons[0].id}"),
        client.get("/api/v1/users/me", headers=signed_in),
        client.get("/api/v1/enrollments", headers=signed_in),
        client.get("/api/v1/certificates", headers=signed_in),
        client.get("/docs"),
    )
    login = await client.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
    answers.append(login)
    if login.is_success:
        tokens = login.json()
        mine = {"Authorization": f"Bearer {tokens['access_token']}"}
        body = {"course_id": str(school.course.id)}
        answers.append(await client.post("/api/v1/enrollments", json=body, headers=mine | {"Idempotency-Key": email}))
        enrollment = f"/api/v1/enrollments/{answers[-1].json().get('id')}"
        first, last = (f"{enrollment}/lessons/{lesson.id}" for lesson in school.course.lessons)
        refresh = {"refresh_token": tokens["refresh_token"]}
        answers += [
            await client.put(f"{first}/progress", json={"position_seconds": 30}, headers=mine),
            await client.post(f"{first}/complete", headers=mine),
            await client.post(f"{last}/complete", headers=mine),
            await client.get(enrollment, headers=mine),
            await client.post("/api/v1/auth/refresh", json=refresh),
            await client.post("/api/v1/auth/logout", headers=mine),
        ]
    return answers
