import asyncio
from typing import Any

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.accounts.people import change_role
from tests.accounts.people import refusal
from tests.conftest import ClientFor


async def change(client: httpx.AsyncClient, changes: dict[str, Any], tag: str | None = None) -> httpx.Response:
    headers = {} if tag is None else {"If-Match": tag}
    return await client.patch("/users/me", json=changes, headers=headers)


async def stored(user: User) -> User:
    found = await User.get(user.id)
    assert found is not None
    return found


async def test_what_is_named_is_changed_and_nothing_else(client_for: ClientFor, sam: User, stella: User) -> None:
    sams = await client_for(sam)
    before = (await sams.get("/users/me")).json()
    changes = {"full_name": "  Samuel Okafor\t", "locale": "pt-br", "time_zone": "Europe/Lisbon"}
    response = await change(sams, changes)
    assert response.status_code == 200
    changed = {"full_name": "Samuel Okafor", "locale": "pt-BR", "time_zone": "Europe/Lisbon"}
    assert response.json() == before | changed
    assert response.headers["cache-control"] == "no-store"
    assert (await sams.get("/users/me")).json() == before | changed
    assert (await change(sams, {"time_zone": "UTC"})).json() == before | changed | {"time_zone": "UTC"}
    assert await stored(stella) == stella


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"full_name": " "}, "#/full_name", "invalid"),
        ({"full_name": None}, "#/full_name", "invalid"),
        ({"locale": "portuguese"}, "#/locale", "invalid"),
        ({"locale": None}, "#/locale", "invalid"),
        ({"time_zone": "Lisbon"}, "#/time_zone", "unknown_time_zone"),
        ({"time_zone": "../../etc/passwd"}, "#/time_zone", "unknown_time_zone"),
        ({"time_zone": ""}, "#/time_zone", "invalid"),
        ({"email": "samuel@school.example"}, "#/email", "unknown_field"),
        ({"role": "admin"}, "#/role", "unknown_field"),
        ({"verified": True}, "#/verified", "unknown_field"),
        ({"rev": 7}, "#/rev", "unknown_field"),
    ],
)
async def test_what_may_not_be_is_refused_and_changes_nothing(
    client_for: ClientFor, sam: User, changes: dict[str, Any], pointer: str, code: str
) -> None:
    response = await change(await client_for(sam), {"locale": "fr"} | changes)
    assert refusal(response) == (422, "validation_failed")
    assert [(error["pointer"], error["code"]) for error in response.json()["errors"]] == [(pointer, code)]
    assert await stored(sam) == sam


async def test_a_visitor_has_no_profile(client: httpx.AsyncClient) -> None:
    assert refusal(await change(client, {"locale": "fr"})) == (401, "unauthenticated")


async def test_nobody_has_a_profile_once_erased(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    assert (await sams.get("/users/me")).status_code == 200
    await sam.delete()
    assert refusal(await change(sams, {"locale": "fr"})) == (401, "unauthenticated")
    assert await User.count() == 0


async def test_a_change_that_was_seen_goes_through_and_one_that_was_not_is_told(
    client_for: ClientFor, sam: User
) -> None:
    sams = await client_for(sam)
    tag = (await sams.get("/users/me")).headers["etag"]
    assert tag == '"0"'
    first = await change(sams, {"locale": "fr"}, tag)
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    late = await change(sams, {"locale": "de", "full_name": "S. Okafor"}, tag)
    assert refusal(late) == (412, "revision_mismatch")
    assert late.headers["etag"] == '"1"'
    assert late.json()["current"] == {"locale": "fr", "full_name": "Sam Okafor"}
    assert (await change(sams, {}, '"1"')).headers["etag"] == '"1"'
    assert refusal(await change(sams, {"locale": "de"}, "1"))[0] == 422
    fresh = await sams.get("/users/me", headers={"If-None-Match": '"1"'})
    assert (fresh.status_code, fresh.content) == (304, b"")


async def test_of_twenty_who_saw_the_same_one_goes_through(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    names = [f"Sam {n}" for n in range(20)]
    answers = await asyncio.gather(*(change(sams, {"full_name": name}, '"0"') for name in names))
    (won,) = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert {refusal(answer) for n, answer in enumerate(answers) if n != won} == {(412, "revision_mismatch")}
    assert ((await stored(sam)).full_name, (await stored(sam)).rev) == (names[won], 1)


async def test_who_was_stored_without_a_revision_has_one_from_the_first_change(
    client_for: ClientFor, sam: User
) -> None:
    await User.get_pymongo_collection().update_one({"_id": sam.id}, {"$unset": {"rev": ""}})
    sams = await client_for(sam)
    tag = (await sams.get("/users/me")).headers["etag"]
    assert (await change(sams, {"locale": "fr"}, tag)).headers["etag"] == '"1"'


async def test_whatever_is_shown_changes_the_tag(client_for: ClientFor, sam: User) -> None:
    assert await change_role(sam.id, Role.INSTRUCTOR)
    response = await (await client_for(await stored(sam))).get("/users/me")
    assert (response.json()["role"], response.headers["etag"]) == ("instructor", '"1"')
