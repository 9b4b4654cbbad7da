"""`lms serve`: uvicorn with one process or several."""

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from lms import metrics
from lms.settings import Settings

FACTORY = "lms.app:create_app"
FAILED = 1


def serve(settings: Settings, *, host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or SIGINT; running requests get `grace_seconds` to finish. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="lms-metrics-") as directory:
        metrics.prepare_directory(Path(directory))
        server = metrics.start_metrics_server(settings) if settings.metrics_port else None
        # uvicorn raises the signal once more when all is done; by default that is not an exit but a death.
        signal.signal(signal.SIGTERM, _exit)
        try:
            return _run(server_options(settings, host=host, port=port), workers)
        except SystemExit as ended:
            return FAILED if ended.code else 0
        finally:
            if server is not None:
                server.shutdown()
                server.server_close()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    _ = number, frame
    sys.exit(0)


def _run(options: dict[str, Any], workers: int) -> int:
    if workers == 1:
        uvicorn.run(FACTORY, **options)
        return 0
    config = uvicorn.Config(FACTORY, workers=workers, **options)
    supervisor = _Processes(config, sockets=[config.bind_socket()])
    supervisor.run()
    return FAILED if any(one.exitcode == STARTUP_FAILURE for one in supervisor.processes) else 0


class _Processes(Multiprocess):
    """uvicorn starts another process where one has died; its numbers stay, but it is no longer told of."""

    def keep_subprocess_alive(self) -> None:
        before = self._pids()
        super().keep_subprocess_alive()
        for pid in before - self._pids():
            metrics.forget_process(pid)

    def _pids(self) -> set[int]:
        return {one.pid for one in self.processes if one.pid is not None}


def server_options(settings: Settings, *, host: str, port: int) -> dict[str, Any]:
    return {
        "factory": True,
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": "httptools",
        # Requests are logged by the application, with what matters and without what must not be seen.
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": settings.trusted_proxies or None,
        "timeout_graceful_shutdown": max(1, round(settings.grace_seconds)),
        "timeout_keep_alive": 15,
    }
