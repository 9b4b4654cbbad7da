"""Promise 7, over HTTP, in two API processes, with Redis and without."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from tests.build import a_user
from tests.promises.system import a_system, eventually, store


@pytest.mark.parametrize("with_redis", [True, False])
async def test_signing_out_in_one_process_is_out_in_the_other(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path, *, with_redis: bool
) -> None:
    sam = a_user("Sam")
    async with a_system(tmp_path, mongodb_url, redis_url if with_redis else "") as (system, database):
        await store(database, sam)
        one, other = await asyncio.gather(system.start("serve"), system.start("serve"))
        signed_in = await system.sign_in(database, sam)
        async with httpx.AsyncClient(headers=signed_in) as client:

            async def status_of(base: str) -> int:
                return (await client.get(f"{base}/api/v1/users/me")).status_code

            assert await status_of(one.health) == await status_of(other.health) == 200
            assert (await client.post(f"{one.health}/api/v1/auth/logout")).status_code == 200
            revoked = time.monotonic()

            async def is_out() -> bool:
                return await status_of(other.health) == 401

            await eventually(is_out)
            assert time.monotonic() - revoked < 1.0
            assert await status_of(one.health) == 401
