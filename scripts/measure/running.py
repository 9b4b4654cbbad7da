"""One case: a look at both answers, then product and floor by turns, so that a noisy machine is noisy for both."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from scripts.measure.cases import Case
from scripts.measure.seed import Database
from scripts.measure.world import Process, System
from scripts.measure.wrk import Call, Sample, run_wrk, write_calls

COUNTED = ("find", "aggregate", "count", "distinct", "getMore", "insert", "update", "delete", "findAndModify")
COUNTED_TOO = ("commitTransaction", "abortTransaction")
NAMES = (
    *("null", "list-kept", "list", "course", "enrollments", "progress", "enroll", "login"),
    *("beside", "jobs", "load"),
)
"""Of all cases; those of the first line are over HTTP, one by one."""
LOOKS = 10
SETTLING_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Result:
    """What one case came to. Medians of the rounds; `ratio` is that of neighbouring rounds, `spread` is from the
    lowest to the highest of them.
    """

    case: str
    title: str
    rps: float
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float | None
    db_commands: float | None
    floor_rps: float
    floor_p99_ms: float | None
    floor_cpu_us: float | None
    floor_db_commands: float | None
    ratio: float
    lowest: float
    highest: float
    aim: float | None
    unit: str = "requests"

    @property
    def spread(self) -> float:
        return self.highest - self.lowest


@dataclass(frozen=True, slots=True)
class Round:
    sample: Sample
    cpu_us: float


async def measure(system: System, case: Case, api: Process, floor: Process, rounds: int, seconds: float) -> Result:
    """Raises SystemExit where an answer is not what it should be."""
    product_calls, floor_calls = case.calls(0)
    db_commands = await look(system, api, product_calls)
    floor_commands = await look(system, floor, floor_calls)
    await check_same(case, (api, product_calls[LOOKS + 1]), (floor, floor_calls[(LOOKS + 1) % len(floor_calls)]))
    if floor_commands != case.floor_commands:
        raise SystemExit(f"{case.name}: the floor takes {floor_commands} commands, not {case.floor_commands}.")
    product: list[Round] = []
    bare: list[Round] = []
    seconds = max(seconds, case.least_seconds)
    for number in range(1, rounds + 1):
        product_calls, floor_calls = case.calls(number)
        product.append(await one_round(system, case, api, product_calls, seconds))
        bare.append(await one_round(system, case, floor, floor_calls, seconds))
    return summarise(case, product, bare, db_commands, floor_commands)


async def one_round(system: System, case: Case, process: Process, calls: list[Call], seconds: float) -> Round:
    path = write_calls(system.directory / f"{process.name}.calls", calls)
    before = process.cpu_seconds()
    sample = await run_wrk(process.port, path, seconds)
    spent = process.cpu_seconds() - before
    await settle(process)
    if sample.refused or sample.broken or not sample.requests:
        raise SystemExit(f"{case.name}: {process.name} refused {sample.refused} and broke {sample.broken} requests.")
    return Round(sample, spent / sample.requests * 1e6)


async def settle(process: Process) -> None:
    """Until the process has done what those left behind who were cut off at the end of the round."""
    before = process.cpu_seconds()
    while True:
        await asyncio.sleep(SETTLING_SECONDS)
        now = process.cpu_seconds()
        if now - before < SETTLING_SECONDS / 10:
            return
        before = now


def summarise(case: Case, product: list[Round], bare: list[Round], commands: float, floor_commands: float) -> Result:
    ratios = [mine.sample.rps / floor.sample.rps for mine, floor in zip(product, bare, strict=True)]
    return Result(
        case=case.name,
        title=case.title,
        rps=statistics.median(one.sample.rps for one in product),
        p50_ms=statistics.median(one.sample.p50_ms for one in product),
        p99_ms=statistics.median(one.sample.p99_ms for one in product),
        cpu_us=statistics.median(one.cpu_us for one in product),
        db_commands=commands,
        floor_rps=statistics.median(one.sample.rps for one in bare),
        floor_p99_ms=statistics.median(one.sample.p99_ms for one in bare),
        floor_cpu_us=statistics.median(one.cpu_us for one in bare),
        floor_db_commands=floor_commands,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        aim=case.aim,
    )


@dataclass(frozen=True, slots=True)
class Race:
    """What a case of whole batches is called, and what is promised."""

    case: str
    title: str
    aim: float
    floor_commands: float
    unit: str


@dataclass(frozen=True, slots=True)
class Run:
    """One batch: how many were done, in how many seconds, with how much CPU and how many commands for each."""

    count: int
    seconds: float
    cpu_seconds: float
    commands: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.count * 1e6


Runner = Callable[[int], Awaitable[Run]]


async def race(facts: Race, rounds: int, product: Runner, floor: Runner) -> Result:
    """Product and floor by turns, in batches instead of requests; the first of each only warms up."""
    await product(0)
    await floor(0)
    pairs = [(await product(number), await floor(number)) for number in range(1, rounds + 1)]
    mine, bare = ([*column] for column in zip(*pairs, strict=True))
    ratios = [one.rate / other.rate for one, other in pairs]
    return Result(
        case=facts.case,
        title=facts.title,
        rps=statistics.median(one.rate for one in mine),
        p50_ms=None,
        p99_ms=None,
        cpu_us=statistics.median(one.cpu_us for one in mine),
        db_commands=round(statistics.median(one.commands for one in mine), 2),
        floor_rps=statistics.median(one.rate for one in bare),
        floor_p99_ms=None,
        floor_cpu_us=statistics.median(one.cpu_us for one in bare),
        floor_db_commands=round(statistics.median(one.commands for one in bare), 2),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        aim=facts.aim,
        unit=facts.unit,
    )


async def look(system: System, process: Process, calls: list[Call]) -> float:
    """Ask one by one, which also warms up, and count the database commands that each answer takes."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
        await ask(client, calls[0])
        before = await count_commands(system.database)
        for call in (calls[(1 + position) % len(calls)] for position in range(LOOKS)):
            await ask(client, call)
        return round((await count_commands(system.database) - before) / LOOKS, 1)


async def count_commands(database: Database) -> int:
    """Commands that read or write documents, as MongoDB itself counted them."""
    counted: Mapping[str, Any] = (await database.command("serverStatus"))["metrics"]["commands"]
    return sum(int(counted[name]["total"]) for name in (*COUNTED, *COUNTED_TOO))


async def check_same(case: Case, mine: tuple[Process, Call], bare: tuple[Process, Call]) -> None:
    """A floor that answers less is no floor."""
    answers = []
    for process, call in (mine, bare):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
            answers.append((await ask(client, call)).json())
    shown = [msgspec.json.format(msgspec.json.encode(_steady(one, case.changing), order="sorted")) for one in answers]
    if shown[0] != shown[1]:
        raise SystemExit(f"{case.name}: product and floor differ.\n{shown[0].decode()}\n{shown[1].decode()}")


def _steady(answer: Any, changing: frozenset[str]) -> Any:
    """The answer without what differs each time; of progress, which is a map, one entry."""
    if not isinstance(answer, dict):
        return answer
    kept = {name: value for name, value in answer.items() if name not in changing}
    if changing and isinstance(kept.get("progress"), dict) and "state" not in kept["progress"]:
        kept["progress"] = next(iter(kept["progress"].values()))
    return kept


async def ask(client: httpx.AsyncClient, call: Call) -> httpx.Response:
    head, _, body = call.raw().partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    answer = await client.request(call.method, call.path, content=body, headers=headers)
    if answer.is_error:
        raise SystemExit(f"{call.method} {call.path}: {answer.status_code} {answer.text}")
    return answer
