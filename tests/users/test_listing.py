from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.accounts.people import change_role
from lms.clock import utc_now
from lms.database import DOCUMENTS
from lms.folding import search_words
from lms.migrations import migrate
from lms.settings import Settings
from lms.users import queries
from lms.web.searching import MOST_CANDIDATES
from scripts.measure.explaining import Explained, explain, open_explaining
from tests.accounts.people import refusal
from tests.build import a_user
from tests.commands import Commands
from tests.conftest import ClientFor
from tests.recovery.mailed import newest_token

Database = AsyncDatabase[dict[str, Any]]
MANY = 6_000

PEOPLE = {
    "zoe@school.example": "Zoë Lindqvist",
    "lukasz@school.example": "Łukasz Żak",
    "anne@tide.example": "Anne-Marie O'Neil",
    "sam.okafor@school.example": "Sam Okafor",
    "samira@school.example": "Samira Okafor",
    "odd+(x)*@school.example": "C. Odd [x]",
    "yang@school.example": "欧阳 修",
}


@pytest.fixture
async def admin(client_for: ClientFor, ada: User) -> httpx.AsyncClient:
    return await client_for(ada)


async def names(admin: httpx.AsyncClient, **query: str) -> list[str]:
    response = await admin.get("/users", params=query)
    assert response.status_code == 200, response.text
    return [one["email"].partition("@")[0] for one in response.json()["items"]]


async def test_people_are_listed_newest_first_by_page_and_by_cursor(
    admin: httpx.AsyncClient, ada: User, ivy: User, sam: User, stella: User
) -> None:
    born = {"$set": {"created_at": sam.created_at}}
    await User.get_pymongo_collection().update_one({"_id": stella.id}, born)
    first_of_two, second = sorted((sam, stella), key=lambda one: one.id.bytes, reverse=True)
    expected = [one.email.partition("@")[0] for one in (first_of_two, second, ivy, ada)]
    assert await names(admin) == expected
    page = (await admin.get("/users", params={"page_size": "3"})).json()
    assert (page["total"], page["pages"], len(page["items"])) == (4, 2, 3)
    assert set(page["items"][0]) == {
        *("id", "email", "full_name", "role", "active", "verified", "locale", "time_zone", "created_at"),
    }
    found, cursor = list[str](), ""
    while cursor is not None:
        answer = (await admin.get("/users", params={"page_size": "1", "cursor": cursor})).json()
        found += [one["email"].partition("@")[0] for one in answer["items"]]
        cursor = answer["next_cursor"]
    assert found == expected


async def test_filters_work_alone_and_together(
    admin: httpx.AsyncClient, ada: User, ivy: User, sam: User, stella: User
) -> None:
    await a_user("Oscar", Role.INSTRUCTOR, active=False).insert()
    await a_user("Tom", active=False).insert()
    assert await names(admin, role="instructor") == ["oscar", "ivy"]
    assert await names(admin, active="false") == ["tom", "oscar"]
    assert await names(admin, active="true", role="student") == ["stella", "sam"]
    assert await names(admin, active="false", role="instructor", search="okafor") == ["oscar"]
    assert await names(admin, active="false", role="admin") == []


