"""`lms serve`: uvicorn with one process or several."""

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from lms import metrics
from lms.settings import Settings

FACTORY = "lms.app:create_app"


def serve(settings: Settings, *, host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or SIGINT; running requests get `grace_seconds` to finish. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="lms-metrics-") as directory:
        metrics.prepare_directory(Path(directory))
        server = metrics.start_metrics_server(settings) if settings.metrics_port else None
        try:
            _run(settings, host=host, port=port, workers=workers)
        finally:
            if server is not None:
                server.shutdown()
                server.server_close()
    return 0


def _run(settings: Settings, *, host: str, port: int, workers: int) -> None:
    # After a clean stop uvicorn raises the signal once more, which would end this process as if it had been killed.
    signal.signal(signal.SIGTERM, _leave)
    uvicorn.run(
        FACTORY,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        # Requests are logged by the application, with what matters and without what must not be seen.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        timeout_keep_alive=15,
    )


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
