"""The scheduler by fault: killed or frozen, somebody leads, and no slot runs twice."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from litestar import Litestar

from lms.scheduler import SCHEDULES
from tests.promises.issuing import Database
from tests.promises.system import a_system, eventually


async def leader(database: Database) -> str:
    """The name of whoever holds the lease; empty for nobody."""
    return ((await database["leases"].find_one({"_id": "scheduler"})) or {}).get("owner", "")


async def another_leader(database: Database, than: str) -> str:
    async def find() -> str:
        found = await leader(database)
        return "" if found == than else found

    return await eventually(find)


async def the_next_slots_come(database: Database) -> None:
    """As if the time of one slot had passed; what was emitted before is put aside."""
    await database["outbox"].delete_many({})
    await database["schedules"].update_many({}, {"$inc": {"slot": -1}})


async def all_are_emitted(database: Database) -> None:
    """Until each schedule has its event. Raises AssertionError where a slot has two."""

    async def are_emitted() -> bool:
        return len(await slots(database)) >= len(SCHEDULES)

    await eventually(are_emitted)
    await check_once(database)


async def slots(database: Database) -> Counter[Any]:
    found = database["outbox"].find({"kind": "schedule.due"})
    return Counter([(row["data"]["schedule"], row["data"]["slot"]) async for row in found])


async def check_once(database: Database) -> None:
    assert set((await slots(database)).values()) == {1}


async def test_the_leader_is_killed_and_the_follower_leads(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        killed = await system.start("scheduler")
        await all_are_emitted(database)
        first = await leader(database)
        await system.start("scheduler")
        await killed.kill()
        await the_next_slots_come(database)
        second = await another_leader(database, first)
        await all_are_emitted(database)
        # A third one changes nothing while the second lives.
        third = await system.start("scheduler")
        assert await leader(database) == second
        await check_once(database)
        assert await third.terminate() == 0


async def test_a_leader_that_was_frozen_finds_that_another_leads(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        frozen = await system.start("scheduler")
        await all_are_emitted(database)
        first = await leader(database)
        frozen.freeze()
        await the_next_slots_come(database)
        other = await system.start("scheduler")
        await another_leader(database, first)
        await all_are_emitted(database)
        frozen.go_on()
        await other.kill()

        async def leads_again() -> bool:
            return await leader(database) == first

        await eventually(leads_again)
        await check_once(database)


async def test_killed_again_and_again_each_slot_runs_once(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        for _ in range(2):
            many = await asyncio.gather(*(system.start("scheduler", wait=False) for _ in range(3)))
            await all_are_emitted(database)
            await asyncio.gather(*(one.kill() for one in many))
            await check_once(database)
            # Nobody need wait for a dead leader's lease here.
            await database["leases"].delete_many({})
            await the_next_slots_come(database)
