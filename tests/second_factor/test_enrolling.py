import asyncio
import re
from typing import Any
from uuid import UUID

import httpx
import pytest
import zxingcpp
from PIL import Image, ImageDraw
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import SignIn, User
from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.outbox.documents import Event
from lms.settings import Settings
from tests.accounts.people import PASSWORD, Signed, a_person, me, refresh, refusal, sign_in
from tests.conftest import HeldClock
from tests.recovery.mailed import text_of
from tests.second_factor.factors import (
    App,
    acts,
    begin,
    challenge,
    confirm,
    enrol,
    finish,
    mails,
    prove,
    remove,
    renew,
    secret_of,
    state,
)
from tests.servers import SmtpSink

NOTHING = (409, "nothing_to_confirm")
TOO_OLD = (403, "proof_too_old")


def picture_of(svg: str) -> Image.Image:
    """The modules that segno draws: lines of one unit's height, each from a move to a place."""
    scale, path, side = 6, re.findall(r'd="([^"]+)"', svg)[-1], int(re.findall(r'width="(\d+)"', svg)[0]) // 4
    image = Image.new("L", (side * scale, side * scale), 255)
    draw, x, y = ImageDraw.Draw(image), 0.0, 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]+)", path):
        given = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
        if command == "h":
            draw.rectangle((x * scale, (y - 0.5) * scale, (x + given[0]) * scale - 1, (y + 0.5) * scale - 1), fill=0)
            x += given[0]
        else:
            x, y = (given[0], given[1]) if command == "M" else (x + given[0], y + given[1])
    return image


async def test_the_secret_is_shown_once_as_text_and_as_a_picture(
    client: httpx.AsyncClient, person: User, laptop: Signed
) -> None:
    response = await begin(client, laptop)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert set(body) == {"secret", "provisioning_uri", "qr_svg", "expires_in"}
    assert body["expires_in"] == 600
    assert re.fullmatch(r"[A-Z2-7]{32}", body["secret"])
    assert body["provisioning_uri"].startswith("otpauth://totp/Open%20School:sam@school.example?secret=")
    assert body["secret"] in body["provisioning_uri"]
    assert body["qr_svg"].startswith("<svg ")
    (read,) = zxingcpp.read_barcodes(picture_of(body["qr_svg"]))
    assert read.text == body["provisioning_uri"]
    # Nothing is asked of anybody before it is confirmed.
    assert await state(client, laptop) == (False, 0, False)
    assert (await sign_in(client, person)).body["access_token"]


async def test_nothing_that_is_stored_has_the_secret_or_a_code(
    client: httpx.AsyncClient, laptop: Signed, database: AsyncDatabase[dict[str, Any]]
) -> None:
    begun = (await begin(client, laptop)).json()
    app = App(secret_of(begun), [])
    stored = [row for name in await database.list_collection_names() for row in await database[name].find().to_list()]
    app.recovery_codes = (await confirm(client, laptop, app.code())).body["recovery_codes"]
    stored += [row for name in await database.list_collection_names() for row in await database[name].find().to_list()]
    for row in map(repr, stored):
        assert begun["secret"] not in row
        assert repr(app.secret)[2:-1] not in row
        assert not any(code in row or code.replace("-", "") in row for code in app.recovery_codes)


async def test_confirming_switches_it_on_and_ends_all_other_sessions(
    client: httpx.AsyncClient,
    person: User,
    laptop: Signed,
    settings: Settings,
    smtp_sink: SmtpSink,
    held_clock: HeldClock,
) -> None:
    phone = await sign_in(client, person)
    assert await me(client, phone) == await me(client, laptop) == 200
    app, confirmed = await enrol(client, laptop)
    assert len(set(app.recovery_codes)) == 10
    assert confirmed.family == laptop.family
    assert await state(client, confirmed) == (True, 10, False)
    assert await me(client, confirmed) == 200
    # Every token of before is over, those of this session too.
    assert await me(client, phone) == await me(client, laptop) == 401
    for old in (phone, laptop):
        assert refusal((await refresh(client, old.refresh_token)).response) == (401, "refresh_refused")
    again = await refresh(client, confirmed.refresh_token)
    assert await me(client, again) == 200
    stored = await SignIn.get(confirmed.family)
    assert stored is not None
    assert (stored.methods, stored.proved_at) == (["pwd", "otp", "mfa"], held_clock.now)
    (mail,) = await mails(settings, smtp_sink)
    assert (mail["To"], mail["Subject"]) == (person.email, "Your account at Open School now asks for codes")
    assert not any(code in mail.as_string() for code in app.recovery_codes)
    who = str(person.id)
    assert await acts("mfa.enabled") == [
        {"act": "mfa.enabled", "actor": who, "target_id": who, "facts": {"replaced": False}}
    ]


async def test_the_password_is_asked_for(client: httpx.AsyncClient, laptop: Signed, person: User) -> None:
    assert refusal(await begin(client, laptop, "a wrong guess")) == (403, "wrong_password")
    visitor = await client.post("/auth/mfa/totp", json={"current_password": PASSWORD})
    assert refusal(visitor) == (401, "unauthenticated")
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.pending_totp is None


