import asyncio
from typing import Any

import httpx
import jwt
import pytest

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import change_role, set_active
from lms.accounts.rules import BadCredentials
from lms.accounts.service import Accounts
from lms.outbox.documents import Event
from lms.second_factor.documents import SignInChallenge
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, Signed, a_person, me, refresh, refusal, sign_in
from tests.commands import Commands
from tests.conftest import HeldClock
from tests.recovery.mailed import text_of
from tests.second_factor.factors import App, acts, challenge, enrol, finish, mails
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

REFUSED = (401, "challenge_refused")
WRONG = (403, "wrong_code")


async def test_the_password_and_a_code_sign_in(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    asked = await sign_in(client, person)
    assert asked.body["mfa_required"] is True
    assert asked.body["expires_in"] == 300
    assert asked.response.headers["cache-control"] == "no-store"
    signed = await finish(client, asked.body["challenge_token"], app_of_sam.code())
    assert set(signed.body) == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
        "user",
    }
    assert await me(client, signed) == 200
    again = await refresh(client, signed.refresh_token)
    assert await me(client, again) == 200
    stored = await SignIn.get(signed.family)
    assert stored is not None
    assert (stored.methods, stored.proved_at) == (["pwd", "otp", "mfa"], held_clock.now)
    assert await SignInChallenge.count() == 0


async def test_the_challenge_itself_is_no_token(client: httpx.AsyncClient, person: User, app_of_sam: App) -> None:
    before = await SignIn.find({"ended_at": None}).count()
    token = await challenge(client, person)
    header = {"Authorization": f"Bearer {token}"}
    assert refusal(await client.get("/users/me", headers=header)) == (401, "unauthenticated")
    assert refusal((await refresh(client, token)).response) == (401, "refresh_refused")
    assert await SignIn.find({"ended_at": None}).count() == before
    (stored,) = await SignInChallenge.find_all().to_list()
    assert token not in str(stored)


async def test_a_code_counts_once(client: httpx.AsyncClient, person: User, app_of_sam: App) -> None:
    token, other, code = await challenge(client, person), await challenge(client, person), app_of_sam.code()
    assert (await finish(client, token, code)).response.status_code == 200
    assert refusal((await finish(client, other, code)).response) == WRONG
    # Nor does one of before count any more, though it is within the window; the next one does.
    assert refusal((await finish(client, other, app_of_sam.code(-1))).response) == WRONG
    assert (await finish(client, other, app_of_sam.code(1))).response.status_code == 200


async def test_the_code_that_switched_it_on_does_not_sign_in(
    client: httpx.AsyncClient, person: User, laptop: Signed
) -> None:
    app, _ = await enrol(client, laptop)
    token = await challenge(client, person)
    assert refusal((await finish(client, token, app.code())).response) == WRONG


