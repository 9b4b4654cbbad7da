"""Erasing goes on wherever it was killed, and an export that broke off never looks whole."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.certificates.documents import Certificate, CertificatePdf
from lms.certificates.numbers import number_of
from lms.clock import utc_now
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from tests.build import a_course, a_user
from tests.promises.faults import a_wire
from tests.promises.issuing import SHORT_LEASES, somebody_is_done
from tests.promises.system import System, a_system, eventually, store

Database = AsyncDatabase[dict[str, Any]]
BYTES = 500_000
"""Of one enrolment that is too large for what buffers hold on the way."""


async def a_certified_person(database: Database, enrollments: int = 0) -> tuple[User, UUID]:
    """Sam with one certificate and so many enrolments without; returns the certificate's id as well."""
    ivy, sam = a_user("Ivy", Role.INSTRUCTOR), a_user("Sam")
    course = a_course(ivy.id)
    done = {"status": EnrollmentStatus.COMPLETED, "percent": 100, "certificate_issued": True}
    kept = Enrollment.model_validate({"student_id": sam.id, "course_id": course.id, "completed_at": utc_now()} | done)
    certificate = Certificate(
        id=kept.id,
        student_id=sam.id,
        course_id=course.id,
        course_slug=course.slug,
        number=number_of(kept.id),
        name=sam.full_name,
        course_title=course.title,
        instructor_name=ivy.full_name,
        issuer="Tidewater School",
        issued_at=utc_now(),
    )
    await store(database, ivy, sam, course, kept, certificate, CertificatePdf(id=kept.id, content=b"%PDF"))
    await store(database, *(Enrollment(student_id=sam.id, course_id=uuid4()) for _ in range(enrollments)))
    return sam, kept.id


async def erase(system: System, user: User) -> None:
    assert await system.run("users", "erase", user.email, "--yes") == 0


async def test_a_killed_worker_leaves_the_rest_to_the_next_one(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with (
        a_wire(mongodb_url) as wire,
        a_system(tmp_path, mongodb_url, redis_url, **SHORT_LEASES) as (system, database),
    ):
        sam, kept = await a_certified_person(database, enrollments=120)
        await erase(system, sam)
        # Every batch is a transaction; the first one is committed, and the worker does not know yet.
        wire.hold("commitTransaction", answer=True)
        worker = await system.start("worker", wait=False, LMS_MONGODB_URL=wire.url)
        await wire.holds()

        async def some_are_gone() -> bool:
            return await database["enrollments"].count_documents({}) < 121

        await eventually(some_are_gone)
        await worker.kill()
        assert await database["enrollments"].count_documents({}) > 1
        await system.start("worker")

        async def nothing_is_due() -> bool:
            wanted = {"kind": "user.erased", "$or": [{"due": {"$lte": utc_now()}}, {"attempts": {"$gt": 0}}]}
            return await database["outbox"].count_documents(wanted) == 0

        await eventually(nothing_is_due, 60)
        [left] = await database["enrollments"].find().to_list()
        [certificate] = await database["certificates"].find().to_list()
        assert (left["_id"], left["progress"], certificate["_id"]) == (kept, {}, kept)
        assert certificate["name"] is None
        assert await database["certificate_pdfs"].count_documents({}) == 0


async def test_a_certificate_that_was_being_issued_does_not_bring_the_name_back(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_wire(mongodb_url) as wire, a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        done = await somebody_is_done(database)
        # The certificate is printed, and the first write of its transaction is on its way.
        wire.hold("insert")
        slow = {"LMS_MONGODB_URL": wire.url, "LMS_MONGODB_TIMEOUT_SECONDS": "25", "LMS_JOB_TIMEOUT_SECONDS": "25"}
        await system.start("worker", wait=False, **slow)
        await wire.holds()
        assert await system.run("users", "erase", "sam@school.example", "--yes") == 0
        await system.start("worker")

        async def is_gone() -> bool:
            return await database["enrollments"].count_documents({}) == 0

        await eventually(is_gone)
        wire.release()

        async def is_over() -> bool:
            return await database["outbox"].find_one({"_id": done.event}) is None

        await eventually(is_over)
        for name in ("certificates", "certificate_pdfs", "enrollments", "student_counters"):
            assert await database[name].count_documents({}) == 0


async def an_export(
    system: System, database: Database, url: str, user: User, *, pause: float = 0, first: int = 0
) -> bytes:
    """What arrives where a reader pauses after the `first` bytes, or after every megabyte."""
    header = await system.sign_in(database, user)
    got, paused_at = bytearray(), 0
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream(
            "GET", f"{url}/api/v1/users/me/export", headers=header | {"Accept-Encoding": "identity"}
        ) as answer,
    ):
        assert answer.status_code == 200
        async for part in answer.aiter_raw():
            got += part
            if pause and len(got) >= max(first, paused_at):
                paused_at = len(got) + (10**9 if first else 1_000_000)
                await asyncio.sleep(pause)
    return bytes(got)


async def test_an_export_whose_database_goes_away_breaks_off(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_wire(mongodb_url) as wire, a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        sam, _ = await a_certified_person(database, enrollments=5)
        api = await system.start("serve", LMS_MONGODB_URL=wire.url, LMS_MONGODB_TIMEOUT_SECONDS="1")
        wire.hold("certificates")
        with pytest.raises(httpx.RemoteProtocolError):
            await an_export(system, database, api.health, sam)
        assert b'"event":"answer_broke_off"' in api.log.read_bytes()
        assert b'"complete":true' in await an_export(system, database, api.health, sam)


async def test_a_slow_reader_gets_all_and_one_that_stands_still_is_let_go(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_REQUEST_TIMEOUT_SECONDS="1.5") as (system, database):
        sam, _ = await a_certified_person(database)
        large = Enrollment(student_id=sam.id, course_id=uuid4()).as_stored() | {"progress": {"a": a_large_entry()}}
        await database["enrollments"].insert_many([large | {"_id": uuid4(), "course_id": uuid4()} for _ in range(60)])
        api = await system.start("serve")
        whole = await an_export(system, database, api.health, sam, pause=0.1)
        assert whole.endswith(b'"complete":true}')
        assert len(whole) > 60 * BYTES
        with pytest.raises(httpx.RemoteProtocolError):
            await an_export(system, database, api.health, sam, pause=5, first=1_000)


def a_large_entry() -> dict[str, Any]:
    return {
        "state": 1,
        "furthest": 0,
        "position": None,
        "stamp": None,
        "data": "x" * BYTES,
        "data_stamp": None,
        "watched": [],
        "first_completed_at": None,
        "required": True,
        "epoch": 0,
        "length": 60,
    }
