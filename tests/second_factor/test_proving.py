import asyncio
from typing import Any

import httpx
import pytest
from litestar import Litestar, post
from litestar.di import Provide

from lms.accounts.documents import SignIn, User
from lms.accounts.service import Accounts
from lms.api_keys.verdicts import KeyVerdicts
from lms.app import create_app
from lms.auth import ANYONE_SIGNED_IN, Authentication, CurrentUser, proved_recently, provide_user, requires
from lms.recovery.documents import MailedLink
from lms.settings import Settings
from lms.web.problems import render_problem
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, Signed, a_person, refresh, refusal, sign_in
from tests.conftest import HeldClock, open_client, running, token_for
from tests.second_factor.factors import App, acts, challenge, enrol, finish, prove, renew

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

TOO_OLD = (403, "proof_too_old")
WRONG = (403, "wrong_code")


async def proved_at(signed: Signed) -> Any:
    stored = await SignIn.get(signed.family)
    assert stored is not None
    return stored.proved_at


@pytest.fixture
async def signed(client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock) -> Signed:
    """Sam's sign-in with a code, ten minutes ago."""
    made = await finish(client, await challenge(client, person), app_of_sam.code())
    held_clock.advance(minutes=10)
    return await refresh(client, made.refresh_token)


async def test_a_proof_lets_the_session_do_dangerous_things_for_ten_minutes(
    client: httpx.AsyncClient, person: User, app_of_sam: App, signed: Signed, held_clock: HeldClock
) -> None:
    assert refusal(await renew(client, signed)) == TOO_OLD
    response = await prove(client, signed, code=app_of_sam.code())
    assert response.status_code == 200
    assert set(response.json()) == {"proved_at", "good_until"}
    assert await proved_at(signed) == held_clock.now
    held_clock.advance(seconds=599)
    assert (await renew(client, signed)).status_code == 200
    held_clock.advance(seconds=1)
    refused = await renew(client, signed)
    assert refusal(refused) == TOO_OLD
    assert "/api/v1/auth/prove" in refused.json()["detail"]
    (act,) = await acts("session.proved_again")
    assert act["actor"] == act["target_id"] == str(person.id)
    assert act["facts"] == {"session_id": signed.family, "methods": "pwd otp mfa"}