async def test_a_wrong_code_confirms_nothing_and_five_end_it(
    client: httpx.AsyncClient, laptop: Signed, person: User
) -> None:
    app = App(secret_of((await begin(client, laptop)).json()), [])
    for _ in range(5):
        assert refusal((await confirm(client, laptop, app.wrong())).response) == (403, "wrong_code")
    assert refusal((await confirm(client, laptop, app.code())).response) == NOTHING
    assert await state(client, laptop) == (False, 0, False)
    # Nor has that cost the account a try of its own.
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.code_tries is None
    assert (await enrol(client, laptop))[0].recovery_codes


async def test_only_the_session_that_began_confirms(client: httpx.AsyncClient, person: User, laptop: Signed) -> None:
    phone = await sign_in(client, person)
    assert refusal((await confirm(client, laptop, "123456")).response) == NOTHING
    app = App(secret_of((await begin(client, laptop)).json()), [])
    assert refusal((await confirm(client, phone, app.code())).response) == NOTHING
    # Whoever begins takes the place of who began before.
    newer = App(secret_of((await begin(client, phone)).json()), [])
    assert refusal((await confirm(client, laptop, app.code())).response) == NOTHING
    assert (await confirm(client, phone, newer.code())).response.status_code == 200


async def test_it_is_confirmed_within_ten_minutes(
    client: httpx.AsyncClient, laptop: Signed, held_clock: HeldClock
) -> None:
    app = App(secret_of((await begin(client, laptop)).json()), [])
    held_clock.advance(seconds=600)
    assert refusal((await confirm(client, laptop, app.code())).response) == NOTHING
    app = App(secret_of((await begin(client, laptop)).json()), [])
    held_clock.advance(seconds=599)
    assert (await confirm(client, await refresh(client, laptop.refresh_token), app.code())).response.status_code == 200


async def test_of_five_confirmations_at_once_one_counts(
    client: httpx.AsyncClient, laptop: Signed, person: User
) -> None:
    app = App(secret_of((await begin(client, laptop)).json()), [])
    answers = await asyncio.gather(*(confirm(client, laptop, app.code()) for _ in range(5)))
    (won,) = [one for one in answers if one.response.status_code == 200]
    assert {one.response.status_code for one in answers if one is not won} <= {409, 401}
    assert await me(client, won) == 200
    assert await Event.find({"kind": "user.second_factor_on"}).count() == 1
    token = await challenge(client, person)
    signed = await finish(client, token, recovery_code=won.body["recovery_codes"][9])
    assert await me(client, signed) == 200


@pytest.mark.parametrize("what", ["session", "account", "password"])
async def test_who_was_let_out_meanwhile_confirms_nothing(
    client: httpx.AsyncClient, person: User, laptop: Signed, what: str, held_clock: HeldClock
) -> None:
    app = App(secret_of((await begin(client, laptop)).json()), [])
    assert await me(client, laptop) == 200
    if what == "session":
        await SignIn.get_pymongo_collection().update_many({}, {"$set": {"ended_at": held_clock.now}})
    elif what == "account":
        await set_active(person.id, active=False)
    else:
        body = {"current_password": PASSWORD, "new_password": "a fresh new start"}
        assert (await client.post("/auth/change-password", json=body, headers=laptop.header)).status_code == 200
    # This process may still go by its verdict of just now.
    assert (await confirm(client, laptop, app.code())).response.status_code in {401, 409}
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.totp is None


