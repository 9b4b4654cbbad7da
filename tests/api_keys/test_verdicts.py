import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms import auth
from lms.accounts.documents import Role, User
from lms.accounts.people import change_role, set_active
from lms.api_keys import verdicts
from lms.api_keys.documents import ApiKey, Scope
from lms.api_keys.rules import ApiKeyRefused, key_text
from lms.api_keys.service import revoke_key
from lms.api_keys.verdicts import KeyVerdicts
from lms.app import create_app
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.ids import new_id
from lms.settings import Settings
from tests.accounts.people import refusal
from tests.accounts.test_verdicts import Hands
from tests.api_keys.keys import a_key, bearer
from tests.commands import Commands
from tests.conftest import HeldClock, running
from tests.conftest import open_client as open_http

INVALID = 'Bearer error="invalid_token"'
Database = AsyncDatabase[dict[str, Any]]


async def stands(process: KeyVerdicts, text: str) -> bool:
    try:
        await process.caller(text)
    except ApiKeyRefused:
        return False
    return True


async def test_who_asks_is_the_keys_owner_as_they_are_now(ivy: User) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ, Scope.COURSES_WRITE)
    caller = await KeyVerdicts(()).caller(text)
    assert (caller.id, caller.role, caller.session_id) == (ivy.id, Role.INSTRUCTOR, key.id)
    assert caller.scopes == {Scope.COURSES_READ, Scope.COURSES_WRITE}
    await ivy.set({"role": Role.ADMIN})
    assert (await KeyVerdicts(()).caller(text)).role is Role.ADMIN


async def test_whose_role_must_have_a_second_factor_has_no_key_without(
    ivy: User, ada: User, app: Litestar, settings: Settings, database: Database
) -> None:
    keys = [(await a_key(owner, Scope.PROFILE_READ))[1] for owner in (ada, ivy)]
    assert [await stands(KeyVerdicts({"admin"}), text) for text in keys] == [False, True]
    demanding = settings.model_copy(update={"mfa_required_for": ["admin"]})
    async with running(create_app(demanding)) as strict, open_http(strict, **bearer(keys[0])) as client:
        assert refusal(await client.get("/users/me")) == (401, "api_key_refused")
    totp = {"secret": b"sealed", "last_step": 0, "recovery_codes": [], "enabled_at": utc_now()}
    await database["users"].update_one({"_id": ada.id}, {"$set": {"totp": totp}})
    assert [await stands(KeyVerdicts({"admin"}), text) for text in keys] == [True, True]


async def test_what_is_out(ivy: User, sam: User, database: Database) -> None:
    _, expired = await a_key(ivy, Scope.COURSES_READ, expires_at=utc_now())
    _, revoked = await a_key(ivy, Scope.COURSES_READ, revoked_at=utc_now())
    _, students = await a_key(sam, Scope.COURSES_READ)
    key, _ = await a_key(ivy, Scope.COURSES_READ)
    erased, nobodys = await a_key(ivy, Scope.COURSES_READ, owner_id=new_id())
    assert erased.owner_id != ivy.id
    unknown, forged = key_text(new_id(), b"\x01" * 32), key_text(key.id, b"\x01" * 32)
    for text in (expired, revoked, students, nobodys, unknown, forged):
        assert not await stands(KeyVerdicts(()), text)


async def test_a_scope_that_is_not_known_here_opens_nothing(ivy: User, database: Database) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    await database["api_keys"].update_one({"_id": key.id}, {"$push": {"scopes": "rockets:launch"}})
    assert (await KeyVerdicts(()).caller(text)).scopes == {Scope.COURSES_READ}


