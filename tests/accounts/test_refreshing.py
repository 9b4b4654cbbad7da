import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import uuid4

import httpx
import jwt
import pytest
from litestar import Litestar

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import change_role, set_active
from lms.accounts.rules import RefreshRefused
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.clock import utc_now
from lms.settings import Settings
from lms.tokens import RefreshToken
from tests.accounts.people import Signed, a_person, me, refresh, refusal, sign_in
from tests.commands import Commands
from tests.conftest import HeldClock, open_client, settings_for

REFUSED = (401, "refresh_refused")


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


@pytest.fixture
async def first(client: httpx.AsyncClient, person: User) -> Signed:
    return await sign_in(client, person)


async def stored_of(signed: Signed) -> SignIn:
    (found,) = [row for row in await SignIn.find_all().to_list() if str(row.id) == signed.family]
    return found


async def test_a_refresh_token_is_exchanged_for_its_successor(
    client: httpx.AsyncClient, first: Signed, person: User
) -> None:
    second = await refresh(client, first.refresh_token)
    third = await refresh(client, second.refresh_token)
    tokens = {first.refresh_token, second.refresh_token, third.refresh_token}
    assert (len(tokens), len({first.family, second.family, third.family})) == (3, 1)
    assert (third.body["token_type"], third.body["expires_in"]) == ("Bearer", 900)
    assert third.body["user"]["id"] == str(person.id)
    assert third.response.headers["cache-control"] == "no-store"
    assert await me(client, third) == 200
    assert (await stored_of(third)).generation == 2


async def test_a_refresh_costs_three_commands(client: httpx.AsyncClient, first: Signed, commands: Commands) -> None:
    commands.seen.clear()
    await refresh(client, first.refresh_token)
    assert commands.names == ["find", "find", "findAndModify"]


async def test_a_lost_answer_can_be_asked_for_again(
    client: httpx.AsyncClient, first: Signed, held_clock: HeldClock
) -> None:
    second = await refresh(client, first.refresh_token)
    rotated = await stored_of(second)
    held_clock.advance(seconds=60)
    again = await refresh(client, first.refresh_token)
    assert again.refresh_token == second.refresh_token
    assert await me(client, again) == 200
    assert await stored_of(again) == rotated
    assert (await refresh(client, again.refresh_token)).response.status_code == 200


async def test_after_the_grace_a_replay_ends_the_whole_family(
    client: httpx.AsyncClient, first: Signed, person: User, held_clock: HeldClock
) -> None:
    other = await sign_in(client, person)
    second = await refresh(client, first.refresh_token)
    held_clock.advance(seconds=61)
    assert await me(client, second) == 200
    assert refusal((await refresh(client, first.refresh_token)).response) == REFUSED
    assert refusal((await refresh(client, second.refresh_token)).response) == REFUSED
    assert await me(client, second) == await me(client, first) == 401
    assert (await stored_of(second)).ended_at == held_clock.now
    assert await me(client, other) == 200
    assert (await refresh(client, other.refresh_token)).response.status_code == 200


async def test_a_replay_of_the_one_before_the_last_ends_the_family_at_once(
    client: httpx.AsyncClient, first: Signed
) -> None:
    third = await refresh(client, (await refresh(client, first.refresh_token)).refresh_token)
    assert refusal((await refresh(client, first.refresh_token)).response) == REFUSED
    assert refusal((await refresh(client, third.refresh_token)).response) == REFUSED
    assert await me(client, third) == 401


