import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.audit import APPEND_JOB, chain
from lms.audit.chain import BEGINNING, Verified, append, hash_of, verify
from lms.audit.documents import Act, AuditDetails, AuditEntry, AuditKey
from lms.outbox.documents import Event
from lms.outbox.jobs import JOBS
from lms.settings import Settings
from lms.transactions import Session, in_transaction
from tests.audit.acts import act, append_all, raw_entries

Database = AsyncDatabase[dict[str, Any]]
PERSON = uuid4()


async def faults(**expected: str) -> list[tuple[int, str]]:
    heads = {int(place.removeprefix("at_")): digest for place, digest in expected.items()}
    return [(one.sequence, one.problem) async for one in verify(Verified(), heads)]


async def five_acts(settings: Settings) -> list[dict[str, Any]]:
    for number in range(5):
        told = {PERSON: {"address": f"192.0.2.{number}"}}
        await act(Act.SIGNED_IN, PERSON, PERSON, told, {"number": number, "again": number > 3})
    await append_all(settings)
    return await raw_entries()


async def test_entries_follow_each_other_from_one_on_and_each_names_the_one_before(
    database: Database, settings: Settings
) -> None:
    rows = await five_acts(settings)
    assert [row["_id"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["previous"] for row in rows] == [BEGINNING, *(row["hash"] for row in rows[:-1])]
    assert [row["facts"]["number"] for row in rows] == [0, 1, 2, 3, 4]
    verified = Verified()
    assert [one async for one in verify(verified, {5: rows[-1]["hash"]})] == []
    assert (verified.entries, verified.head) == (5, rows[-1]["hash"])


async def test_an_empty_log_is_whole(database: Database) -> None:
    assert await faults() == []


async def test_an_act_that_was_undone_is_not_there(database: Database, settings: Settings) -> None:
    class Undone(Exception):
        pass

    async def write(session: Session) -> None:
        await chain_record(session)
        raise Undone

    with pytest.raises(Undone):
        await in_transaction(write)
    assert await append_all(settings) == []


async def chain_record(session: Session) -> None:
    from lms.audit import record

    await record(session, Act.SIGNED_OUT, actor=PERSON, target=PERSON)


async def test_one_act_that_is_delivered_twenty_times_has_one_place(database: Database) -> None:
    await act()
    (event,) = await Event.find_all().to_list()
    await asyncio.gather(*(append(event) for _ in range(20)))
    assert [row["_id"] for row in await raw_entries()] == [1]


async def test_appenders_in_many_processes_leave_no_gap_and_lose_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each process has a lock of its own, which holds nobody of another one back.
    monkeypatch.setattr(chain, "_appending", contextlib.nullcontext())
    for number in range(40):
        await act(facts={"number": number})
    waiting = await Event.find_all().to_list()
    await asyncio.gather(*(append(event) for event in [*waiting, *waiting]))
    rows = await raw_entries()
    assert [row["_id"] for row in rows] == list(range(1, 41))
    assert sorted(row["facts"]["number"] for row in rows) == list(range(40))
    assert await faults() == []


Tamper = Callable[[list[dict[str, Any]]], Awaitable[Any]]


async def change(rows: list[dict[str, Any]]) -> None:
    await AuditEntry.get_pymongo_collection().update_one({"_id": 3}, {"$set": {"facts.number": 99}})


async def change_the_actor(rows: list[dict[str, Any]]) -> None:
    await AuditEntry.get_pymongo_collection().update_one({"_id": 3}, {"$set": {"actor": str(uuid4())}})


async def change_and_hash_anew(rows: list[dict[str, Any]]) -> None:
    row = rows[2] | {"actor": "system"}
    row["hash"] = hash_of(row)
    await AuditEntry.get_pymongo_collection().replace_one({"_id": 3}, row)


async def take_out(rows: list[dict[str, Any]]) -> None:
    await AuditEntry.get_pymongo_collection().delete_one({"_id": 3})


async def take_out_and_close_the_gap(rows: list[dict[str, Any]]) -> None:
    await AuditEntry.get_pymongo_collection().delete_many({"_id": {"$gte": 3}})
    for row in rows[3:]:
        await AuditEntry.get_pymongo_collection().insert_one(row | {"_id": row["_id"] - 1})


async def swap(rows: list[dict[str, Any]]) -> None:
    await AuditEntry.get_pymongo_collection().delete_many({"_id": {"$in": [2, 3]}})
    await AuditEntry.get_pymongo_collection().insert_many([rows[1] | {"_id": 3}, rows[2] | {"_id": 2}])


async def change_details(rows: list[dict[str, Any]]) -> None:
    other = {f"sealed.{PERSON}": b"something else"}
    await AuditDetails.get_pymongo_collection().update_one({"_id": rows[2]["event_id"]}, {"$set": other})


async def remove_details(rows: list[dict[str, Any]]) -> None:
    await AuditDetails.get_pymongo_collection().delete_one({"_id": rows[2]["event_id"]})


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        (change, {(3, "was changed")}),
        (change_the_actor, {(3, "was changed")}),
        (change_and_hash_anew, {(4, "does not follow from the one before")}),
        (take_out, {(4, "follows 2; what stood between is missing")}),
        (take_out_and_close_the_gap, {(3, "was changed"), (4, "was changed")}),
        (swap, {(2, "was changed"), (3, "was changed")}),
        (change_details, {(3, "has other details than it was written with")}),
        (remove_details, {(3, "has other details than it was written with")}),
    ],
)
async def test_tampering_shows_and_where(
    database: Database, settings: Settings, tamper: Tamper, seen: set[tuple[int, str]]
) -> None:
    await tamper(await five_acts(settings))
    assert seen <= set(await faults())


async def test_a_head_that_is_kept_elsewhere_shows_what_was_taken_off_the_end_or_written_anew(
    database: Database, settings: Settings
) -> None:
    rows = await five_acts(settings)
    await AuditEntry.get_pymongo_collection().delete_one({"_id": 5})
    assert await faults() == []
    assert await faults(at_5=rows[4]["hash"]) == [(5, "was taken off the end")]
    await act(facts={"instead": True})
    await append_all(settings)
    assert await faults() == []
    assert await faults(at_4=rows[3]["hash"], at_5=rows[4]["hash"]) == [(5, "is not what was there once")]


async def test_without_a_person_s_key_the_chain_still_verifies(database: Database, settings: Settings) -> None:
    await five_acts(settings)
    await AuditKey.get_pymongo_collection().delete_one({"_id": PERSON})
    assert await faults() == []


async def test_nothing_that_tells_of_a_person_is_stored_in_the_open(database: Database, settings: Settings) -> None:
    told = {PERSON: {"email": "sam@school.example", "address": "192.0.2.7"}}
    await act(Act.EMAIL_CHANGED, PERSON, PERSON, told)
    waiting = await Event.get_pymongo_collection().find().to_list()
    await append_all(settings)
    everything = [waiting, await raw_entries(), await AuditDetails.get_pymongo_collection().find().to_list()]
    for text in ("sam@school", "192.0.2.7"):
        assert text not in repr(everything)


async def test_appending_is_tried_again_for_ever(database: Database) -> None:
    retry = JOBS[APPEND_JOB].retry
    assert retry.attempts > 100_000_000
    assert retry.delay(100_000).total_seconds() == 300
