import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.accounts.people import set_active
from lms.api_keys.documents import ApiKey, Scope
from lms.api_keys.rules import MOST_KEYS, key_text, parse_key, prefix_of
from lms.clock import utc_now
from lms.ids import new_id
from lms.outbox.documents import Event
from tests.accounts.people import refusal
from tests.api_keys.keys import a_key, bearer
from tests.build import a_user
from tests.conftest import ClientFor, HeldClock
from tests.web.shape import check_shape

Database = AsyncDatabase[dict[str, Any]]
KEYS = "/auth/api-keys"
WANTED = {"name": " nightly load ", "scopes": ["courses:write", "courses:read", "courses:write"]}


async def audited(database: Database) -> list[dict[str, Any]]:
    rows = await database["outbox"].find({"kind": "audit"}).sort("_id").to_list()
    return [row["data"] for row in rows]


async def test_a_key_is_made_and_works(client_for: ClientFor, client: httpx.AsyncClient, ivy: User) -> None:
    signed_in = await client_for(ivy)
    made = await signed_in.post(KEYS, json=WANTED)
    assert made.status_code == 201
    body = made.json()
    assert (body["name"], body["scopes"], body["state"]) == (
        "nightly load",
        ["courses:read", "courses:write"],
        "active",
    )
    assert parse_key(body["key"])[0] == UUID(body["id"])
    assert body["key"].startswith(f"{body['prefix']}_")
    assert (body["revoked_at"], body["last_used_at"]) == (None, None)
    assert made.headers["cache-control"] == "no-store"
    created = await client.post("/courses", json={"title": "Tides"}, headers=bearer(body["key"]))
    assert (created.status_code, created.json()["instructor_id"]) == (201, str(ivy.id))
    shown = await signed_in.get(made.headers["location"].removeprefix("/api/v1"))
    assert shown.json()["id"] == body["id"]


async def test_its_life_is_90_days_unless_one_says_otherwise(
    client_for: ClientFor, ivy: User, held_clock: HeldClock
) -> None:
    signed_in = await client_for(ivy)
    for asked, days in (({}, 90), ({"expires_in_days": 1}, 1), ({"expires_in_days": 365}, 365)):
        body = (await signed_in.post(KEYS, json=WANTED | asked)).json()
        expires = (held_clock.now + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        assert body["expires_at"] == expires


async def test_the_secret_is_shown_once_and_stored_nowhere(
    client_for: ClientFor, database: Database, ivy: User
) -> None:
    signed_in = await client_for(ivy)
    made = (await signed_in.post(KEYS, json=WANTED)).json()
    _, secret = parse_key(made["key"])
    listed = await signed_in.get(KEYS)
    assert listed.json()["items"] == [{name: value for name, value in made.items() if name != "key"}]
    for name in await database.list_collection_names():
        assert secret not in str(await database[name].find().to_list()), name


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"name": "   "}, "#/name"),
        ({"name": "\u200b"}, "#/name"),
        ({"name": "two\nlines"}, "#/name"),
        ({"name": "ends\n"}, "#/name"),
        ({"name": "\nstarts"}, "#/name"),
        ({"name": "red \x1b[31m"}, "#/name"),
        ({"name": "turned \u202e around"}, "#/name"),
        ({"name": "x" * 61}, "#/name"),
        ({"name": 7}, "#/name"),
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["courses:eat"]}, "#/scopes/0"),
        ({"scopes": ["courses:read", "*"]}, "#/scopes/1"),
        ({"scopes": ["courses:read"] * 21}, "#/scopes"),
        ({"scopes": "courses:read"}, "#/scopes"),
        ({"expires_in_days": 0}, "#/expires_in_days"),
        ({"expires_in_days": 366}, "#/expires_in_days"),
        ({"expires_in_days": None}, "#/expires_in_days"),
        ({"owner_id": str(new_id())}, "#/owner_id"),
        ({"role": "admin"}, "#/role"),
    ],
)
async def test_what_cannot_be_is_pointed_at(
    client_for: ClientFor, ivy: User, wrong: dict[str, Any], pointer: str
) -> None:
    response = await (await client_for(ivy)).post(KEYS, json={"name": "load", "scopes": ["courses:read"]} | wrong)
    assert response.status_code == 422
    check_shape(response)
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert await ApiKey.count() == 0


@pytest.mark.parametrize("name", ["x", "x" * 60, "Ładowanie kursów 夜間", " café ", "👩‍🏫 load"])
async def test_a_name_is_any_line(client_for: ClientFor, ivy: User, name: str) -> None:
    made = await (await client_for(ivy)).post(KEYS, json={"name": name, "scopes": ["courses:read"]})
    assert (made.status_code, made.json().get("name")) == (201, name.strip())


