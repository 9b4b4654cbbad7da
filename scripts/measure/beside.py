"""Whether sign-ins, which are mostly arithmetic, hold up the other routes: a course's times alone and beside them."""

import asyncio
import statistics

from scripts.measure.cases import Case
from scripts.measure.running import Result, settle
from scripts.measure.world import Process, System
from scripts.measure.wrk import Sample, run_wrk, write_calls

READERS = 8
"""Connections that read; as many as a busy school's, and not so many that they fill the machine by themselves."""


async def measure_beside(
    system: System, course: Case, login: Case, api: Process, rounds: int, seconds: float
) -> Result:
    """The `floor` is the same process without the sign-ins; `ratio` says how much of its p99 is left."""
    reading = write_calls(system.directory / "reading.calls", course.calls(0)[0])
    signing = write_calls(system.directory / "signing.calls", login.calls(0)[0])
    pairs: list[tuple[Sample, Sample]] = []
    for _ in range(rounds):
        alone = await run_wrk(api.port, reading, seconds, connections=READERS)
        sign_ins = asyncio.create_task(run_wrk(api.port, signing, seconds + 2))
        # The first ones are being worked on by then.
        await asyncio.sleep(1)
        beside = await run_wrk(api.port, reading, seconds, connections=READERS)
        await sign_ins
        await settle(api)
        pairs.append((beside, alone))
    ratios = [alone.p99_ms / beside.p99_ms for beside, alone in pairs]
    return Result(
        case="beside",
        title=f"p99 of a course at {READERS} connections while 32 sign in, beside that alone",
        rps=statistics.median(beside.rps for beside, _ in pairs),
        p50_ms=statistics.median(beside.p50_ms for beside, _ in pairs),
        p99_ms=statistics.median(beside.p99_ms for beside, _ in pairs),
        cpu_us=None,
        db_commands=None,
        floor_rps=statistics.median(alone.rps for _, alone in pairs),
        floor_p99_ms=statistics.median(alone.p99_ms for _, alone in pairs),
        floor_cpu_us=None,
        floor_db_commands=None,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        aim=None,
    )
