"""wrk, the load generator: 32 connections from one thread of C, with requests that we wrote out before."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("requests.lua")
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. Times in milliseconds; `refused` had a status of 400 or more, `broken` had no answer."""

    rps: float
    p50_ms: float
    p99_ms: float
    requests: int
    refused: int
    broken: int


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its path, who sends it (an address behind the proxy, a bearer token), and its JSON body."""

    path: str
    method: str = "GET"
    address: str = ""
    token: str = ""
    body: object = None

    def raw(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: lms.example", "Accept: application/json"]
        if self.address:
            lines.append(f"X-Forwarded-For: {self.address}")
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        body = b"" if self.body is None else msgspec.json.encode(self.body)
        if body or self.method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join((*lines, "", "")).encode() + body


def find_wrk() -> str:
    """Raises SystemExit where there is none."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("wrk is missing. Debian and Ubuntu: sudo apt-get install wrk; macOS: brew install wrk")
    return found


async def run_wrk(port: int, calls: Path, seconds: float, *, connections: int = CONNECTIONS) -> Sample:
    """Send what the file `calls` holds for that long."""
    command = (find_wrk(), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(SCRIPT))
    process = await asyncio.create_subprocess_exec(
        *command, f"http://127.0.0.1:{port}", "--", str(calls), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    line = next((one for one in output.decode().splitlines() if one.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk measured nothing: {output.decode()}")
    told = json.loads(line.removeprefix("RESULT "))
    return Sample(
        rps=told["requests"] / (told["microseconds"] / 1e6),
        p50_ms=told["p50"] / 1000,
        p99_ms=told["p99"] / 1000,
        requests=told["requests"],
        refused=told["refused"],
        broken=told["broken"],
    )


def write_calls(path: Path, calls: list[Call]) -> Path:
    path.write_bytes(b"\0".join(call.raw() for call in calls))
    return path