@pytest.mark.parametrize(
    "query",
    [{"role": "owner"}, {"active": "maybe"}, {"search": ""}, {"search": "x" * 101}, {"sort": "email"}, {"email": "x"}],
)
async def test_what_cannot_be_asked_is_refused(admin: httpx.AsyncClient, query: dict[str, str]) -> None:
    response = await admin.get("/users", params=query)
    assert refusal(response) == (422, "validation_failed")
    assert [error["parameter"] for error in response.json()["errors"]] == list(query)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("zoe", ["zoe"]),
        ("ZOË", ["zoe"]),
        ("Zoe\u0308 lind", ["zoe"]),
        ("luk zak", ["lukasz"]),
        ("marie", ["anne"]),
        ("anne-m", ["anne"]),
        ("o'n", ["anne"]),
        ("neil anne", ["anne"]),
        ("sam", ["samira", "sam.okafor"]),
        ("okafor sam", ["samira", "sam.okafor"]),
        ("sam.o", ["sam.okafor"]),
        ("Okafor, Sam <sam.okafor@school.example>", ["sam.okafor"]),
        ("anne@tide", ["anne"]),
        ("欧阳", ["yang"]),
        # The middle of a word is no beginning.
        ("kafor", []),
        ("tide", []),
        ("sam zoe", []),
        # What means something elsewhere means itself here.
        (".*", []),
        ("^sam", []),
        ("sam$", []),
        ("s.m", []),
        ("(", []),
        ("[x]", ["odd+(x)*"]),
        ("odd+(x)*", ["odd+(x)*"]),
        ("odd.", []),
        ("\\", []),
        ("$where", []),
        ("\u0000", []),
        (" ", []),
    ],
)
async def test_a_search_is_by_beginnings_without_case_and_accents(
    admin: httpx.AsyncClient, database: Database, search: str, found: list[str]
) -> None:
    for at, (email, name) in enumerate(PEOPLE.items()):
        born = utc_now() + timedelta(seconds=at)
        await User(email=email, full_name=name, password_hash="none", created_at=born).insert()
    assert await names(admin, search=search) == found
    assert await names(admin, search=search, cursor="") == found


async def test_who_gets_another_name_or_address_is_found_by_that(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, client_for: ClientFor, settings: Settings
) -> None:
    words = {"email": "uma@school.example", "full_name": "Uma Okafor", "password": "correct horse battery"}
    assert (await client.post("/auth/register", json=words)).status_code == 202
    assert await names(admin, search="uma") == ["uma"]
    user = await User.by_email(words["email"])
    assert user is not None
    hers = await client_for(user)
    assert (await hers.patch("/users/me", json={"full_name": "Çiğdem Ünal"})).status_code == 200
    assert (await names(admin, search="cigdem un"), await names(admin, search="okafor")) == (["uma"], ["ada"])
    change = {"new_email": "cigdem@tide.example", "current_password": words["password"]}
    assert (await hers.post("/auth/change-email", json=change)).status_code == 202
    for made_for in ("change_email.old", "change_email.new"):
        token = await newest_token(settings, "user.email_change_asked", made_for)
        assert (await client.post("/auth/change-email/confirm", json={"token": token})).status_code == 200
    assert await names(admin, search="cigdem@t") == ["cigdem"]
    assert await names(admin, search="uma") == []
    assert await names(admin, search="unal") == ["cigdem"]


