"""The hot list at two sizes: what a request asks of the database is bounded, and costs the same however many learn."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from pymongo import AsyncMongoClient

from lms.app import create_app
from lms.courses.queries import FILTERS, SORTS
from lms.database import DOCUMENTS, bind
from lms.migrations import migrate
from lms.passwords import Passwords
from lms.settings import Settings
from scripts.measure.explaining import Explained, Join, Lookup
from scripts.measure.hot import EXCUSED, NOT_HOT, Ask, Hot, hot_list
from scripts.measure.hot_report import BROKEN, OK, Row, as_table, judge, tell
from scripts.measure.hot_rules import breaches, values_of
from scripts.measure.hot_world import Cast, arrange, opened
from scripts.measure.seed import PASSWORD, Database, World, seed
from tests.conftest import settings_for

FEW, MANY = 1_500, 24_000


@dataclass(slots=True)
class Measured:
    """The rows at both sizes, and the smaller database with who is in it, for more."""

    settings: Settings
    database: Database
    world: World
    ids: dict[str, str]
    few: list[Row]
    many: list[Row] = field(default_factory=list[Row])


@pytest.fixture(scope="module")
async def measured(mongodb_url: str, redis_url: str) -> AsyncGenerator[Measured]:
    async with seeded(mongodb_url, redis_url, MANY) as (settings, database, world):
        many, _ = await everything(settings, database, world)
    async with seeded(mongodb_url, redis_url, FEW) as (settings, database, world):
        few, ids = await everything(settings, database, world)
        yield Measured(settings, database, world, ids, few, many)


@asynccontextmanager
async def seeded(mongodb_url: str, redis_url: str, size: int) -> AsyncGenerator[tuple[Settings, Database, World]]:
    name = f"lms_hot_{uuid4().hex[:8]}"
    settings = settings_for(mongodb_url, redis_url, LMS_MONGODB_DATABASE=name, LMS_REDIS_PREFIX=f"hot-{name[8:]}")
    # Patient, unlike the product's own.
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        mongodb_url, uuidRepresentation="standard", tz_aware=True
    )
    async with client:
        await bind(client[name])
        await migrate(client[name], DOCUMENTS)
        passwords = Passwords(settings)
        world = await seed(client[name], await passwords.hash(PASSWORD), size)
        passwords.close()
        try:
            yield settings, client[name], world
        finally:
            await client.drop_database(name)


async def everything(settings: Settings, database: Database, world: World) -> tuple[list[Row], dict[str, str]]:
    async with opened(settings, database, world) as cast:
        await arrange(cast, world)
        return await judge(cast, hot_list()), cast.ids


@asynccontextmanager
async def again(measured: Measured) -> AsyncGenerator[Cast]:
    async with opened(measured.settings, measured.database, measured.world) as cast:
        cast.ids |= measured.ids
        yield cast


def told(rows: list[Row]) -> str:
    return f"\n{as_table(rows)}"


def test_no_hot_query_breaks_a_rule_that_nothing_excuses(measured: Measured) -> None:
    for rows in (measured.few, measured.many):
        broken = [row for row in rows if row.verdict == BROKEN]
        assert not broken, told(broken)


def test_every_hot_route_was_seen_to_reach_the_database(measured: Measured) -> None:
    for rows in (measured.few, measured.many):
        asked = {row.asked for row in rows}
        assert {_of(hot) for hot in hot_list()} == {_of(hot) for hot in hot_list() if hot.name in asked}


def _of(hot: Hot) -> str:
    return _route(hot.method, hot.path) if isinstance(hot, Ask) else hot.name


def test_no_hot_query_costs_more_when_more_people_learn(measured: Measured) -> None:
    few = {row.key: row for row in measured.few}
    pairs = [(few[row.key], row) for row in measured.many if row.key in few]
    grown = [one for before, row in pairs if _has_grown(before, row) for one in (before, row)]
    assert not grown, told(grown)


def _has_grown(before: Row, row: Row) -> bool:
    """A batch of ids takes one key or two for each, as they happen to lie beside each other in the index."""
    allowed = max(before.keys, before.documents, 2 * row.returned + 1)
    return row.returned > before.returned or max(row.keys, row.documents) > allowed


def test_every_excuse_is_needed(measured: Measured) -> None:
    """One that is not hides what breaks next. Whoever mends a fault takes its excuse away."""
    used = {place for row in measured.many for place in row.excuses}
    assert [one for place, one in enumerate(EXCUSED) if place not in used] == []


@pytest.mark.parametrize(
    ("collection", "index", "asked", "rule"),
    [
        ("enrollments", "student_created", "my enrolments", "SORT"),
        ("courses", "slug", "a course by slug", "COLLSCAN"),
        ("courses", "status_created", "courses, by cursor", "SORT"),
        ("users", "email", "sign in", "COLLSCAN"),
    ],
)
async def test_a_missing_index_turns_the_verdict(
    measured: Measured, collection: str, index: str, asked: str, rule: str
) -> None:
    hot = [one for one in hot_list() if one.name.startswith(asked)]
    indexed = next(
        one
        for document in DOCUMENTS
        if document.get_collection_name() == collection
        for one in document.get_settings().indexes
        if one.index.document["name"] == index
    )
    async with again(measured) as cast:
        before = await judge(cast, hot)
        await measured.database[collection].drop_index(index)
        after = await judge(cast, hot)
        await measured.database[collection].create_indexes([indexed.index])
    assert {row.verdict for row in before} == {OK}
    broken = [row for row in after if row.verdict == BROKEN]
    assert broken
    assert all(rule in " ".join(row.details) for row in broken), told(broken)


def test_the_table_and_the_exit_code_tell(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(measured.few, tmp_path / "hot.json") == 0
    kept = json.loads((tmp_path / "hot.json").read_bytes())
    assert {row["asked"] for row in kept} == {row.asked for row in measured.few}
    assert all(row["excuses"] for row in kept if row["verdict"] != OK)
    broken = replace(measured.few[0], verdict=BROKEN, details=("SORT: no index",))
    assert tell([broken], None) == 1
    assert "BROKEN: SORT: no index" in capsys.readouterr().out


def test_every_route_is_hot_or_says_why_not(settings: Settings) -> None:
    hot = {_route(one.method, one.path) for one in hot_list() if isinstance(one, Ask)}
    assert hot.isdisjoint(NOT_HOT)
    assert hot | NOT_HOT.keys() == set(_routes(create_app(settings)))


def _routes(app: Litestar) -> list[str]:
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    pairs = [(method, route.path_format) for route in routes for method in route.methods]
    return [_route(method, path) for method, path in pairs if method != "OPTIONS"]


def _route(method: str, path: str) -> str:
    return f"{method} {re.sub(r'{[^}]*}', '{}', path)}"


def test_every_filter_and_every_order_of_the_catalogue_is_asked_for() -> None:
    asked = {pair for one in hot_list() if isinstance(one, Ask) and one.path.endswith("/courses") for pair in one.query}
    assert FILTERS.keys() <= {name for name, _ in asked}
    assert SORTS.keys() - {"-created_at"} == {value for name, value in asked if name == "sort"}


def an_explained(**fields: Any) -> Explained:
    values: dict[str, Any] = {
        "command": "find",
        "collection": "enrollments",
        "wanted": {"student_id": 1},
        "limit": 21,
        "groups": False,
        "returned": 20,
        "keys": 20,
        "documents": 20,
        "stages": frozenset({"FETCH", "IXSCAN"}),
    }
    return Explained(**(values | fields))


JOINED = Join("users", {"_id": None}, "IndexedLoopJoin")


@pytest.mark.parametrize(
    ("fields", "rules"),
    [
        ({}, []),
        ({"keys": 41}, []),
        ({"keys": 42}, ["examined"]),
        ({"documents": 42}, ["examined"]),
        ({"keys": 120, "skipped": 100}, []),
        ({"returned": 0, "keys": 1, "documents": 1}, []),
        ({"returned": 0, "keys": 2, "documents": 2}, ["examined"]),
        ({"keys": 60, "joins": (JOINED,)}, []),
        ({"stages": frozenset({"COLLSCAN"})}, ["COLLSCAN"]),
        ({"stages": frozenset({"SORT_MERGE"})}, []),
        ({"stages": frozenset({"IXSCAN", "$sort"})}, ["SORT"]),
        ({"joins": (Join("users", {"_id": None}, "NestedLoopJoin"),)}, ["COLLSCAN"]),
        ({"lookups": (Lookup("users", {"_id": None}, 20, 20, 20, 0),)}, []),
        ({"lookups": (Lookup("users", {"_id": None}, 20, 42, 20, 0),)}, ["examined"]),
        ({"lookups": (Lookup("users", {"email": None}, 20, 0, 20, 20),)}, ["COLLSCAN"]),
        ({"lookups": (Lookup("enrollments", {"course_id": None}, 20, 20, 20, 0),)}, ["shard key"]),
        ({"joins": (Join("enrollments", {"course_id": None}, "IndexedLoopJoin"),)}, ["shard key"]),
        ({"limit": None}, ["bounded"]),
        ({"limit": 102}, ["bounded"]),
        ({"limit": 10_001, "groups": True}, []),
        ({"limit": 10_002, "groups": True}, ["bounded"]),
        ({"limit": None, "wanted": {"student_id": 1, "course_id": 2}}, []),
        ({"limit": None, "wanted": {"student_id": 1, "_id": {"$in": [1] * 100}}}, []),
        ({"limit": None, "wanted": {"student_id": 1, "_id": {"$in": [1] * 200}}}, ["bounded"]),
        ({"wanted": {"_id": 1}}, ["shard key"]),
        ({"collection": "brand_new"}, ["shard key"]),
        ({"collection": "outbox", "wanted": {"bucket": {"$in": [1, 2]}}}, ["shard key"]),
        ({"command": "insert", "wanted": {"_id": 1, "course_id": 2}, "limit": None, "keys": 0}, ["shard key"]),
        ({"stages": frozenset({"$facet"})}, ["understood"]),
        ({"stages": frozenset({"TEXT_MATCH"}), "keys": 5_000, "documents": 5_000}, []),
        ({"stages": frozenset({"TEXT_MATCH"}), "keys": 5_001, "documents": 5_000}, ["examined"]),
        ({"stages": frozenset({"TEXT_MATCH"}), "limit": 5_000}, []),
        ({"limit": None, "wanted": {"student_id": 1, "_id": {"$in": []}}}, []),
    ],
)
def test_the_rules_judge(fields: dict[str, Any], rules: list[str]) -> None:
    assert [breach.rule for breach in breaches(an_explained(**fields))] == rules


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"x": 1}, 1),
        ({"x": None}, 1),
        ({"x": {"a": 1}}, 1),
        ({"x": {"$eq": 1}}, 1),
        ({"x": {"$in": [1, 2, 3]}}, 3),
        ({"x": {"$gt": 1}}, None),
        ({"x": {"$ne": 1}}, None),
        ({"x": re.compile("^a")}, None),
        ({"y": 1}, None),
        ({"$and": [{"y": 1}, {"x": 1}]}, 1),
        ({"$or": [{"x": 1}, {"x": {"$in": [2, 3]}}]}, 3),
        ({"$or": [{"x": 1}, {"y": 1}]}, None),
        ({"$or": [{"x": 1}, {"y": 1}], "x": {"$in": [1, 2]}}, 2),
    ],
)
def test_what_a_filter_lets_a_field_be_is_counted(wanted: dict[str, Any], count: int | None) -> None:
    assert values_of(wanted, "x") == count
