import json
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from tests.cli.conftest import Command
from tests.servers import SmtpSink

Database = AsyncDatabase[dict[str, Any]]


async def test_an_installation_that_works_is_exit_code_0(lms: Command, database: Database, smtp_sink: SmtpSink) -> None:
    result = await lms("doctor", LMS_SMTP_URL=smtp_sink.url)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ok", "settings", "environment", "development"]
    # A warning is no failure.
    assert lines[1].split(maxsplit=2) == ["warn", "settings", "development secrets"]
    assert lines[2].split(maxsplit=1) == ["->", "For production set LMS_ENVIRONMENT=production."]
    assert "FAIL" not in result.stdout


async def test_a_part_that_fails_is_exit_code_1_with_its_remedy(lms: Command, database: Database) -> None:
    result = await lms("doctor", LMS_SMTP_URL="smtp://127.0.0.1:1", LMS_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 1
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    failed = [at for at, (mark, _) in enumerate(lines) if mark == "FAIL"]
    assert [lines[at][1].split()[0] for at in failed] == ["queue", "mail"]
    assert all(lines[at + 1][0] == "->" for at in failed)


async def test_programs_get_the_same_as_data(lms: Command, database: Database) -> None:
    result = await lms("doctor", "--json", LMS_SMTP_URL="smtp://127.0.0.1:1")
    assert result.exit_code == 1
    findings = json.loads(result.stdout)
    assert [set(one) for one in findings] == [{"part", "state", "message", "remedy"}] * len(findings)
    assert {one["part"]: one["state"] for one in findings}["mail"] == "fail"


async def test_without_usable_settings_there_is_nothing_to_examine(lms: Command) -> None:
    result = await lms("doctor", LMS_BCRYPT_COST="99")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("LMS_BCRYPT_COST: ")
