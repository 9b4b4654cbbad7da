"""Whether this process runs, and whether it can serve. Both answer within a second, whatever is frozen."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Literal, cast

from litestar import Controller, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

from lms.redis_client import Accelerator, RedisUnavailable
from lms.schemas import Output
from lms.transactions import database

Database = AsyncDatabase[dict[str, Any]]

CHECK_SECONDS = 0.4
NOT_READY = 503
NO_STORE = {"Cache-Control": "no-store"}


PartStatus = Literal["ok", "down", "off", "unknown", "not_migrated"]


class PartRead(Output):
    status: PartStatus


class Liveness(Output):
    status: Literal["ok"] = "ok"


class Parts(Output):
    mongodb: PartRead
    redis: PartRead
    schema: PartRead


class Readiness(Output):
    """`degraded` is ready, without Redis. Names no server: anybody may read it."""

    status: Literal["ok", "degraded", "unavailable", "draining"]
    parts: Parts


class Draining:
    """Set once, when this process begins to stop: it finishes what it has and wants nothing new."""

    def __init__(self) -> None:
        self.active = False

    def begin(self) -> None:
        self.active = True


def begin_on_sigterm(draining: Draining) -> None:
    """Tell load balancers before the server, whose own handler runs next, closes its doors."""
    if threading.current_thread() is not threading.main_thread():
        return
    then = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        draining.begin()
        if callable(then):
            then(number, frame)
        else:
            signal.signal(number, then)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, handle)


class Health:
    """The parts that this process needs. `is_migrated` says whether a database is as this version wants it."""

    def __init__(
        self,
        accelerator: Accelerator,
        is_migrated: Callable[[Database], Awaitable[bool]],
        draining: Draining,
        open_database: Callable[[], Database] = database,
    ) -> None:
        self._accelerator = accelerator
        self._is_migrated = is_migrated
        self._draining = draining
        self._database = open_database

    async def check(self) -> Readiness:
        mongodb, schema, redis = await asyncio.gather(self._mongodb(), self._schema(), self._redis())
        parts = Parts(mongodb=mongodb, redis=redis, schema=schema)
        if self._draining.active:
            return Readiness(status="draining", parts=parts)
        if mongodb.status != "ok" or schema.status != "ok":
            return Readiness(status="unavailable", parts=parts)
        return Readiness(status="degraded" if redis.status == "down" else "ok", parts=parts)

    async def _mongodb(self) -> PartRead:
        answer = await _within(self._database().command("ping"))
        return PartRead(status="down" if answer is None else "ok")

    async def _schema(self) -> PartRead:
        migrated = await _within(self._is_migrated(self._database()))
        if migrated is None:
            return PartRead(status="unknown")
        return PartRead(status="ok" if migrated else "not_migrated")

    async def _redis(self) -> PartRead:
        if self._accelerator.redis is None:
            return PartRead(status="off")
        try:
            await self._accelerator.call(_ping)
        except RedisUnavailable:
            return PartRead(status="down")
        return PartRead(status="ok")


async def _ping(redis: Redis) -> None:
    await cast("Any", redis.ping())


async def _within(asking: Awaitable[Any]) -> Any:
    """The answer, or None. The driver's own time-outs are longer than what a probe waits for."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await asking
    except (PyMongoError, TimeoutError):
        return None


class HealthController(Controller):
    tags = ["operations"]
    opt = {"rate_limit": "none", "quiet": True, "any_query": True}

    @get("/live")
    async def read_liveness(self) -> Response[Liveness]:
        """Whether the process runs. Says nothing of what it depends on."""
        return Response(Liveness(), headers=NO_STORE)

    @get("/ready", responses={NOT_READY: ResponseSpec(Readiness, description="Not ready.", generate_examples=False)})
    async def read_readiness(self, health: NamedDependency[Health]) -> Response[Readiness]:
        """Whether the process can serve: 503 without the database, before `lms migrate`, and while it stops.

        Without Redis it is 200 and `degraded`: everything still answers.
        """
        found = await health.check()
        if found.status in {"ok", "degraded"}:
            return Response(found, headers=NO_STORE)
        return Response(found, status_code=NOT_READY, headers=NO_STORE | {"Retry-After": "2"})


def health_router(health: Health) -> Router:
    async def provide_health() -> Health:
        return health

    return Router("/health", route_handlers=[HealthController], dependencies={"health": Provide(provide_health)})
