"""Promise 1: what was answered with 2xx is there, whichever process dies at that moment."""

import asyncio
from pathlib import Path
from uuid import UUID

import httpx
from litestar import Litestar

from lms.accounts.documents import Role
from lms.embedded import start_mongod
from tests.build import a_course, a_user
from tests.promises.faults import a_wire
from tests.promises.issuing import all_is_issued, certificate_mails
from tests.promises.journey import a_school
from tests.promises.system import a_system, eventually, store
from tests.servers import SmtpSink

STUDENTS = 20


async def test_the_api_is_killed_right_after_its_answer(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_SMTP_URL=smtp_sink.url) as (system, database):
        school = await a_school(system, database)
        one, other = await asyncio.gather(system.start("serve"), system.start("serve"))
        async with httpx.AsyncClient(headers=school.signed_in, timeout=20) as client:
            body = {"course_id": str(school.course.id)}
            enrolled = await client.post(f"{one.health}/api/v1/enrollments", json=body)
            await one.kill()
            assert enrolled.status_code == 201
            enrollment = f"{other.health}/api/v1/enrollments/{enrolled.json()['id']}"
            answers = [
                await client.post(f"{enrollment}/lessons/{lesson.id}/complete") for lesson in school.course.lessons
            ]
            await other.kill()
        assert [answer.json()["status"] for answer in answers] == ["active", "completed"]
        await system.start("worker")
        await all_is_issued(database)
        assert await database["certificates"].distinct("_id") == [UUID(enrolled.json()["id"])]
        (mail,) = certificate_mails(smtp_sink)
        assert mail["To"] == school.sam.email


async def test_the_api_is_killed_among_many_requests(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_SMTP_URL=smtp_sink.url) as (system, database):
        ivy = a_user("Ivy", Role.INSTRUCTOR)
        course = a_course(ivy.id)
        students = [a_user(f"Student {number}") for number in range(STUDENTS)]
        await store(database, ivy, course, *students)
        signed_in = [await system.sign_in(database, student) for student in students]
        api, _ = await asyncio.gather(system.start("serve"), system.start("worker"))
        enrolled: list[str] = []
        completed: list[str] = []

        async def learn(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
            """All of the course, as far as the API lives."""
            answer = await client.post("/enrollments", json={"course_id": str(course.id)}, headers=headers)
            assert answer.status_code == 201
            mine = answer.json()["id"]
            enrolled.append(mine)
            for lesson in course.lessons:
                answer = await client.post(f"/enrollments/{mine}/lessons/{lesson.id}/complete", headers=headers)
                assert answer.status_code == 200
            assert answer.json()["status"] == "completed"
            completed.append(mine)
            if len(completed) == STUDENTS // 4:
                api.process.kill()

        async with httpx.AsyncClient(base_url=f"{api.health}/api/v1", timeout=20) as client:
            outcomes = await asyncio.gather(*(learn(client, one) for one in signed_in), return_exceptions=True)
        await api.kill()
        lost = [outcome for outcome in outcomes if outcome is not None]
        assert lost
        assert all(isinstance(outcome, httpx.TransportError) for outcome in lost), lost

        stored = {str(row["_id"]): row["status"] async for row in database["enrollments"].find()}
        assert set(enrolled) <= stored.keys()
        finished = {one for one, status in stored.items() if status == "completed"}
        assert set(completed) <= finished
        # What was done without an answer counts as well: the change and its event are one commit.
        await all_is_issued(database)
        assert {str(one) for one in await database["certificates"].distinct("_id")} == finished
        assert len({mail["Message-ID"] for mail in certificate_mails(smtp_sink)}) == len(finished)


async def test_mongodb_is_killed_right_after_the_answer(
    app: Litestar, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    mongod = await start_mongod(tmp_path / "mongodb")
    async with a_system(tmp_path, mongod.url, redis_url, LMS_SMTP_URL=smtp_sink.url) as (system, database):
        school = await a_school(system, database)
        api = await system.start("serve")
        enrollments = f"{api.health}/api/v1/enrollments"
        async with httpx.AsyncClient(headers=school.signed_in, timeout=20) as client:
            enrolled = await client.post(enrollments, json={"course_id": str(school.course.id)})
            lessons = f"{enrollments}/{enrolled.json()['id']}/lessons"
            answers = [await client.post(f"{lessons}/{lesson.id}/complete") for lesson in school.course.lessons]
            mongod.process.kill()
            await mongod.process.wait()
            assert answers[-1].json()["status"] == "completed"
            mongod = await start_mongod(tmp_path / "mongodb", port=mongod.port)
            await eventually(api.is_ready)
            assert (await client.get(f"{enrollments}/{enrolled.json()['id']}")).json()["status"] == "completed"
        await system.start("worker")
        await all_is_issued(database)
        assert await database["certificates"].distinct("_id") == [UUID(enrolled.json()["id"])]
    await mongod.stop()


async def test_a_commit_whose_outcome_is_unknown_is_no_success(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with (
        a_wire(mongodb_url) as wire,
        a_system(tmp_path, mongodb_url, redis_url, LMS_MONGODB_TIMEOUT_SECONDS="1") as (system, database),
    ):
        school = await a_school(system, database)
        api = await system.start("serve", LMS_MONGODB_URL=wire.url)
        body = {"course_id": str(school.course.id)}
        async with httpx.AsyncClient(base_url=f"{api.health}/api/v1", headers=school.signed_in, timeout=20) as client:
            wire.hold("commitTransaction", answer=True)
            answer = await client.post("/enrollments", json=body, headers={"Idempotency-Key": "once"})
            await wire.holds()
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            wire.release()
            # It did commit; whoever asks again with the same key gets the answer that was lost.
            (stored,) = await database["enrollments"].distinct("_id")
            again = await client.post("/enrollments", json=body, headers={"Idempotency-Key": "once"})
            assert (again.status_code, again.json()["id"]) == (201, str(stored))
