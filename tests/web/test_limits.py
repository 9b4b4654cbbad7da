import asyncio
import re
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar, get, post
from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from lms import clock, redis_client
from lms.origin import network_of
from lms.redis_client import Accelerator, RedisUnavailable
from lms.settings import Settings
from lms.web import limits
from lms.web.limits import LeasedBuckets, OwnBuckets, Policy, RateLimits, SharedBuckets
from lms.web.problems import render_problem
from tests.web.own_servers import running_valkey

IVY = UUID(int=1)
SAM = UUID(int=2)
STATE = re.compile(r'"(?P<name>[a-z]+)";r=(?P<left>\d+);t=(?P<seconds>\d+)')


class SignedIn(ASGIMiddleware):
    """Who calls is said by a header here."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        name = dict(scope["headers"]).get(b"x-user")
        scope["user"] = SimpleNamespace(id=UUID(name.decode())) if name else None
        await next_app(scope, receive, send)


@get("/api/v1/courses")
async def list_courses() -> dict[str, str]:
    return {}


@post("/api/v1/enrollments")
async def enroll() -> dict[str, str]:
    return {}


@post("/api/v1/auth/login")
async def login() -> dict[str, str]:
    return {}


@get("/health", opt={"rate_limit": "none"})
async def health() -> dict[str, str]:
    return {}


class Held:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def held() -> Generator[Held]:
    held = Held()
    clock.set_source(held)
    yield held
    clock.set_source(None)


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as (url, _):
        yield url


@pytest.fixture
async def accelerators(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Callable[[], Accelerator]]:
    """Each one stands for a process: nothing but the server is shared. Calls may be slow on a busy machine."""
    monkeypatch.setattr(redis_client, "CALL_SECONDS", 10)
    opened: list[Accelerator] = []

    def open_one() -> Accelerator:
        opened.append(Accelerator(valkey_url, "test"))
        return opened[-1]

    yield open_one
    await opened[0].call(lambda redis: redis.flushall())
    for one in opened:
        await one.close()


def client_of(accelerator: Accelerator, address: str = "192.0.2.1", **rates: str) -> AsyncClient:
    app = Litestar(
        [list_courses, enroll, login, health],
        middleware=[SignedIn(), RateLimits(Settings(**rates), accelerator)],  # pyright: ignore[reportArgumentType]
        exception_handlers={Exception: render_problem},
        cors_config=CORSConfig(allow_origins=["https://app.example.org"]),
        openapi_config=None,
        logging_config=None,
    )
    return AsyncClient(transport=ASGITransport(cast("Any", app), client=(address, 1)), base_url="http://lms")


def as_user(user: UUID) -> dict[str, str]:
    return {"X-User": str(user)}


async def many(count: int, ask: Callable[[], Any]) -> list[Any]:
    return await asyncio.gather(*(ask() for _ in range(count)))


def passed(answers: list[Response]) -> int:
    return sum(one.is_success for one in answers)


async def test_parallel_writes_of_one_person_through_two_processes_pass_exactly_as_often_as_allowed(
    accelerators: Callable[[], Accelerator],
) -> None:
    first, second = (client_of(accelerators(), rate_writes="30/3600") for _ in range(2))
    answers = await asyncio.gather(
        many(40, lambda: first.post("/api/v1/enrollments", headers=as_user(IVY))),
        many(40, lambda: second.post("/api/v1/enrollments", headers=as_user(IVY))),
    )
    assert passed(answers[0] + answers[1]) == 30
    assert (await second.post("/api/v1/enrollments", headers=as_user(SAM))).status_code == 201


async def test_sign_ins_are_counted_by_address_whoever_is_signed_in(accelerators: Callable[[], Accelerator]) -> None:
    accelerator = accelerators()
    here = client_of(accelerator, "192.0.2.7", rate_auth="3/3600")
    answers = [await here.post("/api/v1/auth/login", headers=as_user(UUID(int=n))) for n in range(5)]
    assert [one.status_code for one in answers] == [201, 201, 201, 429, 429]
    assert (await here.post("/api/v1/enrollments")).status_code == 201
    there = client_of(accelerator, "192.0.2.8", rate_auth="3/3600")
    assert (await there.post("/api/v1/auth/login")).status_code == 201


async def test_a_refusal_is_a_problem_with_honest_fields_and_cors(accelerators: Callable[[], Accelerator]) -> None:
    client = client_of(accelerators(), rate_writes="2/60")
    for _ in range(2):
        await client.post("/api/v1/enrollments")
    refused = await client.post("/api/v1/enrollments", headers={"Origin": "https://app.example.org"})
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["access-control-allow-origin"] == "https://app.example.org"
    assert refused.headers["ratelimit-policy"] == '"writes";q=2;w=60'
    assert refused.headers["ratelimit"] == '"writes";r=0;t=60'
    assert refused.headers["retry-after"] == "30"


async def test_every_answer_tells_what_is_left(accelerators: Callable[[], Accelerator]) -> None:
    client = client_of(accelerators(), rate_writes="10/60", rate_reads="40/60")
    for left in (9, 8, 7):
        answer = await client.post("/api/v1/enrollments")
        state = STATE.fullmatch(answer.headers["ratelimit"])
        assert state is not None
        assert (state["name"], int(state["left"])) == ("writes", left)
    for left in (39, 38, 37):
        answer = await client.get("/api/v1/courses")
        assert answer.headers["ratelimit"].startswith(f'"reads";r={left};t=')


async def test_after_the_time_that_a_refusal_names_the_shared_bucket_grants_again(
    accelerators: Callable[[], Accelerator],
) -> None:
    shared, policy = SharedBuckets(accelerators()), Policy("writes", 4, 2)
    granted = [(await shared.take(policy, "ivy")).granted for _ in range(5)]
    assert granted == [1, 1, 1, 1, 0]
    waited = (await shared.take(policy, "ivy")).next_in / 1e6
    assert 0 < waited <= 0.5
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not (await shared.take(policy, "ivy")).granted:
        assert loop.time() - start < waited + 0.2
        await asyncio.sleep(0.01)
    assert loop.time() - start > waited - 0.05


async def test_most_reads_cost_no_call(accelerators: Callable[[], Accelerator]) -> None:
    accelerator = accelerators()
    client = client_of(accelerator, rate_reads="400/3600")
    before = await count_calls(accelerator)
    assert passed(await many(100, lambda: client.get("/api/v1/courses"))) == 100
    assert await count_calls(accelerator) - before <= 5 + 2


async def count_calls(accelerator: Accelerator) -> int:
    stats: dict[str, Any] = await accelerator.call(lambda redis: redis.info("commandstats"))
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))


async def test_leases_never_let_more_than_the_quota_through(accelerators: Callable[[], Accelerator]) -> None:
    clients = [client_of(accelerators(), rate_reads="100/36000") for _ in range(3)]
    answers = await asyncio.gather(*(many(80, lambda one=one: one.get("/api/v1/courses")) for one in clients))
    total = passed([one for group in answers for one in group])
    hoarded = 2 * Policy("reads", 100, 36000).block
    assert 100 - hoarded <= total <= 100


async def test_a_refused_reader_is_refused_without_asking_again(accelerators: Callable[[], Accelerator]) -> None:
    accelerator = accelerators()
    client = client_of(accelerator, rate_reads="4/3600")
    await many(4, lambda: client.get("/api/v1/courses"))
    refused = await client.get("/api/v1/courses")
    before = await count_calls(accelerator)
    again = await many(20, lambda: client.get("/api/v1/courses"))
    assert {one.status_code for one in [refused, *again]} == {429}
    assert refused.headers["retry-after"] == "900"
    assert await count_calls(accelerator) == before


async def test_what_a_lease_left_unspent_goes_back_and_cannot_be_spent_late(
    accelerators: Callable[[], Accelerator], held: Held
) -> None:
    shared, policy = SharedBuckets(accelerators()), Policy("reads", 200, 36000)
    leased = LeasedBuckets(shared)
    first = await leased.take(policy, "ivy")
    assert first.left == 199
    held.pass_by(6)
    assert (await leased.take(policy, "ivy")).left == 198
    assert (await shared.take(policy, "ivy", wanted=1)).left == 200 - policy.block - 1 - 1


async def test_tokens_of_a_call_that_was_given_up_are_not_returned_twice(
    tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "REST_SECONDS", 0)
    policy = Policy("reads", 200, 36000)
    with running_valkey(tmp_path) as (url, process):
        shared = SharedBuckets(Accelerator(url))
        leased = LeasedBuckets(shared)
        await leased.take(policy, "ivy")
        held.pass_by(6)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RedisUnavailable):
            await leased.take(policy, "ivy")
        process.send_signal(signal.SIGCONT)
        monkeypatch.setattr(redis_client, "CALL_SECONDS", 10)
        await leased.take(policy, "ivy")
        left = (await shared.take(policy, "ivy")).left
        await shared._accelerator.close()  # pyright: ignore[reportPrivateUsage]
    assert left < 200 - 2 * policy.block


async def test_a_smaller_quota_counts_at_once(accelerators: Callable[[], Accelerator]) -> None:
    shared = SharedBuckets(accelerators())
    for _ in range(5):
        await shared.take(Policy("writes", 5, 36_000), "ivy")
    assert (await shared.take(Policy("writes", 2, 60), "ivy")).next_in <= 30_000_000


async def test_without_redis_each_process_counts_for_itself(held: Held) -> None:
    away = Accelerator("redis://127.0.0.1:1/0")
    client = client_of(away, rate_writes="3/60", rate_reads="2/60")
    writes = [await client.post("/api/v1/enrollments") for _ in range(4)]
    assert [one.status_code for one in writes] == [201, 201, 201, 429]
    assert writes[3].headers["retry-after"] == "20"
    reads = [await client.get("/api/v1/courses") for _ in range(3)]
    assert [one.status_code for one in reads] == [200, 200, 429]
    held.pass_by(19.9)
    assert (await client.post("/api/v1/enrollments")).headers["retry-after"] == "1"
    held.pass_by(0.1)
    assert (await client.post("/api/v1/enrollments")).status_code == 201
    await away.close()


async def test_a_server_that_dies_costs_no_request_an_error(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as (url, process):
        accelerator = Accelerator(url)
        client = client_of(accelerator, rate_writes="5/3600")
        assert (await client.post("/api/v1/enrollments")).status_code == 201
        process.kill()
        process.wait()
        answers = [await client.post("/api/v1/enrollments") for _ in range(7)]
        await accelerator.close()
    assert [one.status_code for one in answers] == [201] * 5 + [429] * 2


async def test_a_clock_that_is_set_back_locks_nobody_out_for_longer_than_the_window(held: Held) -> None:
    buckets, policy = OwnBuckets(), Policy("writes", 2, 60)
    buckets.take(policy, "ivy")
    held.pass_by(-86_400)
    assert buckets.take(policy, "ivy").next_in <= 60_000_000
    held.pass_by(30)
    assert buckets.take(policy, "ivy").granted == 1


async def test_the_memory_of_callers_is_bounded(
    monkeypatch: pytest.MonkeyPatch, accelerators: Callable[[], Accelerator]
) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 3)
    own, leased, policy = OwnBuckets(), LeasedBuckets(SharedBuckets(accelerators())), Policy("reads", 5, 60)
    for name in ("ivy", "sam", "ivy", "oscar", "ada", "ivy"):
        own.take(policy, name)
        await leased.take(policy, name)
    assert list(own._full_at) == ["oscar", "ada", "ivy"]  # pyright: ignore[reportPrivateUsage]
    assert list(leased._leases) == ["oscar", "ada", "ivy"]  # pyright: ignore[reportPrivateUsage]


async def test_health_and_preflights_are_not_limited(held: Held) -> None:
    client = client_of(Accelerator(""), rate_reads="1/60", rate_writes="1/60")
    answers = [await client.get("/health") for _ in range(3)] + [await client.options("/health") for _ in range(3)]
    assert all(one.is_success and "ratelimit" not in one.headers for one in answers)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2", "2001:db8::/64"),
        ("/run/socket", "unknown"),
    ],
)
def test_addresses_that_one_customer_owns_are_counted_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_callers_over_a_socket_without_address_share_one_count(held: Held) -> None:
    scope: Any = {"type": "http", "user": None, "client": None}
    assert limits.caller_of(scope, Policy("writes", 1, 1)) == "unknown"


def test_a_clock_that_is_set_back_refuses_nothing(held: Held) -> None:
    buckets, policy = OwnBuckets(), Policy("auth", 2, 60)
    held.pass_by(86_400)
    assert buckets.take(policy, "sam").granted
    held.pass_by(-86_400)
    assert [buckets.take(policy, "sam").granted for _ in range(3)] == [1, 1, 0]


async def test_a_refusal_does_not_last_until_the_clock_is_back_where_it_was(
    accelerators: Callable[[], Accelerator], held: Held
) -> None:
    accelerator, policy = accelerators(), Policy("writes", 2, 3600)
    buckets = LeasedBuckets(SharedBuckets(accelerator))
    held.pass_by(86_400)
    assert [(await buckets.take(policy, "sam")).granted for _ in range(3)] == [1, 1, 0]
    held.pass_by(-86_400)
    await accelerator.call(lambda redis: redis.flushall())
    assert (await buckets.take(policy, "sam")).granted
