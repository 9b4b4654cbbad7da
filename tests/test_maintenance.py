from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import SignIn
from lms.clock import utc_now
from lms.courses.documents import CourseStats
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.mail import Mailer
from lms.maintenance import tasks
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from lms.web.idempotency import IdempotencyRecord
from tests.commands import Commands
from tests.conftest import HeldClock
from tests.outbox.build import emitted

Database = AsyncDatabase[dict[str, Any]]

ACTIVE, COMPLETED, DROPPED = EnrollmentStatus.ACTIVE, EnrollmentStatus.COMPLETED, EnrollmentStatus.DROPPED


async def run(name: str, settings: Settings) -> None:
    event = await emitted(name)
    assert await run_job(name, event.id, JobContext(settings, Mailer(settings))) is Outcome.DONE


async def a_sign_in(expires_at: datetime, ended_at: datetime | None = None) -> UUID:
    sign_in = SignIn(user_id=uuid4(), nonce="nonce", rotated_at=utc_now(), expires_at=expires_at, ended_at=ended_at)
    return (await sign_in.insert()).id


async def an_answer(name: str, expires_at: datetime) -> None:
    await IdempotencyRecord(id=name, body_hash="hash", expires_at=expires_at).insert()


async def enrolled(course_id: UUID, *statuses: EnrollmentStatus) -> None:
    for status in statuses:
        await Enrollment(student_id=uuid4(), course_id=course_id, status=status).insert()


async def stats_of(course_id: UUID) -> tuple[int, int, int, int, int]:
    found = await CourseStats.get(course_id)
    assert found is not None
    return found.enrolled, found.active, found.completed, found.rating_sum, found.rating_count


async def test_expired_and_long_ended_sign_ins_go_and_all_others_stay(
    database: Database, settings: Settings, held_clock: HeldClock
) -> None:
    # Ahead of the real time, so that MongoDB's own expiry has no part in this.
    held_clock.advance(days=10)
    now, hour = held_clock.now, timedelta(hours=1)
    kept = {
        await a_sign_in(now + hour),
        await a_sign_in(now + hour, ended_at=now - hour),
        await a_sign_in(now + hour, ended_at=now - timedelta(days=1)),
        await a_sign_in(now),
    }
    await a_sign_in(now - hour)
    await a_sign_in(now - timedelta(milliseconds=1), ended_at=now - hour)
    await a_sign_in(now + hour, ended_at=now - timedelta(days=1, milliseconds=1))
    await run("cleanup_expired_tokens", settings)
    assert {row["_id"] async for row in database["sessions"].find()} == kept


async def test_links_of_mails_go_when_they_expire(
    database: Database, settings: Settings, held_clock: HeldClock
) -> None:
    held_clock.advance(days=10)
    for minutes in (-1, 0, 1):
        link = MailedLink(
            id=str(minutes),
            purpose=Purpose.RESET_PASSWORD,
            digests=["digest"],
            user_id=uuid4(),
            email="sam@school.example",
            password_rev=0,
            expires_at=held_clock.now + timedelta(minutes=minutes),
        )
        await link.insert()
    await run("cleanup_expired_tokens", settings)
    assert {row["_id"] async for row in database["mailed_links"].find()} == {"0", "1"}


async def test_answers_kept_for_repetitions_go_when_they_expire(
    database: Database, settings: Settings, held_clock: HeldClock
) -> None:
    held_clock.advance(days=10)
    await an_answer("old", held_clock.now - timedelta(seconds=1))
    await an_answer("new", held_clock.now + timedelta(seconds=1))
    await run("cleanup_expired_tokens", settings)
    assert [row["_id"] async for row in database["idempotency"].find()] == ["new"]


async def test_much_is_deleted_in_bounded_batches_up_to_a_bound(
    database: Database,
    settings: Settings,
    held_clock: HeldClock,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 3)
    monkeypatch.setattr(tasks, "MAX_BATCHES", 4)
    held_clock.advance(days=10)
    for _ in range(14):
        await a_sign_in(held_clock.now - timedelta(hours=1))
    commands.seen.clear()
    await run("cleanup_expired_tokens", settings)
    assert commands.writes.count("delete sessions") == 4
    assert await database["sessions"].count_documents({}) == 2
    commands.seen.clear()
    await run("cleanup_expired_tokens", settings)
    assert commands.writes.count("delete sessions") == 1
    assert await database["sessions"].count_documents({}) == 0


async def test_enrolments_are_counted_by_course_and_status(database: Database, settings: Settings) -> None:
    plants, stars, empty = uuid4(), uuid4(), uuid4()
    await enrolled(plants, ACTIVE, ACTIVE, ACTIVE, COMPLETED, DROPPED, DROPPED)
    await enrolled(stars, COMPLETED, COMPLETED, EnrollmentStatus.PENDING)
    await run("update_course_statistics", settings)
    assert await stats_of(plants) == (4, 3, 1, 0, 0)
    assert await stats_of(stars) == (3, 0, 2, 0, 0)
    assert await CourseStats.get(empty) is None


async def test_wrong_counts_are_put_right_and_ratings_stay(database: Database, settings: Settings) -> None:
    plants, stars = uuid4(), uuid4()
    created_at = utc_now() - timedelta(days=3)
    rated: Any = {"rating_sum": 14, "rating_count": 3, "created_at": created_at}
    await CourseStats(id=plants, enrolled=99, active=99, completed=99, **rated).insert()
    await enrolled(plants, ACTIVE, COMPLETED)
    await CourseStats(id=stars, enrolled=2, active=2, **rated).insert()
    await enrolled(stars, DROPPED, DROPPED)
    for _ in range(2):
        await run("update_course_statistics", settings)
        assert await stats_of(plants) == (2, 1, 1, 14, 3)
        assert await stats_of(stars) == (0, 0, 0, 14, 3)
    found = await CourseStats.get(plants)
    assert found is not None
    assert found.created_at == created_at


async def test_counting_reads_an_index_and_no_enrolment(database: Database, settings: Settings) -> None:
    await enrolled(uuid4(), ACTIVE, COMPLETED)
    group = [{"$group": {"_id": {"course": "$course_id", "status": "$status"}, "count": {"$sum": 1}}}]
    plan = await database.command(
        "explain",
        {"aggregate": "enrollments", "pipeline": group, "hint": "course_status", "cursor": {}},
        verbosity="executionStats",
    )
    text = str(plan)
    assert "'totalDocsExamined': 0" in text
    assert "course_status" in text