async def test_who_was_stored_without_words_gets_them_once_by_the_migration(
    admin: httpx.AsyncClient, database: Database, sam: User, stella: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lms.migrations.PEOPLE_AT_ONCE", 1)
    await database["users"].update_many({"_id": {"$in": [sam.id, stella.id]}}, {"$unset": {"search": ""}})
    assert await names(admin, search="okafor") == ["ada"]
    await database["meta"].update_one({"_id": "schema"}, {"$set": {"version": 1}})
    assert "documents: step 2" in await migrate(database, DOCUMENTS)
    assert await names(admin, search="okafor") == ["stella", "sam", "ada"]
    found = await database["users"].find_one({"_id": sam.id})
    assert found is not None
    assert found["search"] == search_words(sam.email, sam.full_name)
    assert await migrate(database, DOCUMENTS) == []


@pytest.fixture
async def many(database: Database) -> AsyncGenerator[None]:
    """A school of thousands, a few of whom are rare."""
    one = a_user("Sam").model_dump()
    people: list[dict[str, Any]] = []
    for n in range(MANY):
        email, name = f"student{n}@school.example", "Zoë Rare" if n % 1000 == 7 else f"Student {n} Common"
        own = {"_id": a_user("Sam").id, "email": email, "full_name": name, "search": search_words(email, name)}
        born = {"created_at": one["created_at"] + timedelta(seconds=n), "active": n % 1500 != 3}
        people.append({**one, **own, **born, "role": str(one["role"])})
        people[-1].pop("id")
    await database["users"].insert_many(people, ordered=False)
    yield
    await database["users"].delete_many({})


def explained(commands: Commands, settings: Settings) -> list[Explained]:
    """What a request made MongoDB do with `users`, but for the verdict on its session."""
    with open_explaining(settings.mongodb_url) as client:
        database = client[settings.mongodb_database]
        return [
            one
            for name, command in commands.seen
            if command.get(name) == "users" and command.get("projection") != {"auth_epoch": 1}
            for one in explain(database, name, command)
        ]


LISTS = [
    {},
    {"role": "student"},
    {"active": "false"},
    {"active": "true"},
    {"role": "student", "active": "false"},
    {"role": "admin"},
]


@pytest.mark.parametrize("more", [{}, {"cursor": ""}, {"later": ""}], ids=["page", "cursor", "later"])
async def test_every_list_is_a_run_of_its_index(
    admin: httpx.AsyncClient, many: None, commands: Commands, settings: Settings, more: dict[str, str]
) -> None:
    for query in LISTS:
        asked = {**query, "page_size": "2"} | ({"cursor": ""} if more else {})
        if "later" in more:
            asked["cursor"] = (await admin.get("/users", params=asked)).json()["next_cursor"] or ""
        commands.seen.clear()
        assert (await admin.get("/users", params=asked)).status_code == 200
        finding, *counting = explained(commands, settings)
        assert {"COLLSCAN", "SORT"} & finding.stages == set(), query
        # One key in each of the six runs of the index, then what is shown.
        assert finding.keys <= 6 + 2 * 3 + 1, query
        assert finding.documents <= 6 + 3, query
        # Totals stop just past 10,000.
        assert [one.limit for one in counting] in ([], [10_001])


@pytest.mark.parametrize(
    ("query", "total", "exact", "most"),
    [
        ({"search": "zoe"}, 6, True, 20),
        ({"search": "rare student7@"}, 1, True, 20),
        ({"search": "common"}, 5000, False, MOST_CANDIDATES),
        ({"search": "student"}, 5000, False, MOST_CANDIDATES),
        ({"search": "s c"}, None, False, MOST_CANDIDATES),
        ({"search": "zoe", "active": "false"}, 0, True, 20),
    ],
)
async def test_a_search_looks_at_a_bounded_number(
    admin: httpx.AsyncClient,
    many: None,
    commands: Commands,
    settings: Settings,
    query: dict[str, str],
    total: int | None,
    exact: bool,
    most: int,
) -> None:
    commands.seen.clear()
    answer = (await admin.get("/users", params=query)).json()
    assert answer["total_is_exact"] is exact
    assert total in {None, answer["total"]}
    for one in explained(commands, settings):
        assert one.indexes == ("search",)
        assert (one.limit or 0) <= MOST_CANDIDATES
        assert one.documents <= most
        assert one.keys <= 2 * most + 1


async def test_a_page_costs_the_same_commands_at_any_size(
    admin: httpx.AsyncClient, many: None, commands: Commands
) -> None:
    costs: set[tuple[str, ...]] = set()
    for size in ("1", "100"):
        await admin.get("/users/invitations")
        commands.seen.clear()
        await admin.get("/users", params={"page_size": size})
        costs.add(tuple(commands.names))
    assert costs == {("find", "aggregate")}


async def test_a_page_says_what_is_true_now(admin: httpx.AsyncClient, sam: User) -> None:
    assert await change_role(sam.id, Role.INSTRUCTOR)
    assert await names(admin, role="instructor") == ["sam"]
    assert await names(admin, role="student") == []
    assert queries.NEWEST_FIRST.index in {index.document["name"] for index in User.Settings.indexes}
