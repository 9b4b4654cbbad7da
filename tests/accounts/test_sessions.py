import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from lms.accounts.documents import SignIn, User
from lms.accounts.queries import NEWEST_FIRST
from lms.accounts.service import Accounts
from lms.clock import utc_now
from lms.ids import new_id
from tests.accounts.people import Signed, a_person, me, refresh, refusal, sign_in
from tests.commands import Commands
from tests.conftest import HeldClock

Database = AsyncDatabase[dict[str, Any]]
NOT_FOUND = (404, "session_not_found")


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


async def listed(client: httpx.AsyncClient, signed: Signed, query: str = "") -> dict[str, Any]:
    response = await client.get(f"/auth/sessions{query}", headers=signed.header)
    assert response.status_code == 200, response.text
    return response.json()


async def end(client: httpx.AsyncClient, signed: Signed, session_id: object) -> httpx.Response:
    return await client.delete(f"/auth/sessions/{session_id}", headers=signed.header)


def moment(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


async def test_a_person_sees_where_they_are_signed_in(
    client: httpx.AsyncClient, person: User, held_clock: HeldClock
) -> None:
    began = held_clock.now
    phone = await sign_in(client, person, **{"User-Agent": "School/3 (phone) <script>"})
    held_clock.advance(minutes=5)
    laptop = await sign_in(client, person, **{"User-Agent": "Browser"})
    await refresh(client, phone.refresh_token)
    found = await listed(client, laptop)
    assert {name: found[name] for name in found if name != "items"} == {
        "total": 2,
        "page": 1,
        "page_size": 20,
        "pages": 1,
        "total_is_exact": True,
    }
    assert [(one["id"], one["current"], one["user_agent"]) for one in found["items"]] == [
        (laptop.family, True, "Browser"),
        (phone.family, False, "School/3 (phone) <script>"),
    ]
    assert found["items"][1] == {
        "id": phone.family,
        "created_at": moment(began),
        "refreshed_at": moment(held_clock.now),
        "expires_at": moment(held_clock.now + timedelta(days=30)),
        "user_agent": "School/3 (phone) <script>",
        "address": "127.0.0.1",
        "current": False,
    }


async def test_only_ones_own_and_only_those_that_stand_are_listed(
    client: httpx.AsyncClient, person: User, accounts: Accounts
) -> None:
    stella = await sign_in(client, await a_person(accounts, "Stella"))
    phone, laptop, gone = [await sign_in(client, person) for _ in range(3)]
    await client.post("/auth/logout", headers=gone.header)
    late = utc_now() - timedelta(milliseconds=1)
    await SignIn(user_id=person.id, nonce="nonce", rotated_at=late, expires_at=late).insert()
    assert [one["id"] for one in (await listed(client, phone))["items"]] == [laptop.family, phone.family]
    assert [one["id"] for one in (await listed(client, stella))["items"]] == [stella.family]


async def test_the_list_is_paged_as_every_list_is(client: httpx.AsyncClient, person: User) -> None:
    signed = [await sign_in(client, person) for _ in range(5)]
    newest_first = [one.family for one in reversed(signed)]
    page = await listed(client, signed[0], "?page=2&page_size=2")
    assert ([one["id"] for one in page["items"]], page["total"], page["pages"]) == (newest_first[2:4], 5, 3)
    first = await listed(client, signed[0], "?cursor=&page_size=3")
    rest = await listed(client, signed[0], f"?cursor={first['next_cursor']}&page_size=3")
    assert [one["id"] for one in first["items"] + rest["items"]] == newest_first
    assert rest["next_cursor"] is None


async def test_the_list_goes_by_its_index_and_costs_one_read(
    client: httpx.AsyncClient, person: User, database: Database, commands: Commands
) -> None:
    signed = [await sign_in(client, person) for _ in range(3)]
    await listed(client, signed[0])
    commands.seen.clear()
    await listed(client, signed[0])
    assert commands.names == ["find"]
    for query in ({}, NEWEST_FIRST.after([utc_now(), new_id()])):
        wanted = {"user_id": person.id, "ended_at": None, "expires_at": {"$gt": utc_now()}, **query}
        plan = await database["sessions"].find(wanted).sort(list(NEWEST_FIRST.fields)).limit(2).explain()
        text = repr(plan["queryPlanner"]["winningPlan"])
        assert "'indexName': 'user'" in text
        assert "'SORT'" not in text


async def test_ending_one_session_ends_no_other(client: httpx.AsyncClient, person: User) -> None:
    phone, laptop, tablet = [await sign_in(client, person) for _ in range(3)]
    assert await me(client, phone) == await me(client, tablet) == 200
    response = await end(client, laptop, phone.family)
    assert (response.status_code, response.content) == (204, b"")
    assert await me(client, phone) == 401
    assert refusal((await refresh(client, phone.refresh_token)).response) == (401, "refresh_refused")
    assert await me(client, laptop) == await me(client, tablet) == 200
    assert refusal(await end(client, laptop, phone.family)) == NOT_FOUND


async def test_ending_the_session_that_asks_signs_out(client: httpx.AsyncClient, person: User) -> None:
    phone = await sign_in(client, person)
    assert (await end(client, phone, phone.family)).status_code == 204
    assert await me(client, phone) == 401


async def test_somebody_elses_session_looks_like_one_that_there_is_not(
    client: httpx.AsyncClient, person: User, accounts: Accounts
) -> None:
    phone, stella = await sign_in(client, person), await sign_in(client, await a_person(accounts, "Stella"))
    hers, nobodys = await end(client, phone, stella.family), await end(client, phone, uuid4())
    assert refusal(hers) == refusal(nobodys) == NOT_FOUND
    assert hers.json()["detail"] == nobodys.json()["detail"]
    assert await me(client, stella) == 200
    assert (await refresh(client, stella.refresh_token)).response.status_code == 200
    assert refusal(await end(client, phone, "no-uuid"))[0] == 404


async def test_a_visitor_has_no_sessions(client: httpx.AsyncClient) -> None:
    for response in (await client.get("/auth/sessions"), await client.delete(f"/auth/sessions/{uuid4()}")):
        assert refusal(response) == (401, "unauthenticated")


async def test_of_twenty_ends_at_once_one_is_made(client: httpx.AsyncClient, person: User) -> None:
    phone, laptop = await sign_in(client, person), await sign_in(client, person)
    answers = await asyncio.gather(*(end(client, laptop, phone.family) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {204, 404}
    (stored,) = await SignIn.find({"ended_at": {"$ne": None}}).to_list()
    assert str(stored.id) == phone.family


async def test_all_others_can_be_ended_and_this_one_kept(
    client: httpx.AsyncClient, person: User, accounts: Accounts
) -> None:
    stella = await sign_in(client, await a_person(accounts, "Stella"))
    phone, laptop, tablet = [await sign_in(client, person) for _ in range(3)]
    response = await client.post("/auth/logout-all?keep_current=true", headers=laptop.header)
    assert (response.status_code, response.json()) == (200, {"status": "signed_out"})
    for signed in (phone, tablet):
        assert await me(client, signed) == 401
        assert refusal((await refresh(client, signed.refresh_token)).response) == (401, "refresh_refused")
    assert await me(client, laptop) == await me(client, stella) == 200
    assert [one["current"] for one in (await listed(client, laptop))["items"]] == [True]


async def test_what_is_no_yes_or_no_is_refused(client: httpx.AsyncClient, person: User) -> None:
    signed = await sign_in(client, person)
    for query in ("keep_current=perhaps", "others=true"):
        response = await client.post(f"/auth/logout-all?{query}", headers=signed.header)
        assert refusal(response) == (422, "validation_failed")
    assert await me(client, signed) == 200


async def test_a_replayed_refresh_token_is_a_line_in_the_log(client: httpx.AsyncClient, person: User) -> None:
    first = await sign_in(client, person)
    third = await refresh(client, (await refresh(client, first.refresh_token)).refresh_token)
    with capture_logs() as lines:
        assert refusal((await refresh(client, first.refresh_token)).response) == (401, "refresh_refused")
    assert lines == [
        {
            "event": "refresh_token_replayed",
            "log_level": "warning",
            "user_id": str(person.id),
            "session_id": third.family,
            "presented": 0,
            "current": 2,
        }
    ]


async def test_an_honest_refresh_is_no_line_in_the_log(client: httpx.AsyncClient, person: User) -> None:
    first = await sign_in(client, person)
    with capture_logs() as lines:
        await refresh(client, first.refresh_token)
        await refresh(client, first.refresh_token)
        await refresh(client, f"{first.refresh_token}x")
    assert lines == []
