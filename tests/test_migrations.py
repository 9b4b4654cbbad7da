import asyncio
import uuid
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from beanie import Document
from litestar import Litestar
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel
from pymongo.errors import DuplicateKeyError, OperationFailure

from lms import migrations
from lms.accounts.documents import User
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.database import DOCUMENTS
from lms.migrations import (
    SCHEMA_VERSION,
    Database,
    MigrationRunning,
    indexes_of,
    is_migrated,
    migrate,
    migrate_when_free,
    schema_version,
)
from lms.settings import Settings
from tests.promises.system import eventually

SERVERS_OWN = {"_id_"}
SOME: list[type[Document]] = [User, Course]


@pytest.fixture
async def empty(app: Litestar, settings: Settings) -> AsyncGenerator[Database]:
    """A database in which nothing was made yet."""
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(settings.mongodb_url, tz_aware=True, timeoutMS=4000)
    database = client[f"lms_test_{uuid.uuid4().hex[:12]}"]
    try:
        yield database
    finally:
        await client.drop_database(database.name)
        await client.close()


async def names_in(database: Database, collection: str) -> set[str]:
    return set(await database[collection].index_information()) - SERVERS_OWN


async def test_a_new_database_gets_every_declared_index(empty: Database) -> None:
    assert not await is_migrated(empty)
    done = await migrate(empty, DOCUMENTS)
    for document in DOCUMENTS:
        declared = {index.document["name"] for index in indexes_of(document)}
        assert await names_in(empty, document.get_collection_name()) == declared
        assert {f"index: {document.get_collection_name()}.{name}" for name in declared} <= set(done)
    assert await is_migrated(empty)
    assert await schema_version(empty) == SCHEMA_VERSION


async def test_collections_are_made_even_without_an_index(empty: Database) -> None:
    await migrate(empty, DOCUMENTS)
    there = set(await empty.list_collection_names())
    assert there == {document.get_collection_name() for document in DOCUMENTS} | {"meta"}


async def test_what_only_one_may_have_is_unique(empty: Database) -> None:
    await migrate(empty, DOCUMENTS)
    await empty["users"].insert_one({"email": "sam@school.example"})
    with pytest.raises(DuplicateKeyError):
        await empty["users"].insert_one({"email": "sam@school.example"})


async def test_the_second_time_there_is_nothing_to_do(empty: Database) -> None:
    assert await migrate(empty, SOME) != []
    assert await migrate(empty, SOME) == []
    assert await empty["meta"].find_one({"_id": "migration_lock"}) is None


async def test_of_many_at_once_one_works_and_all_succeed(empty: Database) -> None:
    done = await asyncio.gather(*(migrate_when_free(empty, SOME) for _ in range(4)))
    assert sorted(bool(one) for one in done) == [False, False, False, True]
    assert await is_migrated(empty)


async def test_an_index_that_was_dropped_comes_back(empty: Database) -> None:
    await migrate(empty, SOME)
    await empty["courses"].drop_index("slug")
    assert await migrate(empty, SOME) == ["index: courses.slug"]
    assert "slug" in await names_in(empty, "courses")


async def test_others_indexes_stay(empty: Database) -> None:
    await migrate(empty, SOME)
    await empty["courses"].create_index([("category", ASCENDING)], name="of_the_operator")
    assert await migrate(empty, SOME) == []
    assert "of_the_operator" in await names_in(empty, "courses")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (IndexModel([("a", ASCENDING)], name="one"), IndexModel([("a", DESCENDING)], name="one")),
        (
            IndexModel([("a", ASCENDING), ("b", ASCENDING)], name="one"),
            IndexModel([("b", ASCENDING), ("a", ASCENDING)], name="one"),
        ),
        (IndexModel([("a", ASCENDING)], name="one"), IndexModel([("a", ASCENDING)], name="one", unique=True)),
        (
            IndexModel([("a", ASCENDING)], name="one", expireAfterSeconds=60),
            IndexModel([("a", ASCENDING)], name="one", expireAfterSeconds=0),
        ),
        (
            IndexModel([("a", ASCENDING)], name="one"),
            IndexModel([("a", ASCENDING)], name="one", partialFilterExpression={"a": {"$type": "date"}}),
        ),
        (
            IndexModel([("a", "text")], name="one", weights={"a": 1}, default_language="none", language_override="x"),
            IndexModel([("a", "text")], name="one", weights={"a": 5}, default_language="none", language_override="x"),
        ),
    ],
)
async def test_an_index_that_is_declared_otherwise_now_is_made_anew(
    empty: Database, monkeypatch: pytest.MonkeyPatch, before: IndexModel, after: IndexModel
) -> None:
    monkeypatch.setattr(User.Settings, "indexes", [before])
    await migrate(empty, SOME)
    monkeypatch.setattr(User.Settings, "indexes", [after])
    assert await migrate(empty, SOME) == ["index: users.one, changed"]
    assert await migrate(empty, SOME) == []