async def test_a_verdict_is_reused_for_half_a_second_and_no_longer(
    ivy: User, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    monkeypatch.setattr(verdicts, "time", hands)
    key, text = await a_key(ivy, Scope.COURSES_READ, last_used_at=utc_now())
    process = KeyVerdicts(())
    assert await stands(process, text)
    # As another process does.
    await ApiKey.get_pymongo_collection().update_one({"_id": key.id}, {"$set": {"revoked_at": utc_now()}})
    commands.seen.clear()
    hands.now += auth.REUSE_SECONDS - 0.001
    assert await stands(process, text)
    assert not await stands(process, key_text(key.id, b"\x02" * 32))
    assert commands.names == []
    hands.now += 0.001
    assert not await stands(process, text)
    assert commands.names == ["find"]
    # So is a refusal.
    assert not await stands(process, text)
    assert commands.names == ["find"]


async def test_a_key_expires_at_its_time_however_fresh_the_verdict_is(ivy: User, held_clock: HeldClock) -> None:
    _, text = await a_key(ivy, Scope.COURSES_READ, expires_at=held_clock.now + timedelta(seconds=60))
    process = KeyVerdicts(())
    assert await stands(process, text)
    held_clock.advance(seconds=60)
    assert not await stands(process, text)


async def test_whoever_asks_at_the_same_time_is_told_by_the_same_two_commands(
    ivy: User, ada: User, commands: Commands
) -> None:
    now = utc_now()
    texts = [(await a_key(owner, Scope.COURSES_READ, last_used_at=now))[1] for owner in (ivy, ada) for _ in range(10)]
    _, revoked = await a_key(ivy, Scope.COURSES_READ, revoked_at=now)
    process = KeyVerdicts(())
    await stands(process, texts[0])
    commands.seen.clear()
    told = await asyncio.gather(*(stands(process, text) for text in [*texts[1:], revoked]))
    assert told == [True] * 19 + [False]
    assert commands.names == ["find", "find"]


# What ends a key in one process, and what the other one answers then.
async def revoke(owner: User, key: ApiKey) -> tuple[int, str]:
    await revoke_key({"_id": key.id}, by=owner.id)
    return 401, "api_key_refused"


async def keep_the_owner_out(owner: User, key: ApiKey) -> tuple[int, str]:
    _ = key
    await set_active(owner.id, active=False)
    return 401, "api_key_refused"


async def make_the_owner_a_student(owner: User, key: ApiKey) -> tuple[int, str]:
    _ = key
    await change_role(owner.id, Role.STUDENT)
    return 401, "api_key_refused"


async def make_the_owner_an_instructor(owner: User, key: ApiKey) -> tuple[int, str]:
    _ = key
    await change_role(owner.id, Role.INSTRUCTOR)
    return 401, "api_key_refused"


@pytest.mark.parametrize(
    "act",
    [revoke, keep_the_owner_out, make_the_owner_a_student, make_the_owner_an_instructor],
    ids=lambda act: act.__name__,
)
async def test_what_ends_is_out_within_a_second_in_every_process(
    app: Litestar,
    settings: Settings,
    ada: User,
    act: Callable[[User, ApiKey], Awaitable[tuple[int, str]]],
) -> None:
    key, text = await a_key(ada, Scope.AUDIT_READ)
    async with (
        running(create_app(settings)) as another,
        open_http(app, **bearer(text)) as one,
        open_http(another, **bearer(text)) as other,
    ):
        for client in (one, other):
            assert (await client.get("/audit")).status_code == 200
        wanted = await act(ada, key)
        ended = asyncio.get_running_loop().time()
        for client in (one, other):
            while (response := await client.get("/audit")).status_code == 200:
                assert asyncio.get_running_loop().time() - ended < 1.0
                await asyncio.sleep(0.02)
            assert refusal(response) == wanted


async def test_who_comes_back_makes_new_keys(ivy: User) -> None:
    _, text = await a_key(ivy, Scope.COURSES_READ)
    await set_active(ivy.id, active=False)
    await set_active(ivy.id, active=True)
    assert not await stands(KeyVerdicts(()), text)


async def test_a_key_neither_grows_nor_comes_back_with_a_role(ivy: User, ada: User) -> None:
    _, grown = await a_key(ivy, Scope.AUDIT_READ)
    await change_role(ivy.id, Role.ADMIN)
    _, back = await a_key(ada, Scope.AUDIT_READ)
    await change_role(ada.id, Role.STUDENT)
    await change_role(ada.id, Role.ADMIN)
    for text in (grown, back):
        assert not await stands(KeyVerdicts(()), text)


async def test_signing_out_everywhere_and_a_new_password_leave_keys_alone(
    client: httpx.AsyncClient, database: Database, ivy: User
) -> None:
    _, text = await a_key(ivy, Scope.PROFILE_READ)
    # What both of them change.
    await database["users"].update_one({"_id": ivy.id}, {"$inc": {"auth_epoch": 1, "password_rev": 1}})
    assert (await client.get("/users/me", headers=bearer(text))).status_code == 200


async def test_a_mistyped_key_is_told_from_one_that_does_not_stand(client: httpx.AsyncClient, ivy: User) -> None:
    _, text = await a_key(ivy, Scope.PROFILE_READ, revoked_at=utc_now())
    mistyped = text[:40] + ("x" if text[40] != "x" else "y") + text[41:]
    for shown, code in ((mistyped, "api_key_mistyped"), (text[:-1], "api_key_mistyped"), (text, "api_key_refused")):
        response = await client.get("/users/me", headers=bearer(shown))
        assert refusal(response) == (401, code)
        assert response.headers.get_list("www-authenticate") == [INVALID]
        assert shown[30:] not in response.text


async def test_a_mistyped_key_needs_no_database(client: httpx.AsyncClient, commands: Commands) -> None:
    text = key_text(new_id(), b"\x01" * 32)
    await client.get("/users/me", headers=bearer(f"{text[:-1]}{'0' if text[-1] != '0' else '1'}"))
    assert commands.names == []


async def test_a_public_read_with_a_bad_key_is_served_as_for_a_visitor(
    client: httpx.AsyncClient, course: Course, ivy: User, database: Database
) -> None:
    _, text = await a_key(ivy, Scope.COURSES_READ, revoked_at=utc_now())
    for shown, code in ((text, "api_key_refused"), ("lms_nonsense", "api_key_mistyped")):
        response = await client.get(f"/courses/{course.id}", headers=bearer(shown))
        assert (response.status_code, response.headers["www-authenticate"]) == (200, INVALID)
        assert response.headers["cache-control"] == "no-store"
        await database["courses"].update_one({"_id": course.id}, {"$set": {"status": "draft"}})
        assert refusal(await client.get(f"/courses/{course.id}", headers=bearer(shown))) == (401, code)
        await database["courses"].update_one({"_id": course.id}, {"$set": {"status": "published"}})


@pytest.mark.parametrize("scheme", ["Basic", "Token", "ApiKey", ""])
async def test_a_key_comes_as_a_bearers(client: httpx.AsyncClient, ivy: User, scheme: str) -> None:
    _, text = await a_key(ivy, Scope.PROFILE_READ)
    response = await client.get("/users/me", headers={"Authorization": f"{scheme} {text}".strip(), "X-Api-Key": text})
    assert response.status_code == 401


@pytest.fixture
async def a_text(ivy: User) -> str:
    return (await a_key(ivy, Scope.PROFILE_READ, Scope.COURSES_READ))[1]


async def test_where_nobody_can_tell_the_answer_is_a_503(
    app: Litestar, a_text: str, course: Course, without_mongodb: None
) -> None:
    async with open_http(app, **bearer(a_text)) as client:
        for path in ("/users/me", f"/courses/{course.id}", "/courses"):
            response = await client.get(path)
            assert refusal(response) == (503, "unavailable")
            assert "www-authenticate" not in response.headers
