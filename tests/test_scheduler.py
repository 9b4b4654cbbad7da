import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from lms import scheduler
from lms.outbox.documents import Event
from lms.scheduler import LEASE, SCHEDULES, emit_due, lead
from tests.conftest import HeldClock
from tests.outbox.build import without_mongodb
from tests.promises.system import Process, a_system, eventually

Database = AsyncDatabase[dict[str, Any]]

HOURLY, OFTEN = "cleanup_expired_tokens", "update_course_statistics"


@pytest.fixture(autouse=True)
def at_the_full_hour(held_clock: HeldClock) -> None:
    held_clock.now = held_clock.now.replace(minute=0, second=0)


async def emitted() -> list[str]:
    """The jobs of all events so far; they are gone afterwards."""
    found = [event.todo[0] for event in await Event.find_all().sort("_id").to_list()]
    await Event.find_all().delete()
    return sorted(found)


def test_what_is_scheduled_and_how_often() -> None:
    assert SCHEDULES == {HOURLY: 3600, OFTEN: 300}


async def test_of_several_schedulers_one_leads(database: Database) -> None:
    for _ in range(3):
        assert sum([await lead(name) for name in ("one", "other", "third")]) == 1
        assert await lead("one") is True


async def test_of_schedulers_that_start_at_once_one_leads(database: Database) -> None:
    assert sum(await asyncio.gather(*(lead(f"scheduler {number}") for number in range(8)))) == 1
    assert await database["leases"].count_documents({}) == 1


async def test_another_leads_when_the_lease_has_ended(database: Database, held_clock: HeldClock) -> None:
    await lead("one")
    held_clock.now += LEASE
    assert await lead("other") is False
    held_clock.advance(seconds=0.001)
    assert await lead("other") is True
    assert await lead("one") is False


async def test_who_leads_keeps_leading(database: Database, held_clock: HeldClock) -> None:
    await lead("one")
    for _ in range(20):
        held_clock.advance(seconds=1)
        assert await lead("one") is True
        assert await lead("other") is False


async def test_each_slot_has_one_event(database: Database, held_clock: HeldClock) -> None:
    assert await emit_due() == 2
    assert await emitted() == [HOURLY, OFTEN]
    for _ in range(299):
        held_clock.advance(seconds=1)
        assert await emit_due() == 0
    held_clock.advance(seconds=1)
    assert await emit_due() == 1
    assert await emitted() == [OFTEN]


async def test_in_a_working_day_each_runs_as_often_as_it_should(database: Database, held_clock: HeldClock) -> None:
    for _ in range(8 * 12):
        await emit_due()
        held_clock.advance(minutes=5)
    found = await emitted()
    assert (found.count(HOURLY), found.count(OFTEN), len(found)) == (8, 96, 104)


async def test_what_was_missed_runs_once(database: Database, held_clock: HeldClock) -> None:
    await emit_due()
    await emitted()
    held_clock.advance(days=3, minutes=2)
    assert await emit_due() == 2
    assert await emit_due() == 0
    assert await emitted() == [HOURLY, OFTEN]
    held_clock.advance(minutes=3)
    assert await emit_due() == 1


async def test_an_event_says_what_it_is_for_and_is_due_at_once(database: Database, held_clock: HeldClock) -> None:
    await emit_due()
    event = await Event.find_one({"todo": OFTEN})
    assert event is not None
    assert (event.kind, event.todo, event.due) == ("schedule.due", [OFTEN], held_clock.now)
    assert event.data == {"schedule": OFTEN, "slot": int(held_clock.now.timestamp()) // 300}


async def test_schedulers_that_all_think_to_lead_emit_each_slot_once(database: Database, held_clock: HeldClock) -> None:
    for _ in range(3):
        assert sum(await asyncio.gather(*(emit_due() for _ in range(6)))) == 2
        assert await emitted() == [HOURLY, OFTEN]
        held_clock.advance(hours=1)


async def test_a_clock_that_went_back_runs_nothing_again(database: Database, held_clock: HeldClock) -> None:
    await emit_due()
    held_clock.advance(minutes=-20)
    assert await emit_due() == 0


async def test_who_does_not_lead_emits_nothing(database: Database, held_clock: HeldClock) -> None:
    await lead("one")
    await scheduler._tick_safely("other")  # pyright: ignore[reportPrivateUsage]
    assert await emitted() == []
    held_clock.now += LEASE + timedelta(seconds=1)
    await scheduler._tick_safely("other")  # pyright: ignore[reportPrivateUsage]
    assert await emitted() == [HOURLY, OFTEN]


async def test_while_mongodb_is_away_it_says_so_and_waits(database: Database) -> None:
    async with without_mongodb(database):
        with capture_logs() as logs:
            await scheduler._tick_safely("one")  # pyright: ignore[reportPrivateUsage]
    assert [(line["event"], line["part"]) for line in logs] == [("scheduler_waits", "mongodb")]
    await scheduler._tick_safely("one")  # pyright: ignore[reportPrivateUsage]
    assert await emitted() == [HOURLY, OFTEN]


async def ready(process: Process) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{process.health}/health/ready")).json()


async def test_two_processes_share_the_work_and_leave_in_order(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        one, other = await asyncio.gather(system.start("scheduler"), system.start("scheduler"))
        assert await ready(one) == {
            "status": "ok",
            "parts": {name: {"status": "ok"} for name in ("mongodb", "schema", "process")},
        }

        async def one_leads() -> bool:
            return await database["leases"].count_documents({"_id": "scheduler"}) == 1

        async def both_are_emitted() -> bool:
            return await database["outbox"].count_documents({}) >= 2

        await eventually(one_leads)
        await eventually(both_are_emitted)
        slots = [(row["todo"][0], row["data"]["slot"]) async for row in database["outbox"].find()]
        assert {name for name, _ in slots} == {HOURLY, OFTEN}
        assert len(set(slots)) == len(slots), "no slot has two events"
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{one.health}/metrics")).text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert [sample.labels for sample in families["lms_process_start_time_seconds"].samples] == [
            {"kind": "scheduler"}
        ]
        assert await one.terminate() == 0
        await eventually(one_leads)
        assert await other.terminate() == 0
        assert not await one_leads()
        for process in (one, other):
            log = process.log.read_text()
            assert "scheduler_started" in log
            assert "scheduler_stopped" in log
