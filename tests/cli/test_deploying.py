"""What installers use: files of secrets, and the health check of containers."""

import json
from pathlib import Path

from litestar import Litestar

from lms.embedded import free_port
from lms.settings import load_settings
from tests.cli.conftest import Command, plain
from tests.promises.system import a_system

NAMES = ("secret_key", "password_pepper", "jwt_keys")


def modes(directory: Path) -> list[int]:
    """The folder's own, then those of what is in it."""
    return [path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())]


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


async def test_keys_are_written_as_files_that_production_takes(lms: Command, tmp_path: Path) -> None:
    directory = tmp_path / "etc" / "secrets"
    written = await lms("keys", "--directory", str(directory))
    assert written.stdout.split() == [str(directory / name) for name in NAMES]
    assert modes(directory) == [0o700, 0o600, 0o600, 0o600]
    files = {f"LMS_{name.upper()}_FILE": str(directory / name) for name in NAMES}
    environ = {"LMS_ENVIRONMENT": "production", "LMS_PUBLIC_URL": "https://lms.example"}
    assert len(load_settings(files | environ).signing_seeds) == 1


async def test_secrets_that_are_there_are_never_replaced(lms: Command, tmp_path: Path) -> None:
    (tmp_path / "password_pepper").write_text("kept")
    refused = await lms("keys", "--directory", str(tmp_path))
    assert refused.exit_code == 1
    assert "is there already" in plain(refused.stderr)
    assert contents(tmp_path) == {"password_pepper": "kept"}


async def test_a_folder_that_cannot_be_made_is_told(lms: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = await lms("keys", "--directory", str(tmp_path / "file" / "secrets"))
    assert refused.exit_code == 1
    assert "Not a directory" in plain(refused.stderr)


async def test_health_tells_of_a_process_and_whether_it_is_ready(
    lms: Command, app: Litestar, tmp_path: Path, mongodb_url: str, redis_url: str
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        process = await system.start("serve")
        port = process.health.rpartition(":")[2]
        ready = await lms("health", "--port", port)
        assert (ready.exit_code, json.loads(ready.stdout)["status"]) == (0, "ok")
        # As before `lms migrate`.
        await database["meta"].delete_many({})
        waiting = await lms("health", "--port", port)
        assert (waiting.exit_code, json.loads(waiting.stdout)["status"]) == (1, "unavailable")
        assert (await lms("health", "--port", port, "--live")).exit_code == 0


async def test_health_of_nobody_is_a_failure(lms: Command) -> None:
    answer = await lms("health", "--port", str(free_port()))
    assert answer.exit_code == 1
    assert "ConnectionRefusedError" in plain(answer.stderr)


async def test_a_process_that_answers_probes_from_outside_is_seen_there(
    lms: Command, app: Litestar, tmp_path: Path, mongodb_url: str, redis_url: str
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, _):
        for command in ("worker", "scheduler"):
            process = await system.start(command, "--health-host", "0.0.0.0")  # noqa: S104
            port = process.health.rpartition(":")[2]
            for host in ("127.0.0.1", "127.0.0.2"):
                assert (await lms("health", "--host", host, "--port", port)).exit_code == 0
            assert await process.terminate() == 0
