import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError

from lms import transactions
from lms.settings import Settings
from lms.transactions import Session, in_transaction, next_number, open_database, use_database
from tests.commands import Commands

Database = AsyncDatabase[dict[str, Any]]


class Refused(Exception):
    pass


async def test_all_that_was_written_is_there_when_it_returns(database: Database) -> None:
    async def work(session: Session) -> str:
        await database["things"].insert_one({"_id": 1}, session=session)
        await database["others"].insert_one({"_id": 1}, session=session)
        return "result"

    assert await in_transaction(work) == "result"
    assert [await database[name].count_documents({}) for name in ("things", "others")] == [1, 1]


async def test_an_error_comes_out_unchanged_and_nothing_was_written(database: Database) -> None:
    error = Refused("no")

    async def work(session: Session) -> None:
        await database["things"].insert_one({"_id": 1}, session=session)
        raise error

    with pytest.raises(Refused) as raised:
        await in_transaction(work)
    assert raised.value is error
    assert await database["things"].count_documents({}) == 0


async def test_a_double_key_comes_out_as_such_and_nothing_was_written(database: Database) -> None:
    await database["things"].insert_one({"_id": 1})

    async def work(session: Session) -> None:
        await database["others"].insert_one({"_id": 1}, session=session)
        await database["things"].insert_one({"_id": 1}, session=session)

    with pytest.raises(DuplicateKeyError):
        await in_transaction(work)
    assert await database["others"].count_documents({}) == 0


async def test_who_meets_another_writer_runs_again_on_what_that_one_left(database: Database) -> None:
    await database["things"].insert_one({"_id": 1, "count": 0})
    runs: list[int] = []

    async def work(session: Session) -> None:
        found: Any = await database["things"].find_one({"_id": 1}, session=session)
        runs.append(found["count"])
        await asyncio.sleep(0)
        await database["things"].update_one({"_id": 1}, {"$set": {"count": found["count"] + 1}}, session=session)

    await asyncio.gather(*(in_transaction(work) for _ in range(8)))
    assert await database["things"].find_one({}) == {"_id": 1, "count": 8}
    assert len(runs) > 8, "no two met, so this proves nothing"


async def test_commits_are_by_majority_and_bounded(database: Database, commands: Commands, settings: Settings) -> None:
    async def work(session: Session) -> None:
        await database["things"].insert_one({"_id": 1}, session=session)

    await in_transaction(work)
    commits = [command for name, command in commands.seen if name == "commitTransaction"]
    assert len(commits) == 1
    assert commits[0]["writeConcern"]["w"] == "majority"
    assert 0 < commits[0]["maxTimeMS"] <= settings.mongodb_timeout_seconds * 1000


async def test_numbers_of_a_sequence_have_no_holes_and_no_doubles(database: Database) -> None:
    async def take(session: Session) -> int:
        return await next_number("counters", "sam", session)

    async def take_and_fail(session: Session) -> None:
        await next_number("counters", "sam", session)
        raise Refused

    async def other(session: Session) -> int:
        return await next_number("counters", "stella", session)

    assert await in_transaction(take) == 1
    with pytest.raises(Refused):
        await in_transaction(take_and_fail)
    assert sorted(await asyncio.gather(*(in_transaction(take) for _ in range(6)))) == [2, 3, 4, 5, 6, 7]
    assert await in_transaction(other) == 1


async def test_without_a_database_it_says_so(database: Database) -> None:
    use_database(None)
    try:
        assert open_database() is None
        with pytest.raises(RuntimeError, match="not open"):
            transactions.database()
    finally:
        use_database(database)
    assert transactions.client() is database.client


async def test_who_meets_a_writer_that_stays_gives_up_in_time(database: Database) -> None:
    await database["things"].insert_one({"_id": 1})

    async def work(session: Session) -> None:
        await database["things"].update_one({"_id": 1}, {"$inc": {"count": 1}}, session=session)

    async with database.client.start_session() as session, await session.start_transaction():
        await work(session)
        async with asyncio.timeout(5):
            with pytest.raises(PyMongoError):
                await in_transaction(work, seconds=0.5)
    assert await database["things"].find_one({}) == {"_id": 1, "count": 1}