async def test_students_and_visitors_make_none(client_for: ClientFor, client: httpx.AsyncClient, sam: User) -> None:
    assert refusal(await (await client_for(sam)).post(KEYS, json=WANTED)) == (403, "wrong_role")
    for method, path in (
        ("POST", KEYS),
        ("GET", KEYS),
        ("GET", f"{KEYS}/{new_id()}"),
        ("DELETE", f"{KEYS}/{new_id()}"),
    ):
        response = await client.request(method, path, json=WANTED if method == "POST" else None)
        assert refusal(response) == (401, "unauthenticated")
    assert await ApiKey.count() == 0


async def test_an_answer_with_a_secret_is_not_kept_for_repetitions(client_for: ClientFor, ivy: User) -> None:
    response = await (await client_for(ivy)).post(KEYS, json=WANTED, headers={"Idempotency-Key": "once"})
    assert refusal(response) == (422, "validation_failed")
    assert response.json()["errors"][0]["header"] == "Idempotency-Key"


async def test_others_keys_are_not_there(client_for: ClientFor, ivy: User, oscar: User, ada: User) -> None:
    key, text = await a_key(ivy, Scope.PROFILE_READ)
    for person in (oscar, ada):
        other = await client_for(person)
        assert (await other.get(KEYS)).json()["items"] == []
        for method in ("GET", "DELETE"):
            assert refusal(await other.request(method, f"{KEYS}/{key.id}")) == (404, "api_key_not_found")
            assert refusal(await other.request(method, f"{KEYS}/{new_id()}")) == (404, "api_key_not_found")
    assert (await (await client_for(ivy)).get("/users/me", headers=bearer(text))).status_code == 200


async def test_who_is_a_student_now_still_sees_and_ends_what_they_have(client_for: ClientFor, sam: User) -> None:
    key, _ = await a_key(sam, Scope.PROFILE_READ)
    signed_in = await client_for(sam)
    assert [one["id"] for one in (await signed_in.get(KEYS)).json()["items"]] == [str(key.id)]
    assert (await signed_in.delete(f"{KEYS}/{key.id}")).status_code == 204


