"""When a key was last used: to the minute, and never in a request's way."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.api_keys.documents import ApiKey, Scope
from lms.api_keys.verdicts import KeyVerdicts
from lms.app import create_app
from lms.database import bind
from lms.database import open_client as open_database
from lms.settings import Settings
from tests.api_keys.keys import a_key, bearer
from tests.commands import Commands
from tests.conftest import HeldClock, open_client, running, settings_for

Database = AsyncDatabase[dict[str, Any]]


async def stored(key_id: UUID) -> datetime | None:
    key = await ApiKey.get(key_id)
    assert key is not None
    return key.last_used_at


async def use(process: KeyVerdicts, text: str) -> None:
    """And wait until it is written down."""
    await process.caller(text)
    await process.close()


async def test_it_is_known_to_the_minute(ivy: User, held_clock: HeldClock, commands: Commands) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    process = KeyVerdicts(())
    await use(process, text)
    first = held_clock.now
    assert await stored(key.id) == first
    held_clock.advance(seconds=59)
    commands.seen.clear()
    await use(process, text)
    assert commands.writes == []
    assert await stored(key.id) == first
    held_clock.advance(seconds=1)
    await use(process, text)
    assert await stored(key.id) == held_clock.now == first + timedelta(minutes=1)


async def test_many_uses_of_many_keys_are_few_writes(ivy: User, ada: User, commands: Commands) -> None:
    texts = [(await a_key(owner, Scope.COURSES_READ))[1] for owner in (ivy, ada) for _ in range(5)]
    process = KeyVerdicts(())
    commands.seen.clear()
    await asyncio.gather(*(process.caller(text) for _ in range(20) for text in texts))
    await process.close()
    assert len(commands.writes) <= 2
    assert await ApiKey.find({"last_used_at": None}).count() == 0


async def test_two_processes_write_it_once_a_minute(ivy: User, held_clock: HeldClock, commands: Commands) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    one, other = KeyVerdicts(()), KeyVerdicts(())
    await use(one, text)
    first = held_clock.now
    held_clock.advance(seconds=30)
    # The other one has heard of it, by the read that it needs anyway.
    commands.seen.clear()
    await use(other, text)
    assert commands.writes == []
    assert await stored(key.id) == first


async def test_of_two_that_write_at_once_the_later_changes_nothing(ivy: User, held_clock: HeldClock) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    one, other = KeyVerdicts(()), KeyVerdicts(())
    # Both have read that it was never used.
    await asyncio.gather(one.caller(text), other.caller(text))
    await one.close()
    first = await stored(key.id)
    held_clock.advance(seconds=10)
    await other.close()
    assert await stored(key.id) == first


async def test_a_refused_key_was_not_used(ivy: User) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    other, _ = await a_key(ivy, Scope.COURSES_READ)
    process = KeyVerdicts(())
    await use(process, text)
    assert await stored(other.id) is None
    assert await stored(key.id) is not None


async def test_nothing_is_lost_when_a_process_stops(
    app: Litestar, settings: Settings, database: Database, ivy: User
) -> None:
    key, text = await a_key(ivy, Scope.PROFILE_READ)
    async with running(create_app(settings)) as stopping, open_client(stopping, **bearer(text)) as client:
        assert (await client.get("/users/me")).status_code == 200
    assert await stored(key.id) is not None


async def test_a_write_that_fails_fails_no_request_and_is_made_again(
    ivy: User, database: Database, redis_url: str, tmp_path: Path, held_clock: HeldClock
) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ)
    process, first = KeyVerdicts(()), held_clock.now
    await use(process, text)
    held_clock.advance(minutes=1)
    away = settings_for(
        f"mongodb://{quote(str(tmp_path / 'none.sock'), safe='')}", redis_url, LMS_MONGODB_TIMEOUT_SECONDS="0.2"
    )
    async with open_database(away) as nobody:
        await bind(nobody[away.mongodb_database])
        # What is known of the key is half a second old at most, so that nobody need be asked.
        await use(process, text)
        await bind(database)
    assert await stored(key.id) == first
    await use(process, text)
    assert await stored(key.id) == held_clock.now
