from typing import Any
from uuid import uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.audit.documents import Act, AuditKey
from lms.settings import Settings
from tests.audit.acts import act, append_all
from tests.conftest import ClientFor

Database = AsyncDatabase[dict[str, Any]]


async def listed(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await client.get("/audit", params=query)
    assert response.status_code == 200, response.text
    return response.json()["items"]


async def test_only_administrators_read_it(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, ivy: User, ada: User
) -> None:
    assert (await client.get("/audit")).status_code == 401
    for one, status in ((sam, 403), (ivy, 403), (ada, 200)):
        assert (await (await client_for(one)).get("/audit")).status_code == status


async def test_an_entry_tells_who_did_what_to_whom_from_where(
    client_for: ClientFor, sam: User, ada: User, settings: Settings
) -> None:
    await act(Act.ROLE_CHANGED, ada.id, sam.id, {ada.id: {"address": "192.0.2.7"}}, {"role": "instructor"})
    (entry,) = await append_all(settings)
    (shown,) = await listed(await client_for(ada))
    assert shown == {
        "sequence": 1,
        "at": entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "act": "user.role_changed",
        "actor": str(ada.id),
        "target_kind": "user",
        "target_id": str(sam.id),
        "request_id": "",
        "facts": {"role": "instructor"},
        "about": {str(ada.id): {"address": "192.0.2.7"}},
        "hash": entry.hash,
    }


async def test_where_a_request_came_from_is_told_by_itself(
    client_for: ClientFor, sam: User, ada: User, settings: Settings
) -> None:
    headers = {"User-Agent": "Phone/1.0", "X-Request-Id": "from-the-app-1"}
    await (await client_for(sam)).post("/auth/logout", headers=headers)
    await append_all(settings)
    (shown,) = await listed(await client_for(ada))
    assert shown["request_id"] == "from-the-app-1"
    assert shown["about"] == {str(sam.id): {"address": "127.0.0.1", "user_agent": "Phone/1.0"}}


async def test_filters_and_order(client_for: ClientFor, sam: User, stella: User, ada: User, settings: Settings) -> None:
    await act(Act.SIGNED_IN, sam.id, sam.id)
    await act(Act.SIGNED_IN, stella.id, stella.id)
    await act(Act.DEACTIVATED, ada.id, sam.id)
    await append_all(settings)
    client = await client_for(ada)

    async def found(**query: Any) -> list[int]:
        return [one["sequence"] for one in await listed(client, **query)]

    assert await found() == [3, 2, 1]
    assert await found(act="session.started") == [2, 1]
    assert await found(actor_id=sam.id) == [1]
    assert await found(target_id=sam.id) == [3, 1]
    assert await found(target_id=sam.id, act="user.deactivated") == [3]
    assert await found(actor_id=uuid4()) == []


@pytest.mark.parametrize("query", [{"act": "no.such"}, {"actor_id": "sam"}, {"other": "1"}])
async def test_what_cannot_be_asked_for_is_named(client_for: ClientFor, ada: User, query: dict[str, str]) -> None:
    response = await (await client_for(ada)).get("/audit", params=query)
    assert (response.status_code, [error["parameter"] for error in response.json()["errors"]]) == (422, list(query))


async def test_by_cursor_nothing_is_skipped_while_more_is_written(
    client_for: ClientFor, ada: User, settings: Settings
) -> None:
    for _ in range(7):
        await act()
    await append_all(settings)
    client, cursor, seen = await client_for(ada), "", list[int]()
    while cursor is not None:
        page = (await client.get("/audit", params={"cursor": cursor, "page_size": 3})).json()
        seen += [one["sequence"] for one in page["items"]]
        cursor = page["next_cursor"]
        await act()
        await append_all(settings)
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_of_people_who_were_erased_nothing_is_told(
    client_for: ClientFor, sam: User, ada: User, settings: Settings
) -> None:
    await act(Act.EMAIL_CHANGED, sam.id, sam.id, {sam.id: {"email": "samuel@school.example"}})
    await append_all(settings)
    client = await client_for(ada)
    assert (await listed(client))[0]["about"] == {str(sam.id): {"email": "samuel@school.example"}}
    await AuditKey.find({"_id": sam.id}).delete()
    assert (await listed(client))[0]["about"] == {}
    # Somebody who has a new key does not get at what was sealed with the old one.
    await act(Act.SIGNED_IN, sam.id, sam.id, {sam.id: {"address": "192.0.2.8"}})
    await append_all(settings)
    assert [one["about"] for one in await listed(client)] == [{str(sam.id): {"address": "192.0.2.8"}}, {}]
