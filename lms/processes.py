"""Child processes that end with us and when we say."""

import asyncio
import contextlib
import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1

# Loaded here, because a child between fork and exec must not load anything.
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:  # pragma: no cover - runs between fork and exec, where nothing is recorded
    """Run in a new child: ask Linux to end it when its parent is killed, so that no process is left behind.

    Parent means the thread that started it, so start children from one that stays. Other systems have no such thing.
    """
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def end_process(process: asyncio.subprocess.Process, seconds: float) -> None:
    """SIGTERM, and SIGKILL where that does not end it in time."""
    # It may have ended by itself a moment ago.
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        # A frozen process takes a SIGTERM only when it goes on.
        process.send_signal(signal.SIGCONT)
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
