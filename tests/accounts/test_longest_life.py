from datetime import timedelta

import httpx
import jwt
import pytest

from lms.accounts.documents import SignIn
from lms.accounts.service import Accounts
from tests.accounts.people import Signed, a_person, me, refresh, refusal, sign_in
from tests.conftest import HeldClock

REFUSED = (401, "refresh_refused")


@pytest.fixture
async def signed(client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock) -> Signed:
    _ = held_clock
    return await sign_in(client, await a_person(accounts, "Sam"))


async def used_until(client: httpx.AsyncClient, signed: Signed, held_clock: HeldClock, days: int) -> Signed:
    """Refreshed every 20 days, and then once more."""
    begun = held_clock.now
    for day in [*range(20, days, 20), days]:
        held_clock.now = begun + timedelta(days=day)
        signed = await refresh(client, signed.refresh_token)
    return signed


async def test_a_session_ends_after_ninety_days_however_much_it_is_used(
    client: httpx.AsyncClient, signed: Signed, held_clock: HeldClock
) -> None:
    begun = held_clock.now
    last = await used_until(client, signed, held_clock, 89)
    assert last.body["refresh_expires_in"] == 86_400
    (stored,) = await SignIn.find_all().to_list()
    assert stored.expires_at == begun + timedelta(days=90)
    held_clock.now = begun + timedelta(days=90)
    assert refusal((await refresh(client, last.refresh_token)).response) == REFUSED


async def test_no_access_token_outlives_its_session(
    client: httpx.AsyncClient, signed: Signed, held_clock: HeldClock
) -> None:
    begun = held_clock.now
    before = await used_until(client, signed, held_clock, 89)
    held_clock.now = begun + timedelta(days=90, minutes=-5)
    last = await refresh(client, before.refresh_token)
    claims = jwt.decode(last.body["access_token"], options={"verify_signature": False})
    assert (last.body["expires_in"], claims["exp"]) == (300, int((begun + timedelta(days=90)).timestamp()))
    assert await me(client, last) == 200
    held_clock.advance(minutes=5)
    assert await me(client, last) == 401


async def test_a_shorter_life_holds_for_sessions_that_there_are(
    client: httpx.AsyncClient,
    accounts: Accounts,
    signed: Signed,
    held_clock: HeldClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorter = accounts.settings.model_copy(update={"session_days": 7})
    monkeypatch.setattr(accounts, "settings", shorter)
    held_clock.advance(days=7)
    assert refusal((await refresh(client, signed.refresh_token)).response) == REFUSED