async def test_signing_in_is_a_proof_and_refreshing_is_none(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    assert (await renew(client, signed)).status_code == 200
    held_clock.advance(minutes=9)
    fresh = await refresh(client, signed.refresh_token)
    assert (await renew(client, fresh)).status_code == 200
    held_clock.advance(minutes=1)
    assert refusal(await renew(client, fresh)) == TOO_OLD
    assert refusal(await renew(client, await refresh(client, fresh.refresh_token))) == TOO_OLD


async def test_it_is_a_proof_of_this_session_only(
    client: httpx.AsyncClient, person: User, app_of_sam: App, signed: Signed, held_clock: HeldClock
) -> None:
    other = await finish(client, await challenge(client, person), app_of_sam.code())
    held_clock.advance(minutes=10)
    other = await refresh(client, other.refresh_token)
    signed = await refresh(client, signed.refresh_token)
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 200
    assert (await renew(client, signed)).status_code == 200
    assert refusal(await renew(client, other)) == TOO_OLD


async def test_who_has_a_factor_needs_both(
    client: httpx.AsyncClient, app_of_sam: App, signed: Signed, held_clock: HeldClock
) -> None:
    before = await proved_at(signed)
    missing = await prove(client, signed)
    assert refusal(missing) == (422, "validation_failed")
    assert missing.json()["errors"][0]["pointer"] == "#/code"
    assert refusal(await prove(client, signed, code=app_of_sam.wrong())) == WRONG
    assert refusal(await prove(client, signed, "a wrong guess", code=app_of_sam.code())) == (403, "wrong_password")
    both = await prove(client, signed, code=app_of_sam.code(), recovery_code=app_of_sam.recovery_codes[0])
    assert refusal(both) == (422, "validation_failed")
    assert await proved_at(signed) == before
    assert await acts("session.proved_again") == []
    # A code that came with a wrong password was not used up by that.
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 200
    assert refusal(await prove(client, signed, code=app_of_sam.code())) == WRONG


async def test_a_recovery_code_proves_once(client: httpx.AsyncClient, app_of_sam: App, signed: Signed) -> None:
    code = app_of_sam.recovery_codes[0]
    assert (await prove(client, signed, recovery_code=code)).status_code == 200
    assert refusal(await prove(client, signed, recovery_code=code)) == WRONG
    assert [one["facts"] for one in await acts("mfa.recovery_code_used")] == [{"left": 9}]


async def test_who_has_none_proves_by_the_password(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock, bcrypts: Bcrypts
) -> None:
    signed = await sign_in(client, await a_person(accounts, "Stella"))
    held_clock.advance(minutes=10)
    bcrypts.clear()
    assert refusal(await prove(client, signed, "a wrong guess")) == (403, "wrong_password")
    assert (await prove(client, signed)).status_code == 200
    assert bcrypts.calls == ["check 04"] * 2
    assert await proved_at(signed) == held_clock.now
    assert refusal(await prove(client, signed, code="123456")) == (409, "no_second_factor")
    assert refusal(await renew(client, signed)) == (409, "no_second_factor")


async def test_of_twenty_same_codes_at_once_one_proves(
    client: httpx.AsyncClient, app_of_sam: App, signed: Signed
) -> None:
    answers = await asyncio.gather(*(prove(client, signed, code=app_of_sam.code()) for _ in range(20)))
    assert [one.status_code for one in answers].count(200) == 1
    assert len(await acts("session.proved_again")) == 1


async def test_a_session_that_is_over_proves_nothing(
    client: httpx.AsyncClient, app_of_sam: App, signed: Signed, held_clock: HeldClock
) -> None:
    assert (await client.get("/users/me", headers=signed.header)).status_code == 200
    await SignIn.get_pymongo_collection().update_many({}, {"$set": {"ended_at": held_clock.now}})
    # This process may still go by its verdict of just now; the code is not used up.
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 401
    stored = await User.find_one({})
    assert stored is not None
    assert stored.totp is not None
    assert len(await acts("session.proved_again")) == 0


async def test_a_session_of_before_this_version_has_proved_nothing(
    client: httpx.AsyncClient, accounts: Accounts, sam: User
) -> None:
    header = {"Authorization": f"Bearer {await token_for(accounts, sam)}"}
    path = "/auth/mfa/recovery-codes"
    assert refusal(await client.post(path, headers=header)) == (409, "no_second_factor")
    await SignIn.get_pymongo_collection().update_many({}, {"$set": {"proved_at": None}})
    assert refusal(await client.post(path, headers=header)) == TOO_OLD
    await SignIn.get_pymongo_collection().update_many({}, {"$unset": {"proved_at": ""}})
    assert refusal(await client.post(path, headers=header)) == TOO_OLD


async def test_the_life_of_a_proof_is_a_setting(settings: Settings, person: User, held_clock: HeldClock) -> None:
    longer = settings.model_copy(update={"proof_minutes": 14})
    async with running(create_app(longer)) as app, open_client(app) as client:
        signed = await sign_in(client, person)
        held_clock.advance(minutes=13)
        assert refusal(await renew(client, signed)) == (409, "no_second_factor")
        held_clock.advance(minutes=1)
        assert refusal(await renew(client, signed)) == TOO_OLD


async def test_the_guard_asks_a_visitor_to_sign_in_though_no_other_stands_before_it(
    accounts: Accounts, sam: User
) -> None:
    @post("/api/v1/danger", guards=[proved_recently])
    async def danger(user: CurrentUser) -> str:
        return str(user.id)

    @post("/api/v1/guarded", guards=[requires(*ANYONE_SIGNED_IN), proved_recently])
    async def guarded() -> str:
        return "done"

    app = Litestar(
        [danger, guarded],
        dependencies={"user": Provide(provide_user)},
        middleware=[Authentication(accounts.keys, accounts.verdicts, KeyVerdicts(()))],
        exception_handlers={Exception: render_problem},
        openapi_config=None,
    )
    app.state.proof_life = create_app(accounts.settings).state.proof_life
    header = {"Authorization": f"Bearer {await token_for(accounts, sam)}"}
    async with open_client(app) as client:
        for path in ("/danger", "/guarded"):
            assert refusal(await client.post(path)) == (401, "unauthenticated")
            assert (await client.post(path, headers=header)).status_code == 201
        await SignIn.get_pymongo_collection().update_many({}, {"$set": {"proved_at": None}})
        for path in ("/danger", "/guarded"):
            assert refusal(await client.post(path, headers=header)) == TOO_OLD


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/password"}),
        ({"password": "", "code": "1"}, {"#/password", "#/code"}),
        ({"password": PASSWORD, "recovery_code": "x" * 65}, {"#/recovery_code"}),
        ({"password": PASSWORD, "user_id": "x"}, {"#/user_id"}),
    ],
)
async def test_every_broken_field_is_named(
    client: httpx.AsyncClient, laptop: Signed, body: dict[str, Any], broken: set[str]
) -> None:
    response = await client.post("/auth/prove", json=body, headers=laptop.header)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken


async def test_a_new_factor_is_a_proof_of_both(client: httpx.AsyncClient, laptop: Signed) -> None:
    _, confirmed = await enrol(client, laptop)
    assert (await renew(client, confirmed)).status_code == 200


@pytest.mark.parametrize("path", ["change-password", "change-email"])
async def test_a_stolen_token_and_the_password_do_not_take_an_account_over_that_has_a_factor(
    client: httpx.AsyncClient, person: User, app_of_sam: App, signed: Signed, path: str
) -> None:
    new = {"new_password": "a fresh new start"} if path == "change-password" else {"new_email": "thief@evil.example"}
    body = {"current_password": PASSWORD, **new}
    assert refusal(await client.post(f"/auth/{path}", json=body, headers=signed.header)) == TOO_OLD
    stored = await User.get(person.id)
    assert stored is not None
    assert (stored.password_rev, await MailedLink.count()) == (person.password_rev, 0)
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 200
    assert (await client.post(f"/auth/{path}", json=body, headers=signed.header)).status_code in {200, 202}
