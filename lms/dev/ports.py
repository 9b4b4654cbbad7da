"""Which port, and who has it if it is taken."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def next_free(host: str, port: int) -> int:
    """The first free port from `port` on."""
    return next(one for one in range(port, 65536) if is_free(host, one))


def holder_of(port: int) -> str:
    """The process that listens at `port`, such as `postgres (pid 17)`, as far as this user may see it."""
    pid = _by_proc(port) if sys.platform == "linux" else _by_lsof(port)
    if pid is None:
        return "another process"
    return f"{_name_of(pid)} (pid {pid})"


def _by_proc(port: int) -> int | None:
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in inodes:
                return int(link.parts[2])
        except OSError:
            # The process ended, or belongs to somebody else.
            continue
    return None


def _listening_inodes(port: int) -> list[str]:
    wanted, listening = f":{port:04X}", "0A"
    rows = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
    ]
    return [row[9] for row in rows if row[1].endswith(wanted) and row[3] == listening]


def _by_lsof(port: int) -> int | None:
    lsof = shutil.which("lsof")
    if lsof is None:
        return None
    found = subprocess.run(  # noqa: S603 - a fixed command with a number
        [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"], capture_output=True, text=True, check=False
    )
    return int(found.stdout.split()[0]) if found.stdout.strip() else None


def _name_of(pid: int) -> str:
    path = Path(f"/proc/{pid}/comm")
    return path.read_text().strip() if path.exists() else "a process"