async def test_another_app_takes_the_place_of_the_first_after_a_proof(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    held_clock.advance(minutes=10)
    assert refusal(await begin(client, signed)) == TOO_OLD
    assert (await prove(client, signed, recovery_code=app_of_sam.recovery_codes[0])).status_code == 200
    newer, confirmed = await enrol(client, signed)
    assert await state(client, confirmed) == (True, 10, False)
    assert [one["facts"] for one in await acts("mfa.enabled")] == [{"replaced": False}, {"replaced": True}]
    held_clock.advance(minutes=1)
    token = await challenge(client, person)
    assert refusal((await finish(client, token, app_of_sam.code())).response) == (403, "wrong_code")
    old_code = app_of_sam.recovery_codes[1]
    assert refusal((await finish(client, token, recovery_code=old_code)).response) == (403, "wrong_code")
    assert (await finish(client, token, newer.code())).response.status_code == 200


async def test_until_the_new_one_is_confirmed_the_old_one_counts(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    pending = App(secret_of((await begin(client, signed)).json()), [])
    token = await challenge(client, person)
    assert refusal((await finish(client, token, pending.code(1))).response) == (403, "wrong_code")
    assert (await finish(client, token, app_of_sam.code(1))).response.status_code == 200


async def test_new_recovery_codes_void_those_of_before(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    signed = await finish(client, await challenge(client, person), recovery_code=app_of_sam.recovery_codes[0])
    assert await state(client, signed) == (True, 9, False)
    response = await renew(client, signed)
    assert (response.status_code, set(response.json())) == (200, {"recovery_codes"})
    codes = response.json()["recovery_codes"]
    assert len(set(codes) - set(app_of_sam.recovery_codes)) == 10
    assert await state(client, signed) == (True, 10, False)
    token = await challenge(client, person)
    old_code = app_of_sam.recovery_codes[1]
    assert refusal((await finish(client, token, recovery_code=old_code)).response) == (403, "wrong_code")
    assert (await finish(client, token, recovery_code=codes[0])).response.status_code == 200
    assert [one["actor"] for one in await acts("mfa.recovery_codes_made")] == [str(person.id)]
    held_clock.advance(minutes=10)
    assert refusal(await renew(client, signed)) == TOO_OLD


async def test_removing_it_leaves_the_password(
    client: httpx.AsyncClient,
    person: User,
    app_of_sam: App,
    settings: Settings,
    smtp_sink: SmtpSink,
    held_clock: HeldClock,
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    held_clock.advance(minutes=10)
    assert refusal(await remove(client, signed)) == TOO_OLD
    assert await state(client, signed) == (True, 10, False)
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 200
    assert (await remove(client, signed)).status_code == 204
    assert await state(client, signed) == (False, 0, False)
    assert (await sign_in(client, person)).body["access_token"]
    assert await me(client, await refresh(client, signed.refresh_token)) == 200
    stored = await User.get(person.id)
    assert stored is not None
    assert (stored.totp, stored.pending_totp, stored.code_tries) == (None, None, None)
    assert [one["actor"] for one in await acts("mfa.disabled")] == [str(person.id)]
    mail = (await mails(settings, smtp_sink))[-1]
    assert mail["Subject"] == "Your account at Open School no longer asks for codes"
    assert "The password alone signs in now." in text_of(mail)
    # And there is nothing more to remove, or to make codes for.
    assert refusal(await remove(client, signed)) == (409, "no_second_factor")
    assert refusal(await renew(client, signed)) == (409, "no_second_factor")


async def test_nobody_touches_anothers(
    client: httpx.AsyncClient, accounts: Accounts, person: User, app_of_sam: App
) -> None:
    stella = await sign_in(client, await a_person(accounts, "Stella", verified=True))
    assert await state(client, stella) == (False, 0, False)
    assert refusal(await remove(client, stella)) == (409, "no_second_factor")
    assert refusal(await renew(client, stella)) == (409, "no_second_factor")
    await enrol(client, stella)
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.totp is not None
    assert len(stored.totp.recovery_codes) == 10
    assert (await finish(client, await challenge(client, person), app_of_sam.code())).response.status_code == 200


async def test_an_address_that_nobody_confirmed_is_not_flooded(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock, no_more_mails: None
) -> None:
    """Whose address is in question again can switch it on and off as often as they like."""
    stella = await a_person(accounts, "Stella", verified=True)
    stranger = await sign_in(client, stella)
    app = App(secret_of((await begin(client, stranger)).json()), [])
    await User.get_pymongo_collection().update_one({"_id": stella.id}, {"$set": {"verified": False}})
    signed = await confirm(client, stranger, app.code())
    assert (await remove(client, signed)).status_code == 204
    kinds = {"$in": ["user.second_factor_on", "user.second_factor_off"]}
    assert await Event.find({"kind": kinds}).count() == 0


async def test_the_tag_of_ones_own_page_changes_with_it(client: httpx.AsyncClient, laptop: Signed) -> None:
    before = (await client.get("/users/me", headers=laptop.header)).headers["etag"]
    _, confirmed = await enrol(client, laptop)
    assert (await client.get("/users/me", headers=confirmed.header)).headers["etag"] != before


async def test_a_visitor_has_none(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/auth/mfa"),
        ("POST", "/auth/mfa/totp"),
        ("POST", "/auth/mfa/totp/confirm"),
        ("DELETE", "/auth/mfa/totp"),
        ("POST", "/auth/mfa/recovery-codes"),
        ("POST", "/auth/prove"),
    ):
        assert refusal(await client.request(method, path)) == (401, "unauthenticated"), path


async def test_a_person_of_before_this_version_has_none(client: httpx.AsyncClient, accounts: Accounts) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    fields = {"totp": "", "pending_totp": "", "code_tries": ""}
    await User.get_pymongo_collection().update_one({"_id": stella.id}, {"$unset": fields})
    signed = await sign_in(client, stella)
    assert await state(client, signed) == (False, 0, False)
    _, confirmed = await enrol(client, signed)
    assert await state(client, confirmed) == (True, 10, False)
    assert UUID(confirmed.family)


async def test_who_has_a_password_gives_it(client: httpx.AsyncClient, laptop: Signed) -> None:
    for body in ({}, {"current_password": None}):
        response = await client.post("/auth/mfa/totp", json=body, headers=laptop.header)
        assert refusal(response) == (422, "validation_failed")
        assert [error["pointer"] for error in response.json()["errors"]] == ["#/current_password"]
