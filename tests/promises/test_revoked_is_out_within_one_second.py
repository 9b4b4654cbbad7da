"""Promise 7, over HTTP, in two API processes, with Redis and without."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.passwords import Passwords
from lms.recovery.documents import Purpose
from lms.tokens import mail_token
from tests.build import a_user
from tests.promises.system import System, a_system, eventually, store

PASSWORD, FRESH = "correct horse battery", "a fresh new start"

Database = AsyncDatabase[dict[str, Any]]
Ask = Callable[..., Awaitable[httpx.Response]]


async def sign_out(ask: Ask, other: Ask, database: Database, system: System) -> httpx.Response:
    _ = other, database, system
    return await ask("POST", "logout")


async def end_the_other(ask: Ask, other: Ask, database: Database, system: System) -> httpx.Response:
    _ = ask, database, system
    listed = (await other("GET", "sessions")).json()["items"]
    [session_id] = [one["id"] for one in listed if not one["current"]]
    return await other("DELETE", f"sessions/{session_id}")


async def change_password(ask: Ask, other: Ask, database: Database, system: System) -> httpx.Response:
    _ = ask, database, system
    return await other("POST", "change-password", json={"current_password": PASSWORD, "new_password": FRESH})


async def reset_password(ask: Ask, other: Ask, database: Database, system: System) -> httpx.Response:
    _ = other
    await ask("POST", "forgot-password", json={"email": "sam@school.example"})
    event = await database["outbox"].find_one({"kind": "user.password_forgotten"})
    assert event is not None
    token = mail_token(system.settings, Purpose.RESET_PASSWORD, event["data"]["nonce"])
    return await ask("POST", "reset-password", json={"token": token, "password": FRESH})


WAYS = [sign_out, end_the_other, change_password, reset_password]


async def a_person(system: System, database: Database) -> User:
    passwords = Passwords(system.settings)
    sam = a_user("Sam", password_hash=await passwords.hash(PASSWORD))
    passwords.close()
    await store(database, sam)
    return sam


@pytest.mark.parametrize("with_redis", [True, False])
@pytest.mark.parametrize("revoke", WAYS, ids=lambda way: way.__name__)
async def test_what_one_process_revokes_is_out_in_the_other(
    app: Litestar,
    mongodb_url: str,
    redis_url: str,
    tmp_path: Path,
    revoke: Callable[[Ask, Ask, Database, System], Awaitable[httpx.Response]],
    *,
    with_redis: bool,
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url if with_redis else "") as (system, database):
        sam = await a_person(system, database)
        one, other = await asyncio.gather(system.start("serve"), system.start("serve"))
        here, elsewhere = await system.sign_in(database, sam), await system.sign_in(database, sam)
        async with httpx.AsyncClient() as client:

            async def status_of(base: str) -> int:
                return (await client.get(f"{base}/api/v1/users/me", headers=here)).status_code

            def from_a(signed_in: dict[str, str]) -> Ask:
                async def ask(method: str, path: str, **more: Any) -> httpx.Response:
                    url = f"{one.health}/api/v1/auth/{path}"
                    return await client.request(method, url, headers=signed_in, **more)

                return ask

            assert await status_of(one.health) == await status_of(other.health) == 200
            answer = await revoke(from_a(here), from_a(elsewhere), database, system)
            assert answer.is_success, answer.text
            revoked = time.monotonic()

            async def is_out() -> bool:
                return await status_of(other.health) == 401

            await eventually(is_out)
            assert time.monotonic() - revoked < 1.0
            assert await status_of(one.health) == 401
