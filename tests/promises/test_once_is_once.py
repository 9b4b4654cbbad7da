"""Promise 2: fifty at once, in two API processes, with Redis wiped in the middle."""

import asyncio
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from lms.embedded import start_valkey
from tests.promises.issuing import all_is_issued, certificate_mails
from tests.promises.journey import School, a_school
from tests.promises.system import Process, System, a_system
from tests.servers import SmtpSink

PARALLEL = 50


async def fifty(apis: list[Process], school: School, redis: Redis, path: str, **body: str) -> list[httpx.Response]:
    """The answers to one request sent fifty times at once; Redis is wiped when the first ones are there."""
    limits = httpx.Limits(max_connections=PARALLEL)
    async with httpx.AsyncClient(headers=school.signed_in, timeout=30, limits=limits) as client:
        asked = [
            asyncio.create_task(client.post(f"{apis[number % 2].health}/api/v1{path}", json=body or None))
            for number in range(PARALLEL)
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await redis.flushall()
        return await asyncio.gather(*asked)


async def two_apis(system: System) -> list[Process]:
    return list(await asyncio.gather(system.start("serve"), system.start("serve")))


async def test_fifty_enrolments_and_fifty_completions_at_once_are_one(
    app: Litestar, mongodb_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    valkey = await start_valkey(tmp_path / "valkey")
    more = {"LMS_SMTP_URL": smtp_sink.url, "LMS_JOB_TIMEOUT_SECONDS": "3"}
    async with (
        Redis.from_url(valkey.url) as redis,
        a_system(tmp_path, mongodb_url, valkey.url, **more) as (system, database),
    ):
        school = await a_school(system, database)
        apis, *_ = await asyncio.gather(two_apis(system), system.start("worker"), system.start("worker"))
        answers = await fifty(apis, school, redis, "/enrollments", course_id=str(school.course.id))
        created = [answer.json() for answer in answers if answer.status_code == 201]
        refused = [answer.json() for answer in answers if answer.status_code == 409]
        assert (len(created), len(refused)) == (1, PARALLEL - 1)
        enrollment = created[0]["id"]
        assert {(one["code"], one["enrollment_id"]) for one in refused} == {("already_enrolled", enrollment)}
        assert await database["enrollments"].distinct("_id") == [UUID(enrollment)]

        first, last = (f"/enrollments/{enrollment}/lessons/{lesson.id}/complete" for lesson in school.course.lessons)
        for path, state, percent in ((first, "active", 50), (last, "completed", 100)):
            answers = await fifty(apis, school, redis, path)
            assert {answer.status_code for answer in answers} == {200}
            assert {(answer.json()["status"], answer.json()["percent"]) for answer in answers} == {(state, percent)}
        assert len({answer.json()["completed_at"] for answer in answers}) == 1
        await all_is_issued(database)
        for collection in ("certificates", "certificate_pdfs"):
            assert await database[collection].distinct("_id") == [UUID(enrollment)]
        assert len({mail["Message-ID"] for mail in certificate_mails(smtp_sink)}) == 1
    await valkey.stop()


@pytest.mark.parametrize("same_key", [True, False])
async def test_fifty_enrolments_under_idempotency_keys_are_one(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path, *, same_key: bool
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        school = await a_school(system, database)
        apis = await two_apis(system)
        body = {"course_id": str(school.course.id)}

        async def enroll(client: httpx.AsyncClient, number: int) -> httpx.Response:
            key = {"Idempotency-Key": "one" if same_key else str(number)}
            return await client.post(f"{apis[number % 2].health}/api/v1/enrollments", json=body, headers=key)

        limits = httpx.Limits(max_connections=PARALLEL)
        async with httpx.AsyncClient(headers=school.signed_in, timeout=30, limits=limits) as client:
            answers = await asyncio.gather(*(enroll(client, number) for number in range(PARALLEL)))
            (enrollment,) = await database["enrollments"].distinct("_id")
            outcomes = {(answer.status_code, answer.json().get("code")) for answer in answers}
            created = [answer.json()["id"] for answer in answers if answer.status_code == 201]
            assert set(created) == {str(enrollment)}
            if same_key:
                # Those that came while the first one ran are told so; its answer is theirs when they ask again.
                assert outcomes <= {(201, None), (409, "idempotency_key_in_use")}
                again = await enroll(client, 0)
                assert (again.status_code, again.json()["id"]) == (201, str(enrollment))
            else:
                assert outcomes == {(201, None), (409, "already_enrolled")}
                assert len(created) == 1
