"""How often codes can be guessed: counted on the person, in MongoDB, whatever else there is or is not."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from lms.accounts.documents import User
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.outbox.documents import Event
from lms.second_factor.rules import WAITS
from lms.settings import Settings
from tests.accounts.people import PASSWORD, a_person, refusal, sign_in
from tests.conftest import HeldClock, open_client, running
from tests.recovery.mailed import text_of
from tests.second_factor.factors import App, acts, challenge, enrol, finish, mails, prove
from tests.servers import SmtpSink

WRONG = (403, "wrong_code")
LOCKED = (429, "too_many_codes")


async def guess(client: httpx.AsyncClient, person: User, app: App) -> tuple[int, str]:
    """A wrong code for a sign-in of its own."""
    return refusal((await finish(client, await challenge(client, person), app.wrong())).response)


async def lock(client: httpx.AsyncClient, person: User, app: App) -> None:
    assert [await guess(client, person, app) for _ in range(5)] == [WRONG] * 5


async def test_after_five_wrong_codes_no_sign_in_takes_any(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    await lock(client, person, app_of_sam)
    response = (await finish(client, await challenge(client, person), app_of_sam.code())).response
    assert refusal(response) == LOCKED
    assert response.headers["retry-after"] == "60"
    recovery = (
        await finish(client, await challenge(client, person), recovery_code=app_of_sam.recovery_codes[0])
    ).response
    assert refusal(recovery) == LOCKED
    held_clock.advance(seconds=59)
    token = await challenge(client, person)
    late = (await finish(client, token, app_of_sam.code())).response
    assert (refusal(late), late.headers["retry-after"]) == (LOCKED, "1")
    held_clock.advance(seconds=1)
    # Who waited is let in by the same challenge: being told to wait takes none of its tries.
    assert (await finish(client, token, app_of_sam.code())).response.status_code == 200


async def test_each_further_wrong_one_takes_longer_up_to_a_quarter_of_an_hour(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    waited: list[float] = []
    for _ in range(12):
        assert await guess(client, person, app_of_sam) == WRONG
        stored = await User.get(person.id)
        assert stored is not None
        assert stored.code_tries is not None
        waited.append((stored.code_tries.not_before - held_clock.now).total_seconds())
        held_clock.now = max(held_clock.now, stored.code_tries.not_before)
    assert waited == [0, 0, 0, 0, 60, 120, 240, 480, 900, 900, 900, 900]
    assert max(WAITS) == 15 * 60


async def test_a_right_code_begins_anew(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    for _ in range(3):
        assert [await guess(client, person, app_of_sam) for _ in range(4)] == [WRONG] * 4
        token = await challenge(client, person)
        assert (await finish(client, token, app_of_sam.code())).response.status_code == 200
        held_clock.advance(seconds=60)


async def test_recovery_codes_count_as_tries(client: httpx.AsyncClient, person: User, app_of_sam: App) -> None:
    for number in range(5):
        token = await challenge(client, person)
        assert refusal((await finish(client, token, recovery_code=f"guess {number}")).response) == WRONG
    assert await guess(client, person, app_of_sam) == LOCKED


async def test_a_code_that_is_used_again_counts_as_a_try(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    code = app_of_sam.code()
    assert (await finish(client, await challenge(client, person), code)).response.status_code == 200
    replays = [(await finish(client, await challenge(client, person), code)).response for _ in range(6)]
    assert [refusal(one) for one in replays] == [WRONG] * 5 + [LOCKED]


async def test_of_fifty_guesses_at_once_five_are_judged(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    tokens = [await challenge(client, person) for _ in range(50)]
    answers = await asyncio.gather(*(finish(client, token, app_of_sam.wrong()) for token in tokens))
    found = [refusal(one.response) for one in answers]
    assert (found.count(WRONG), found.count(LOCKED)) == (5, 45)


@pytest.fixture
async def without_redis(settings: Settings, client: httpx.AsyncClient) -> AsyncGenerator[httpx.AsyncClient]:
    """Another process of the same installation, whose Redis is away."""
    away = settings.model_copy(update={"redis_url": ""})
    async with running(create_app(away)) as app, open_client(app) as visitor:
        yield visitor


async def test_processes_count_together_though_redis_is_wiped_or_away(
    client: httpx.AsyncClient, without_redis: httpx.AsyncClient, person: User, app_of_sam: App, redis_url: str
) -> None:
    redis = Redis.from_url(redis_url)
    found: list[tuple[int, str]] = []
    for number in range(6):
        found.append(await guess(without_redis if number % 2 else client, person, app_of_sam))
        await redis.flushall()
    await redis.aclose()
    assert found == [WRONG] * 5 + [LOCKED]


async def test_only_who_knows_the_password_can_cause_it(
    client: httpx.AsyncClient, accounts: Accounts, person: User, app_of_sam: App
) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    apps, signed = await enrol(client, await sign_in(client, stella))
    # Four times, since after the fifth wrong password the next ones have to wait.
    for _ in range(4):
        assert refusal((await sign_in(client, person, "a wrong guess")).response) == (401, "bad_credentials")
        for _ in range(3):
            assert refusal((await finish(client, "a guess", app_of_sam.wrong())).response) == (401, "challenge_refused")
        # Nor by a session of theirs that was found open, nor by codes for somebody else.
        wrong = await prove(client, signed, password="a wrong guess", code=apps.wrong())
        assert refusal(wrong) == (403, "wrong_password")
    assert (await finish(client, await challenge(client, person), app_of_sam.code())).response.status_code == 200
    assert (await prove(client, signed, code=apps.code(1))).status_code == 200


async def test_who_locks_one_person_locks_nobody_else(
    client: httpx.AsyncClient, accounts: Accounts, person: User, app_of_sam: App
) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    apps, _ = await enrol(client, await sign_in(client, stella))
    await lock(client, person, app_of_sam)
    assert (await finish(client, await challenge(client, stella), apps.code(1))).response.status_code == 200


async def test_a_session_that_stands_is_not_locked_and_can_shut_the_guesser_out(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    held_clock.advance(minutes=1)
    open_challenge = await challenge(client, person)
    await lock(client, person, app_of_sam)
    body = {"current_password": PASSWORD, "new_password": "a fresh new start"}
    response = await client.post("/auth/change-password", json=body, headers=signed.header)
    assert response.status_code == 200
    held_clock.advance(minutes=1)
    assert refusal((await sign_in(client, person)).response) == (401, "bad_credentials")
    # What the guesser had begun is over too.
    guessed = await finish(client, open_challenge, app_of_sam.wrong())
    assert refusal(guessed.response) == (401, "challenge_refused")
    token = await challenge(client, person, "a fresh new start")
    assert (await finish(client, token, app_of_sam.code())).response.status_code == 200


async def test_the_owner_is_told_once_and_each_lock_is_written_down(
    client: httpx.AsyncClient,
    person: User,
    app_of_sam: App,
    settings: Settings,
    smtp_sink: SmtpSink,
    held_clock: HeldClock,
) -> None:
    await Event.find_all().delete()
    await lock(client, person, app_of_sam)
    held_clock.advance(minutes=1)
    assert await guess(client, person, app_of_sam) == WRONG
    assert await guess(client, person, app_of_sam) == LOCKED
    (mail,) = await mails(settings, smtp_sink)
    assert (mail["To"], mail["Subject"]) == (person.email, "Somebody is trying codes of your account at Open School")
    assert "somebody else knows your password" in text_of(mail)
    locks = await acts("sign_in.locked_out")
    assert [(one["actor"], one["target_id"]) for one in locks] == [("nobody", str(person.id))] * 2
    assert [one["facts"] for one in locks] == [{"by": "codes", "tries": 5}, {"by": "codes", "tries": 6}]


async def test_an_address_that_nobody_confirmed_is_not_flooded(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock, no_more_mails: None
) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    apps, _ = await enrol(client, await sign_in(client, stella))
    await User.get_pymongo_collection().update_one({"_id": stella.id}, {"$set": {"verified": False}})
    await lock(client, stella, apps)
    assert await Event.find({"kind": "user.wrong_codes"}).count() == 0


async def test_proving_again_is_limited_by_the_same_count(
    client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    signed = await finish(client, await challenge(client, person), app_of_sam.code())
    for _ in range(4):
        assert refusal(await prove(client, signed, code=app_of_sam.wrong())) == WRONG
    assert await guess(client, person, app_of_sam) == WRONG
    response = await prove(client, signed, code=app_of_sam.code(1))
    assert (refusal(response), response.headers["retry-after"]) == (LOCKED, "60")
    held_clock.advance(minutes=1)
    assert (await prove(client, signed, code=app_of_sam.code())).status_code == 200


async def test_signing_in_by_code_is_limited_by_address_as_well(settings: Settings, database: object) -> None:
    few = settings.model_copy(update={"rate_auth": "2/60", "redis_url": ""})
    async with running(create_app(few)) as app, open_client(app) as visitor:
        statuses = [(await finish(visitor, "nonsense", "123456")).response.status_code for _ in range(3)]
        assert statuses == [401, 401, 429]


async def test_the_lock_outlives_the_challenges(
    app: Litestar, client: httpx.AsyncClient, person: User, app_of_sam: App, held_clock: HeldClock
) -> None:
    for wait in (0, 1, 2, 4, 8):
        held_clock.advance(minutes=wait)
        for _ in range(1 if wait else 5):
            assert await guess(client, person, app_of_sam) == WRONG
    stored = await User.get(person.id)
    assert stored is not None
    assert stored.code_tries is not None
    assert stored.code_tries.not_before - held_clock.now == timedelta(minutes=15)
    held_clock.advance(minutes=14, seconds=59)
    assert await guess(client, person, app_of_sam) == LOCKED
    held_clock.advance(seconds=1)
    assert (await finish(client, await challenge(client, person), app_of_sam.code())).response.status_code == 200
