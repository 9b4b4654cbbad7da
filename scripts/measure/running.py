"""One case: a look at both answers, then product and floor by turns, so that a noisy machine is noisy for both."""

import statistics
from collections.abc import Callable, Mapping
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
LOOKS = 10


@dataclass(frozen=True, slots=True)
class Result:
    """What one case came to. Medians of the rounds; `ratio` is that of neighbouring rounds, `spread` is from the
    lowest to the highest of them.
    """

    case: str
    title: str
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    db_commands: float
    floor_rps: float
    floor_p99_ms: float
    floor_cpu_us: float
    floor_db_commands: float
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
    for number in range(1, rounds + 1):
        product_calls, floor_calls = case.calls(number)
        product.append(await one_round(system, case, api, product_calls, seconds))
        bare.append(await one_round(system, case, floor, floor_calls, seconds))
    return summarise(case, product, bare, db_commands, floor_commands)


async def one_round(system: System, case: Case, process: Process, calls: list[Call], seconds: float) -> Round:
    path = write_calls(system.directory / f"{process.name}.calls", calls)
    before = process.cpu_seconds()
    sample = await run_wrk(process.port, path, seconds)
    if sample.refused or sample.broken or not sample.requests:
        raise SystemExit(f"{case.name}: {process.name} refused {sample.refused} and broke {sample.broken} requests.")
    return Round(sample, (process.cpu_seconds() - before) / sample.requests * 1e6)


def summarise(case: Case, product: list[Round], bare: list[Round], commands: float, floor_commands: float) -> Result:
    def median(rounds: list[Round], of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, rounds))

    ratios = [mine.sample.rps / floor.sample.rps for mine, floor in zip(product, bare, strict=True)]
    return Result(
        case=case.name,
        title=case.title,
        rps=median(product, lambda one: one.sample.rps),
        p50_ms=median(product, lambda one: one.sample.p50_ms),
        p99_ms=median(product, lambda one: one.sample.p99_ms),
        cpu_us=median(product, lambda one: one.cpu_us),
        db_commands=commands,
        floor_rps=median(bare, lambda one: one.sample.rps),
        floor_p99_ms=median(bare, lambda one: one.sample.p99_ms),
        floor_cpu_us=median(bare, lambda one: one.cpu_us),
        floor_db_commands=floor_commands,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        aim=case.aim,
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