async def test_of_twenty_refreshes_at_once_all_get_the_one_successor(client: httpx.AsyncClient, first: Signed) -> None:
    answers = await asyncio.gather(*(refresh(client, first.refresh_token) for _ in range(20)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert (await stored_of(first)).generation == 1


async def test_a_refresh_that_lost_the_race_gets_the_winners_successor(
    client: httpx.AsyncClient, accounts: Accounts, first: Signed
) -> None:
    read_before = await stored_of(first)
    winner = await refresh(client, first.refresh_token)
    loser = await accounts._next_generation(read_before, 0, utc_now())  # pyright: ignore[reportPrivateUsage]
    assert str(loser) == winner.refresh_token.split(".")[1] == "1"
    assert (await stored_of(first)).generation == 1


async def test_a_refresh_that_meets_the_sign_out_leaves_nobody_in(client: httpx.AsyncClient, first: Signed) -> None:
    leaving = asyncio.create_task(client.post("/auth/logout", headers=first.header))
    answers = await asyncio.gather(*(refresh(client, first.refresh_token) for _ in range(10)))
    assert (await leaving).status_code == 200
    for answer in answers:
        if answer.response.status_code == 200:
            assert refusal((await refresh(client, answer.refresh_token)).response) == REFUSED
            assert await me(client, answer) == 401
        else:
            assert refusal(answer.response) == REFUSED


async def test_a_refresh_that_read_the_session_before_it_ended_is_refused(
    client: httpx.AsyncClient, accounts: Accounts, first: Signed
) -> None:
    read_before = await stored_of(first)
    await client.post("/auth/logout", headers=first.header)
    with pytest.raises(RefreshRefused):
        await accounts._next_generation(read_before, 0, utc_now())  # pyright: ignore[reportPrivateUsage]
    assert (await stored_of(first)).generation == 0


@pytest.mark.parametrize("rotated", [False, True], ids=["would win", "has lost"])
async def test_a_refresh_that_read_the_session_before_its_nonce_was_renewed_is_refused(
    client: httpx.AsyncClient, accounts: Accounts, first: Signed, *, rotated: bool
) -> None:
    """A change of password lets this session go on, so that a copy of the refresh token is worth nothing."""
    read_before = await stored_of(first)
    change = {"$set": {"nonce": "another"}, "$inc": {"generation": int(rotated)}}
    await SignIn.get_pymongo_collection().update_one({"_id": read_before.id}, change)
    with pytest.raises(RefreshRefused):
        await accounts._next_generation(read_before, 0, utc_now())  # pyright: ignore[reportPrivateUsage]
    assert (await stored_of(first)).generation == int(rotated)


@pytest.mark.parametrize("days", [0, 29])
async def test_each_refresh_prolongs_the_sign_in(
    client: httpx.AsyncClient, first: Signed, held_clock: HeldClock, days: int
) -> None:
    held_clock.advance(days=days)
    await refresh(client, first.refresh_token)
    assert (await stored_of(first)).expires_at == held_clock.now + timedelta(days=30)


async def test_a_sign_in_without_use_expires(client: httpx.AsyncClient, person: User, held_clock: HeldClock) -> None:
    signed = await sign_in(client, person)
    held_clock.advance(days=30)
    assert refusal((await refresh(client, signed.refresh_token)).response) == REFUSED
    assert (await stored_of(signed)).generation == 0


async def test_forged_foreign_and_broken_tokens_are_refused_and_end_nothing(
    client: httpx.AsyncClient, first: Signed, person: User, settings: Settings
) -> None:
    other = await sign_in(client, person)
    family, generation, proof = first.refresh_token.split(".")
    nonce = (await stored_of(first)).nonce
    foreign = settings.model_copy(update={"secret_key": type(settings.secret_key)("another key " * 3)})
    wrong = [
        "x",
        "..",
        first.body["access_token"],
        first.refresh_token[:-1],
        f"{first.refresh_token}x",
        f"{first.refresh_token}.",
        f"{family}.{generation}",
        f"{family}.1.{proof}",
        f"{family}.{generation}.",
        f"{family}.{generation}.{other.refresh_token.split('.')[2]}",
        f"{other.family}.{generation}.{proof}",
        f"{uuid4()}.{generation}.{proof}",
        str(RefreshToken.make(foreign, first_id := (await stored_of(first)).id, 0, nonce)),
        str(RefreshToken.make(settings, first_id, 0, "another nonce")),
        "\xe9.0.\xe9",
        "\0",
    ]
    for token in wrong:
        response = (await refresh(client, token)).response
        assert refusal(response) == REFUSED, token
        assert response.headers["www-authenticate"] == "Bearer"
    assert (await refresh(client, first.refresh_token)).response.status_code == 200


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": "x" * 513}, {"refresh_token": None}])
async def test_a_broken_body_is_named(client: httpx.AsyncClient, body: dict[str, str | None]) -> None:
    response = await client.post("/auth/refresh", json=body)
    assert refusal(response) == (422, "validation_failed")
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/refresh_token"]


async def test_a_closed_account_gets_no_successor(client: httpx.AsyncClient, first: Signed, person: User) -> None:
    await set_active(person.id, active=False)
    assert refusal((await refresh(client, first.refresh_token)).response) == REFUSED
    assert refusal((await sign_in(client, person)).response) == (401, "bad_credentials")


async def test_an_erased_account_gets_no_successor(client: httpx.AsyncClient, first: Signed, person: User) -> None:
    await person.delete()
    assert refusal((await refresh(client, first.refresh_token)).response) == REFUSED


async def test_after_a_role_change_the_fresh_token_has_the_new_role(
    client: httpx.AsyncClient, first: Signed, person: User
) -> None:
    await change_role(person.id, Role.INSTRUCTOR)
    second = await refresh(client, first.refresh_token)
    claims = jwt.decode(second.body["access_token"], options={"verify_signature": False})
    assert (claims["role"], claims["epoch"], second.body["user"]["role"]) == ("instructor", 1, "instructor")
    assert await me(client, second) == 200


@pytest.fixture
async def without_grace(app: Litestar, mongodb_url: str, redis_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """An app that shares everything with the other one but gives no grace; the database is open already."""
    settings = settings_for(mongodb_url, redis_url, LMS_REFRESH_GRACE_SECONDS="0")
    strict = create_app(settings)
    async with open_client(strict) as client:
        yield client
    strict.state.accounts.passwords.close()


async def test_the_grace_is_the_operators_choice(
    without_grace: httpx.AsyncClient, first: Signed, held_clock: HeldClock
) -> None:
    second = await refresh(without_grace, first.refresh_token)
    held_clock.advance(milliseconds=1)
    assert refusal((await refresh(without_grace, first.refresh_token)).response) == REFUSED
    assert refusal((await refresh(without_grace, second.refresh_token)).response) == REFUSED
