"""Rate limits: how much one caller may ask for, told in every answer (draft-ietf-httpapi-ratelimit-headers).

The algorithm is GCRA: a caller has a bucket of `quota` tokens that fills up again within `seconds`, and all that is
stored of it is the moment at which it will be full. What could be guessed at is counted in Redis one by one. Reads and
writes are leased to each process in blocks, so that most of them cost no call. Without Redis each process counts for
itself.
"""

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Generic, TypeVar, cast

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from lms.clock import utc_now
from lms.errors import RateLimited
from lms.origin import network_of
from lms.redis_client import Accelerator, RedisUnavailable
from lms.settings import Settings
from lms.together import Together

T = TypeVar("T")

AUTH_PATH = "/api/v1/auth/"
READING = frozenset({"GET", "HEAD"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
AT_THE_DOOR = frozenset({"auth", "sign_in"})
REMEMBERED = 10_000
SECOND = 1_000_000
MILLISECOND = 1_000
BLOCKS_IN_A_QUOTA = 20
LONGEST_LEASE = 5 * SECOND

# Numbers are microseconds, which a Lua number holds exactly; `%.0f` because its own printing would round them. A block
# is at most an eighth of what is left, so that the last tokens are not hoarded by the processes that came first.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, quota = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, returned = tonumber(ARGV[3]), tonumber(ARGV[4])
local full = tonumber(redis.call('GET', KEYS[1]) or '0') - returned * interval
full = math.min(math.max(full, now), now + interval * quota)
local free = math.floor((now + interval * quota - full) / interval)
local granted = math.min(wanted, math.ceil(free / 8))
full = full + granted * interval
if full > now then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
return {granted, free - granted, full - now, math.max(0, full - now - interval * (quota - 1))}
"""
TAKE_SHA = hashlib.sha1(TAKE.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Policy:
    """`quota` requests in `seconds`, for callers of one class of routes."""

    name: str
    quota: int
    seconds: int

    @classmethod
    def of(cls, name: str, rate: str) -> "Policy":
        quota, seconds = rate.split("/")
        return cls(name, int(quota), int(seconds))

    @property
    def interval(self) -> int:
        """Microseconds in which one token comes back, rounded so that the quota is never exceeded."""
        return -(-self.seconds * SECOND // self.quota)

    @property
    def block(self) -> int:
        return max(1, self.quota // BLOCKS_IN_A_QUOTA)

    @property
    def field(self) -> str:
        return f'"{self.name}";q={self.quota};w={self.seconds}'


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a caller was given and what is left. `full_in` and `next_in` are microseconds."""

    granted: int
    left: int
    full_in: int
    next_in: int


class Recent(OrderedDict[str, T], Generic[T]):
    """A mapping that forgets what was used longest ago."""

    def keep(self, key: str, value: T) -> T:
        self[key] = value
        self.move_to_end(key)
        if len(self) > REMEMBERED:
            self.popitem(last=False)
        return value


class OwnBuckets:
    """Buckets in this process's memory."""

    def __init__(self) -> None:
        self._full_at: Recent[int] = Recent()

    def take(self, policy: Policy, key: str) -> Bucket:
        now, interval, room = microseconds(), policy.interval, policy.interval * policy.quota
        full = max(self._full_at.get(key, 0), now)
        if full > now + room:
            # No bucket is emptier than empty: the clock was set back since.
            full = now
        free = (now + room - full) // interval
        granted = min(1, free)
        full = self._full_at.keep(key, full + granted * interval)
        return Bucket(granted, free - granted, full - now, max(0, full - now - room + interval))


class SharedBuckets:
    """Buckets in Redis, by its clock: a script takes tokens, however many processes ask at once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        # Calls of one moment go out together; each is told apart by its number, since none may stand for two.
        self._calls: Together[tuple[int, Policy, str, int, int], Bucket] = Together(self._run)
        self._number = itertools.count()

    async def take(self, policy: Policy, key: str, wanted: int = 1, returned: int = 0) -> Bucket:
        """At most `wanted` tokens, after `returned` ones were put back. Raises `RedisUnavailable`."""
        bucket = await self._calls.get((next(self._number), policy, key, wanted, returned))
        if bucket is None:
            raise RedisUnavailable
        return bucket

    async def _run(self, calls: list[tuple[int, Policy, str, int, int]]) -> dict[Any, Bucket]:
        """Nothing where Redis did not answer: what it was asked is not asked again, since it may have been done."""

        async def run(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as together:
                for _, policy, key, wanted, returned in calls:
                    name = self._accelerator.key("rate", key)
                    together.evalsha(TAKE_SHA, 1, name, policy.interval, policy.quota, wanted, returned)
                return await together.execute()

        async def run_anew(redis: Redis) -> list[Any]:
            try:
                return await run(redis)
            except NoScriptError:
                # A server that is new here or was restarted; nothing was taken from it.
                await redis.script_load(TAKE)
                return await run(redis)

        try:
            answers = await self._accelerator.call(run_anew)
        except RedisUnavailable:
            return {}
        return {call: Bucket(*map(int, answer)) for call, answer in zip(calls, answers, strict=True)}


@dataclass(slots=True)
class Lease:
    """Tokens that this process may spend until `ends`. Without tokens it is a refusal that lasts until then."""

    tokens: int = 0
    ends: int = 0
    left_elsewhere: int = 0
    full_at: int = 0
    filling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_over(self, policy: Policy) -> bool:
        """Also where it would last longer than any does: the clock was set back since."""
        left = self.ends - microseconds()
        return left <= 0 or left > max(LONGEST_LEASE, policy.interval * policy.quota)

    def spend(self, now: int) -> Bucket:
        full_in = max(0, self.full_at - now)
        if self.tokens == 0:
            return Bucket(0, 0, full_in, self.ends - now)
        self.tokens -= 1
        if self.tokens == 0:
            self.ends = 0
        return Bucket(1, self.tokens + self.left_elsewhere, full_in, 0)


class LeasedBuckets:
    """Blocks of tokens taken from the shared buckets; what a lease leaves unspent goes back with the next call."""

    def __init__(self, shared: SharedBuckets) -> None:
        self._shared = shared
        self._leases: Recent[Lease] = Recent()

    async def take(self, policy: Policy, key: str) -> Bucket:
        """Raises `RedisUnavailable` where a new block is needed and cannot be had."""
        lease = self._leases.keep(key, self._leases.get(key) or Lease())
        if lease.is_over(policy):
            async with lease.filling:
                if lease.is_over(policy):
                    await self._fill(lease, policy, key)
        return lease.spend(microseconds())

    async def _fill(self, lease: Lease, policy: Policy, key: str) -> None:
        # Forgotten first: a call that is given up may have returned them already, and nothing is returned twice.
        unspent, lease.tokens = lease.tokens, 0
        bucket = await self._shared.take(policy, key, policy.block, unspent)
        now = microseconds()
        lifetime = min(max(policy.block * policy.interval, SECOND), LONGEST_LEASE)
        lease.ends = now + (lifetime if bucket.granted else max(bucket.next_in, MILLISECOND))
        lease.tokens, lease.left_elsewhere, lease.full_at = bucket.granted, bucket.left, now + bucket.full_in


class RateLimits(ASGIMiddleware):
    """Runs after authentication. A route may choose its class with `opt={"rate_limit": "reads"}`, or "none"."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, settings: Settings, accelerator: Accelerator) -> None:
        names = ("auth", "sign_in", "writes", "reads", "exports")
        self._policies = {name: Policy.of(name, getattr(settings, f"rate_{name}")) for name in names}
        self._shared = SharedBuckets(accelerator)
        self._leased = LeasedBuckets(self._shared)
        self._own = OwnBuckets()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        policy = self._policies.get(class_of(cast("HTTPScope", scope)))
        if policy is None:
            await next_app(scope, receive, send)
            return
        bucket = await self._take(policy, f"{policy.name}:{caller_of(scope, policy)}")
        told = {"RateLimit-Policy": policy.field, "RateLimit": state_field(policy, bucket)}
        if not bucket.granted:
            raise RateLimited(headers={**told, "Retry-After": str(max(1, ceil(bucket.next_in / SECOND)))})
        await next_app(scope, receive, _telling(send, told))

    async def _take(self, policy: Policy, key: str) -> Bucket:
        try:
            if policy.name in AT_THE_DOOR:
                return await self._shared.take(policy, key)
            return await self._leased.take(policy, key)
        except RedisUnavailable:
            return self._own.take(policy, key)


def class_of(scope: HTTPScope) -> str:
    """The class of limits that a request belongs to; `none` is not limited.

    Reads below `auth` (my sessions, my API keys) prove nothing that could be guessed, so they are plain reads.
    """
    chosen = scope["route_handler"].opt.get("rate_limit")
    if chosen is not None:
        return str(chosen)
    method = scope["method"]
    if method in WRITING:
        return "auth" if scope["path"].startswith(AUTH_PATH) else "writes"
    return "reads" if method in READING else "none"


def caller_of(scope: Scope, policy: Policy) -> str:
    """Who is counted: the address at the door, behind it the signed-in person."""
    user = None if policy.name in AT_THE_DOOR else scope.get("user")
    if user is not None:
        return f"user:{user.id}"
    client = scope.get("client")
    return network_of(client[0]) if client else "unknown"


def state_field(policy: Policy, bucket: Bucket) -> str:
    return f'"{policy.name}";r={bucket.left};t={ceil(bucket.full_in / SECOND)}'


def microseconds() -> int:
    return int(utc_now().timestamp() * 1000) * MILLISECOND


def _telling(send: Send, told: dict[str, str]) -> Send:
    fields = [(name.lower().encode(), value.encode()) for name, value in told.items()]

    async def send_with_limits(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *fields]
        await send(message)

    return send_with_limits
