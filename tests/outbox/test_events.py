from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.clock import utc_now
from lms.outbox.documents import BUCKETS, Event
from lms.transactions import Session, in_transaction
from tests.conftest import HeldClock
from tests.outbox.build import emitted, row_of

Database = AsyncDatabase[dict[str, Any]]


class Refused(Exception):
    pass


async def test_an_event_is_committed_with_its_change_and_due_at_once(database: Database, held_clock: HeldClock) -> None:
    user_id = uuid4()

    async def change(session: Session) -> Event:
        await database["things"].insert_one({"_id": 1}, session=session)
        return await Event.emit(session, "thing.made", ["one", "other"], user_id=str(user_id), slot=7)

    event = await in_transaction(change)
    stored = await Event.get(event.id)
    assert stored is not None
    assert (stored.kind, stored.todo, stored.data["slot"]) == ("thing.made", ["one", "other"], 7)
    assert stored.subject("user_id") == user_id
    assert (stored.due, stored.attempts, stored.failed_at, stored.last_error) == (held_clock.now, 0, None, None)
    assert await database["things"].count_documents({}) == 1


async def test_an_aborted_transaction_leaves_no_event(database: Database) -> None:
    async def change(session: Session) -> None:
        await database["things"].insert_one({"_id": 1}, session=session)
        await Event.emit(session, "thing.made", ["one"])
        raise Refused

    with pytest.raises(Refused):
        await in_transaction(change)
    assert await Event.find_all().count() == 0
    assert await database["things"].count_documents({}) == 0


async def test_nobody_sees_an_event_before_its_transaction_commits(database: Database) -> None:
    async def change(session: Session) -> int:
        await Event.emit(session, "thing.made", ["one"])
        return await Event.find_all().count()

    assert await in_transaction(change) == 0
    assert await Event.find_all().count() == 1


async def test_events_spread_over_all_buckets_by_their_ids(database: Database) -> None:
    async def change(session: Session) -> list[Event]:
        return [await Event.emit(session, "thing.made", ["one"]) for _ in range(400)]

    events = await in_transaction(change, seconds=60)
    assert all(event.bucket == event.id.int % 64 for event in events)
    assert len({event.bucket for event in events}) > BUCKETS / 2
    assert {row["bucket"] async for row in database["outbox"].find()} <= set(range(64))


async def test_the_row_goes_with_its_last_job_and_only_one_call_did_it(database: Database) -> None:
    event = await emitted("one", "other")
    assert await event.finish("one") is True
    assert await event.finish("one") is False
    row = await row_of(event)
    assert row is not None
    assert row["todo"] == ["other"]
    assert await event.finish("other") is True
    assert await row_of(event) is None
    assert await event.finish("other") is False


async def test_a_job_that_is_not_left_to_do_cannot_be_finished(database: Database) -> None:
    event = await emitted("one")
    assert await event.finish("another") is False
    assert await row_of(event) is not None


@pytest.mark.parametrize("jobs", [["one"], ["one", "other"]])
async def test_a_job_finished_in_an_aborted_transaction_is_still_to_do(database: Database, jobs: list[str]) -> None:
    event = await emitted(*jobs)

    async def change(session: Session) -> None:
        assert await event.finish("one", session=session) is True
        raise Refused

    with pytest.raises(Refused):
        await in_transaction(change)
    row = await row_of(event)
    assert row is not None
    assert row["todo"] == jobs


async def test_an_id_that_is_none_is_no_subject(database: Database) -> None:
    event = Event(kind="thing.made", bucket=0, data={"user_id": UUID(int=5)}, todo=[], due=utc_now() + timedelta(1))
    assert event.subject("user_id") == UUID(int=5)
    with pytest.raises(KeyError):
        event.subject("course_id")