async def test_keys_are_listed_newest_first_with_their_state(
    client_for: ClientFor, ivy: User, held_clock: HeldClock
) -> None:
    signed_in = await client_for(ivy)
    expired, _ = await a_key(ivy, Scope.COURSES_READ, expires_at=held_clock.now)
    held_clock.advance(seconds=1)
    revoked, _ = await a_key(ivy, Scope.COURSES_READ)
    held_clock.advance(seconds=1)
    active, _ = await a_key(ivy, Scope.COURSES_READ, last_used_at=held_clock.now)
    assert (await signed_in.delete(f"{KEYS}/{revoked.id}")).status_code == 204
    items = (await signed_in.get(KEYS)).json()["items"]
    assert [(one["id"], one["state"]) for one in items] == [
        (str(active.id), "active"),
        (str(revoked.id), "revoked"),
        (str(expired.id), "expired"),
    ]
    assert [one["prefix"] for one in items] == [prefix_of(one.id) for one in (active, revoked, expired)]
    assert items[0]["last_used_at"] == held_clock.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    page = (await signed_in.get(KEYS, params={"page_size": 1, "page": 2})).json()
    assert ([one["id"] for one in page["items"]], page["total"]) == ([str(revoked.id)], 3)
    first = (await signed_in.get(KEYS, params={"page_size": 2, "cursor": ""})).json()
    rest = (await signed_in.get(KEYS, params={"page_size": 2, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in rest["items"]] == [str(expired.id)]


async def test_twenty_work_at_a_time(client_for: ClientFor, ivy: User, oscar: User) -> None:
    signed_in = await client_for(ivy)
    kept = [(await a_key(ivy, Scope.COURSES_READ))[0] for _ in range(MOST_KEYS)]
    for gone in ({"revoked_at": utc_now()}, {"expires_at": utc_now()}):
        await a_key(ivy, Scope.COURSES_READ, **gone)
    full = await signed_in.post(KEYS, json=WANTED)
    assert refusal(full) == (409, "too_many_api_keys")
    check_shape(full)
    assert (await (await client_for(oscar)).post(KEYS, json=WANTED)).status_code == 201
    await signed_in.delete(f"{KEYS}/{kept[0].id}")
    assert (await signed_in.post(KEYS, json=WANTED)).status_code == 201
    assert refusal(await signed_in.post(KEYS, json=WANTED)) == (409, "too_many_api_keys")


async def test_however_many_ask_at_once_there_are_twenty(client_for: ClientFor, database: Database, ivy: User) -> None:
    signed_in = await client_for(ivy)
    for _ in range(MOST_KEYS - 4):
        await a_key(ivy, Scope.COURSES_READ)
    answers = await asyncio.gather(*(signed_in.post(KEYS, json=WANTED) for _ in range(10)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] * 4 + [409] * 6
    assert await ApiKey.count() == MOST_KEYS
    # Nothing is told of those that were not made.
    assert await database["outbox"].count_documents({"kind": "api_key.created"}) == 4


async def test_who_is_kept_out_meanwhile_has_no_key_afterwards(client_for: ClientFor, ivy: User) -> None:
    signed_in = await client_for(ivy)
    await asyncio.gather(*(signed_in.post(KEYS, json=WANTED) for _ in range(5)), set_active(ivy.id, active=False))
    assert await ApiKey.find({"revoked_at": None}).count() == 0


async def test_a_key_that_is_revoked_twice_is_revoked_once(
    client_for: ClientFor, database: Database, ivy: User, held_clock: HeldClock
) -> None:
    signed_in = await client_for(ivy)
    key, _ = await a_key(ivy, Scope.COURSES_READ)
    assert (await signed_in.delete(f"{KEYS}/{key.id}")).status_code == 204
    revoked_at = held_clock.now
    held_clock.advance(seconds=5)
    answers = await asyncio.gather(*(signed_in.delete(f"{KEYS}/{key.id}") for _ in range(3)))
    assert {answer.status_code for answer in answers} == {204}
    stored = await ApiKey.get(key.id)
    assert stored is not None
    assert stored.revoked_at == revoked_at
    assert [entry["act"] for entry in await audited(database)] == ["api_key.revoked"]


async def test_in_the_process_that_revokes_it_a_key_is_out_at_once(
    client_for: ClientFor, client: httpx.AsyncClient, ivy: User
) -> None:
    key, text = await a_key(ivy, Scope.PROFILE_READ)
    assert (await client.get("/users/me", headers=bearer(text))).status_code == 200
    await (await client_for(ivy)).delete(f"{KEYS}/{key.id}")
    assert refusal(await client.get("/users/me", headers=bearer(text))) == (401, "api_key_refused")


async def test_what_is_done_to_keys_is_written_down(client_for: ClientFor, database: Database, ivy: User) -> None:
    signed_in = await client_for(ivy)
    key_id = (await signed_in.post(KEYS, json=WANTED)).json()["id"]
    await signed_in.delete(f"{KEYS}/{key_id}")
    made, revoked = await audited(database)
    for entry in (made, revoked):
        assert (entry["actor"], entry["target_kind"], entry["target_id"]) == (str(ivy.id), "api_key", key_id)
        assert entry["facts"]["owner_id"] == str(ivy.id)
        assert "nightly" not in str(entry)
        assert set(entry["sealed"]) == {str(ivy.id)}
    assert made["act"] == "api_key.created"
    assert made["facts"] == {
        "owner_id": str(ivy.id),
        "scopes": "courses:read courses:write",
        "expires_in_days": 90,
    }


async def test_its_owner_is_told_by_an_event(client_for: ClientFor, ivy: User) -> None:
    body = (await (await client_for(ivy)).post(KEYS, json=WANTED)).json()
    events = await Event.find({"kind": "api_key.created"}).to_list()
    assert [(one.todo, one.data) for one in events] == [
        (["send_api_key_created_email"], {"user_id": str(ivy.id), "api_key_id": body["id"]})
    ]


async def test_a_key_of_somebody_who_was_no_instructor_any_more_is_not_made(
    client_for: ClientFor, database: Database, ivy: User
) -> None:
    signed_in = await client_for(ivy)
    assert (await signed_in.get("/users/me")).status_code == 200
    # As another process does, of which this one has not heard yet.
    await database["users"].update_one({"_id": ivy.id}, {"$set": {"role": "student"}})
    assert refusal(await signed_in.post(KEYS, json=WANTED)) == (403, "wrong_role")
    assert await ApiKey.count() == 0


async def test_ids_and_secrets_of_two_do_not_go_together(client: httpx.AsyncClient, ivy: User, ada: User) -> None:
    hers, her_text = await a_key(ivy, Scope.PROFILE_READ)
    his, his_text = await a_key(await a_user("Oswin", Role.INSTRUCTOR).insert(), Scope.PROFILE_READ)
    assert (await client.get("/users/me", headers=bearer(her_text))).json()["id"] == str(ivy.id)
    assert (await client.get("/users/me", headers=bearer(his_text))).status_code == 200
    forged = key_text(hers.id, b"\x07" * 32)
    assert refusal(await client.get("/users/me", headers=bearer(forged))) == (401, "api_key_refused")
    assert hers.digest != his.digest