async def test_an_index_that_the_data_forbids_is_an_error_and_frees_the_lock(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await empty["courses"].insert_many([{"slug": "botany"}, {"slug": "botany"}])
    with pytest.raises(OperationFailure):
        await migrate(empty, SOME)
    assert not await is_migrated(empty)
    monkeypatch.setattr(Course.Settings, "indexes", [])
    await migrate(empty, SOME)
    assert await is_migrated(empty)


async def test_steps_run_once_and_in_order(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(empty, SOME)
    ran: list[int] = []

    async def one(database: Database) -> None:
        assert await schema_version(database) == SCHEMA_VERSION
        ran.append(1)

    async def another(database: Database) -> None:
        assert await schema_version(database) == SCHEMA_VERSION + 1
        ran.append(2)

    monkeypatch.setattr(migrations, "STEPS", [*migrations.STEPS, one, another])
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    assert not await is_migrated(empty)
    assert await migrate(empty, SOME) == [f"documents: step {SCHEMA_VERSION + n}" for n in (1, 2)]
    assert await migrate(empty, SOME) == []
    assert ran == [1, 2]
    assert await is_migrated(empty)


async def test_a_step_that_fails_is_the_first_one_next_time(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    async def fine(_: Database) -> None:
        ran.append("fine")

    async def broken(_: Database) -> None:
        ran.append("broken")
        if len(ran) < 3:
            raise LookupError

    monkeypatch.setattr(migrations, "STEPS", [fine, broken])
    with pytest.raises(LookupError):
        await migrate(empty, SOME)
    assert await schema_version(empty) == 2
    assert await migrate(empty, SOME) == ["documents: step 3"]
    assert ran == ["fine", "broken", "broken"]


async def test_an_older_version_leaves_a_newer_database_alone(empty: Database) -> None:
    await migrate(empty, SOME)
    await empty["meta"].update_one({"_id": "schema"}, {"$set": {"version": SCHEMA_VERSION + 5}})
    assert await migrate(empty, SOME) == []
    assert await schema_version(empty) == SCHEMA_VERSION + 5
    assert await is_migrated(empty)


async def test_a_migration_that_takes_long_keeps_its_lock(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def long(_: Database) -> None:
        started.set()
        await go_on.wait()

    async def locked_until() -> object:
        lock = await empty["meta"].find_one({"_id": "migration_lock"})
        return lock and lock["until"]

    monkeypatch.setattr(migrations, "STEPS", [long])
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 2.0)
    working = asyncio.create_task(migrate(empty, SOME))
    await started.wait()
    first = await locked_until()

    async def is_kept() -> bool:
        return await locked_until() != first

    await eventually(is_kept)
    with pytest.raises(MigrationRunning):
        await migrate_when_free(empty, SOME, seconds=-1)
    go_on.set()
    assert "documents: step 2" in await working
    assert await locked_until() is None


async def test_one_that_waits_goes_on_when_the_other_is_done(empty: Database) -> None:
    await empty["meta"].insert_one(
        {"_id": "migration_lock", "holder": "another", "until": utc_now() + timedelta(seconds=60)}
    )
    waiting = asyncio.create_task(migrate_when_free(empty, SOME))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert done == set()
    assert not await is_migrated(empty)
    await empty["meta"].delete_one({"_id": "migration_lock"})
    assert await waiting != []


async def test_a_lock_of_one_that_was_killed_runs_out(empty: Database) -> None:
    lock = {"_id": "migration_lock", "holder": "killed", "until": utc_now() - timedelta(seconds=1)}
    await empty["meta"].insert_one(lock)
    assert await migrate(empty, SOME) != []


async def test_who_lost_the_lock_does_not_take_it_from_the_next(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"holder": "next", "until": utc_now() + timedelta(seconds=60)}

    async def frozen_meanwhile(database: Database) -> None:
        await database["meta"].update_one({"_id": "migration_lock"}, {"$set": theirs})

    monkeypatch.setattr(migrations, "STEPS", [frozen_meanwhile])
    await migrate(empty, SOME)
    assert await empty["meta"].find_one({"_id": "migration_lock"}) == {"_id": "migration_lock"} | theirs
