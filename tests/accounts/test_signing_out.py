import asyncio

import httpx
import pytest

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import change_role, set_active
from lms.accounts.service import Accounts
from tests.accounts.people import a_person, me, refresh, refusal, sign_in
from tests.conftest import ClientFor, HeldClock


async def test_signing_out_ends_this_session_and_no_other(client: httpx.AsyncClient, accounts: Accounts) -> None:
    sam = await a_person(accounts, "Sam")
    phone, laptop = await sign_in(client, sam), await sign_in(client, sam)
    assert await me(client, phone) == await me(client, laptop) == 200
    response = await client.post("/auth/logout", headers=phone.header)
    assert (response.status_code, response.json()) == (200, {"status": "signed_out"})
    refused = await client.get("/users/me", headers=phone.header)
    assert refusal(refused) == (401, "unauthenticated")
    assert refused.headers.get_list("www-authenticate") == ['Bearer error="invalid_token"']
    assert refusal((await refresh(client, phone.refresh_token)).response) == (401, "refresh_refused")
    assert await me(client, laptop) == 200
    assert (await refresh(client, laptop.refresh_token)).response.status_code == 200


async def test_signing_out_twice_is_a_401(client: httpx.AsyncClient, accounts: Accounts) -> None:
    signed = await sign_in(client, await a_person(accounts, "Sam"))
    assert (await client.post("/auth/logout", headers=signed.header)).status_code == 200
    assert refusal(await client.post("/auth/logout", headers=signed.header)) == (401, "unauthenticated")


async def test_signing_out_everywhere_ends_all_of_mine_and_nobody_elses(
    client: httpx.AsyncClient, accounts: Accounts
) -> None:
    sam, stella = await a_person(accounts, "Sam"), await a_person(accounts, "Stella")
    mine = [await sign_in(client, sam) for _ in range(3)]
    hers = await sign_in(client, stella)
    for signed in (*mine, hers):
        assert await me(client, signed) == 200
    response = await client.post("/auth/logout-all", headers=mine[0].header)
    assert (response.status_code, response.json()) == (200, {"status": "signed_out"})
    for signed in mine:
        assert await me(client, signed) == 401
        assert refusal((await refresh(client, signed.refresh_token)).response) == (401, "refresh_refused")
    assert await me(client, hers) == 200
    assert await SignIn.find({"ended_at": None}).count() == 1


async def test_a_session_that_ended_elsewhere_keeps_its_end(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock
) -> None:
    signed = await sign_in(client, await a_person(accounts, "Sam"))
    assert await me(client, signed) == 200
    ended = held_clock.now
    await SignIn.get_pymongo_collection().update_many({}, {"$set": {"ended_at": ended}})
    held_clock.advance(milliseconds=100)
    # This process still goes by its verdict of just now.
    assert (await client.post("/auth/logout", headers=signed.header)).status_code == 200
    (stored,) = await SignIn.find_all().to_list()
    assert stored.ended_at == ended


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout-all"])
async def test_a_visitor_has_nothing_to_sign_out_of(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path)
    assert refusal(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_when_two_sign_out_at_once_both_are_out(client: httpx.AsyncClient, accounts: Accounts) -> None:
    signed = await sign_in(client, await a_person(accounts, "Sam"))
    answers = await asyncio.gather(*(client.post("/auth/logout", headers=signed.header) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 401}
    assert 200 in {answer.status_code for answer in answers}
    # One that was let in a moment before the end may have left its verdict behind, for as long as is promised.
    client.headers.update(signed.header)
    await is_out_within_a_second(client)


async def is_out_within_a_second(client: httpx.AsyncClient) -> None:
    """Another way into the process tells it nothing, so its verdict may live on for as long as is promised."""
    async with asyncio.timeout(1.0):
        while (await client.get("/users/me")).status_code == 200:  # noqa: ASYNC110 - a remembered verdict sets no event
            await asyncio.sleep(0.02)
    assert refusal(await client.get("/users/me")) == (401, "unauthenticated")


async def test_a_role_change_ends_what_was_issued_before(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    assert (await sams.get("/users/me")).status_code == 200
    assert await change_role(sam.id, Role.INSTRUCTOR)
    await is_out_within_a_second(sams)
    stored = await User.get(sam.id)
    assert stored is not None
    assert (stored.role, stored.auth_epoch) == (Role.INSTRUCTOR, 1)
    assert (await (await client_for(stored)).get("/users/me")).json()["role"] == "instructor"


async def test_the_same_role_again_ends_nothing(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    assert not await change_role(sam.id, Role.STUDENT)
    assert (await sams.get("/users/me")).status_code == 200


async def test_a_closed_account_is_out_and_its_old_tokens_stay_out(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    assert (await sams.get("/users/me")).status_code == 200
    assert await set_active(sam.id, active=False)
    assert not await set_active(sam.id, active=False)
    await is_out_within_a_second(sams)
    assert await set_active(sam.id, active=True)
    stored = await User.get(sam.id)
    assert stored is not None
    assert stored.auth_epoch == 2
    assert (await (await client_for(stored)).get("/users/me")).status_code == 200
    assert (await sams.get("/users/me")).status_code == 401


async def test_nobody_is_changed_where_there_is_nobody(sam: User) -> None:
    await sam.delete()
    assert not await change_role(sam.id, Role.ADMIN)
    assert not await set_active(sam.id, active=False)


async def test_who_is_let_in_again_signs_in_anew(client: httpx.AsyncClient, accounts: Accounts) -> None:
    person = await a_person(accounts, "Sam")
    signed = await sign_in(client, person)
    assert await set_active(person.id, active=False)
    kept_out = await client.post("/auth/refresh", json={"refresh_token": signed.refresh_token})
    assert await set_active(person.id, active=True)
    let_in = await client.post("/auth/refresh", json={"refresh_token": signed.refresh_token})
    assert [refusal(kept_out), refusal(let_in)] == [(401, "refresh_refused")] * 2
