"""Where the time of a case goes: a flame graph of the API process while it is under load."""

import asyncio
import sys
from pathlib import Path

import rich_click as click

from scripts.measure.cases import Case
from scripts.measure.world import ROOT, Process, System
from scripts.measure.wrk import run_wrk, write_calls

FOLDER = ROOT / ".lms" / "profiles"
SECONDS = 6
SAMPLES_A_SECOND = 250


async def profile(system: System, case: Case, api: Process) -> Path:
    """Raises SystemExit where the system does not let py-spy look into another process."""
    path = FOLDER / f"{case.name}.svg"
    FOLDER.mkdir(parents=True, exist_ok=True)
    calls = write_calls(system.directory / "profile.calls", case.calls(0)[0])
    options = ("--duration", str(SECONDS), "--rate", str(SAMPLES_A_SECOND), "--output", str(path), "--threads")
    spy = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("py-spy")),
        *("record", "--pid", str(api.child.pid), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    sample, (output, _) = await asyncio.gather(run_wrk(api.port, calls, SECONDS + 1), spy.communicate())
    if spy.returncode:
        raise SystemExit(f"py-spy could not look into the API process: {output.decode(errors='replace')}")
    click.echo(f"{case.name}: {sample.rps:.0f}/s while it was watched; {path.relative_to(ROOT)} opens in a browser.")
    return path