async def test_of_twenty_same_codes_at_once_one_signs_in(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    tokens, code = [await challenge(client, person) for _ in range(20)], app_of_sam.code()
    before = await SignIn.count()
    answers = await asyncio.gather(*(finish(client, token, code) for token in tokens))
    assert sorted(one.response.status_code for one in answers)[:2] == [200, 403]
    assert await SignIn.count() == before + 1
    assert {one.response.status_code for one in answers} <= {200, 403, 429}


async def test_of_twenty_answers_to_one_challenge_one_signs_in(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    token, before = await challenge(client, person), await SignIn.count()
    codes = [app_of_sam.code(), app_of_sam.code(1)] * 10
    answers = await asyncio.gather(*(finish(client, token, code) for code in codes))
    assert [one.response.status_code for one in answers].count(200) == 1
    assert await SignIn.count() == before + 1
    assert refusal((await finish(client, token, app_of_sam.code(1))).response) == REFUSED


@pytest.mark.parametrize(("steps", "status"), [(-2, 403), (-1, 200), (0, 200), (1, 200), (2, 403)])
async def test_the_phones_clock_may_be_off_by_half_a_minute(
    client: httpx.AsyncClient, person: User, app_of_sam: App, steps: int, status: int
) -> None:
    token = await challenge(client, person)
    assert (await finish(client, token, app_of_sam.code(steps))).response.status_code == status


async def test_a_challenge_takes_five_codes(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    token = await challenge(client, person)
    for _ in range(5):
        assert refusal((await finish(client, token, app_of_sam.wrong())).response) == WRONG
        held_clock.advance(seconds=55)
    held_clock.advance(seconds=20)
    assert refusal((await finish(client, token, app_of_sam.code())).response) == REFUSED
    held_clock.advance(minutes=15)
    assert (await finish(client, await challenge(client, person), app_of_sam.code())).response.status_code == 200


async def test_a_challenge_lasts_five_minutes(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    token = await challenge(client, person)
    held_clock.advance(seconds=299)
    late = await challenge(client, person)
    held_clock.advance(seconds=1)
    assert refusal((await finish(client, token, app_of_sam.code())).response) == REFUSED
    assert (await finish(client, late, app_of_sam.code())).response.status_code == 200


@pytest.mark.parametrize("what", ["password", "account", "role", "person", "factor"])
async def test_what_changed_meanwhile_ends_the_challenge(
    client: httpx.AsyncClient, person: User, app_of_sam: App, what: str
) -> None:
    token, before = await challenge(client, person), await SignIn.count()
    if what == "password":
        await User.get_pymongo_collection().update_one({"_id": person.id}, {"$inc": {"password_rev": 1}})
    elif what == "account":
        await set_active(person.id, active=False)
        assert refusal((await finish(client, token, app_of_sam.code())).response) == REFUSED
        await set_active(person.id, active=True)
    elif what == "role":
        await change_role(person.id, Role.ADMIN)
    elif what == "factor":
        await User.get_pymongo_collection().update_one({"_id": person.id}, {"$set": {"totp": None}})
    else:
        await person.delete()
    assert refusal((await finish(client, token, app_of_sam.code())).response) == REFUSED
    assert await SignIn.count() == before


async def test_another_persons_code_does_not_count(
    client: httpx.AsyncClient, accounts: Accounts, person: User, app_of_sam: App
) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    apps = await enrol(client, await sign_in(client, stella))
    token = await challenge(client, person)
    assert refusal((await finish(client, token, apps[0].code(1))).response) == WRONG
    assert refusal((await finish(client, token, recovery_code=apps[0].recovery_codes[0])).response) == WRONG


async def test_a_recovery_code_signs_in_once_and_its_owner_is_told(
    client: httpx.AsyncClient, person: User, app_of_sam: App, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await Event.find_all().delete()
    code = app_of_sam.recovery_codes[3]
    token = await challenge(client, person)
    signed = await finish(client, token, recovery_code=f" {code.upper().replace('-', ' ')} ")
    assert await me(client, signed) == 200
    stored = await SignIn.get(signed.family)
    assert stored is not None
    assert stored.methods == ["pwd", "recovery", "mfa"]
    assert await me(client, await refresh(client, signed.refresh_token)) == 200
    again = await challenge(client, person)
    assert refusal((await finish(client, again, recovery_code=code)).response) == WRONG
    assert (await client.get("/auth/mfa", headers=signed.header)).json()["recovery_codes_left"] == 9
    (used,) = await acts("mfa.recovery_code_used")
    assert (used["actor"], used["target_id"], used["facts"]) == (str(person.id), str(person.id), {"left": 9})
    (mail,) = await mails(settings, smtp_sink)
    assert (mail["To"], mail["Subject"]) == (person.email, "A recovery code of your account at Open School was used")
    assert "9 are left." in text_of(mail)
    assert code not in mail.as_string()


async def test_of_twenty_same_recovery_codes_at_once_one_signs_in(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    tokens, code = [await challenge(client, person) for _ in range(20)], app_of_sam.recovery_codes[0]
    answers = await asyncio.gather(*(finish(client, token, recovery_code=code) for token in tokens))
    assert [one.response.status_code for one in answers].count(200) == 1
    assert await Event.find({"kind": "user.recovery_code_used"}).count() == 1


async def test_a_wrong_password_looks_and_costs_the_same_as_everybodys(
    client: httpx.AsyncClient, accounts: Accounts, person: User, app_of_sam: App, commands: Commands, bcrypts: Bcrypts
) -> None:
    plain = await a_person(accounts, "Stella", verified=True)
    seen: list[Any] = []
    for one in (person, plain):
        commands.seen.clear()
        bcrypts.clear()
        response = (await sign_in(client, one, "a wrong guess")).response
        body = response.json() | {"request_id": ""}
        seen.append((response.status_code, body, set(response.headers), commands.names, list(bcrypts.calls)))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][1]["code"]) == (401, "bad_credentials")


async def test_a_sign_in_that_began_before_is_worth_nothing(
    client: httpx.AsyncClient, accounts: Accounts, person: User, laptop: Signed
) -> None:
    """Its password was right before the factor was set up, and it was to be stored after that."""
    stale = await User.get(person.id)
    assert stale is not None
    await enrol(client, laptop)
    before = await SignIn.count()
    with pytest.raises(BadCredentials):
        await accounts.open_session(stale, ["pwd"])
    assert await SignIn.count() == before


async def test_after_the_servers_key_was_changed_recovery_codes_still_let_in(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    spoilt = {"$set": {"totp.secret": b"sealed with the key of before"}}
    await User.get_pymongo_collection().update_one({"_id": person.id}, spoilt)
    token = await challenge(client, person)
    assert refusal((await finish(client, token, app_of_sam.code())).response) == WRONG
    assert (await finish(client, token, recovery_code=app_of_sam.recovery_codes[0])).response.status_code == 200


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/challenge_token"}),
        ({"challenge_token": "x"}, {"#/code"}),
        ({"challenge_token": "x", "code": "123456", "recovery_code": "x"}, {"#/recovery_code"}),
        ({"challenge_token": "", "code": "12345"}, {"#/challenge_token", "#/code"}),
        ({"challenge_token": "x", "recovery_code": ""}, {"#/recovery_code"}),
        ({"challenge_token": "x", "code": "12345\u0663"}, {"#/code"}),
        ({"challenge_token": "x", "code": 123456}, {"#/code"}),
        ({"challenge_token": "x", "code": "123456", "user_id": "x"}, {"#/user_id"}),
    ],
)
async def test_every_broken_field_is_named(client: httpx.AsyncClient, body: dict[str, Any], broken: set[str]) -> None:
    response = await client.post("/auth/login/mfa", json=body)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken


async def test_an_unknown_challenge_is_refused(client: httpx.AsyncClient, app_of_sam: App) -> None:
    response = (await finish(client, "nonsense", app_of_sam.code())).response
    assert refusal(response) == REFUSED
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_access_token_says_nothing_of_the_factor(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    claims = jwt.decode(signed.body["access_token"], options={"verify_signature": False})
    assert "restricted" not in claims
    assert PASSWORD not in str(claims)
