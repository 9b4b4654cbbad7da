import json
import re
import uuid
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.settings import Settings, load_settings
from lms.tokens import KeyRing
from tests.cli.conftest import Command, plain

Database = AsyncDatabase[dict[str, Any]]


async def gave_up(error: str, *jobs: str) -> Event:
    event = Event(bucket=1, kind="account.created", data={}, todo=list(jobs), attempts=8)
    event.failed_at, event.last_error = utc_now(), error
    return await event.insert()


async def test_jobs_that_gave_up_are_listed_with_their_error(lms: Command, database: Database) -> None:
    failed = await gave_up("MailRefused: 550 nobody here", "accounts.welcome", "accounts.remind")
    await Event(bucket=1, kind="account.created", data={}, todo=["accounts.welcome"], due=utc_now()).insert()
    text = (await lms("outbox", "list")).stdout
    assert text == f"{failed.id}  accounts.welcome, accounts.remind\n    MailRefused: 550 nobody here\n"
    (listed,) = json.loads((await lms("outbox", "list", "--json")).stdout)
    assert listed["id"] == str(failed.id)
    assert listed["kind"] == "account.created"
    assert listed["jobs"] == ["accounts.welcome", "accounts.remind"]
    assert listed["error"] == "MailRefused: 550 nobody here"
    assert listed["failed_at"].startswith(f"{failed.failed_at:%Y-%m-%dT%H:%M:%S}")


async def test_without_failures_the_list_says_so(lms: Command, database: Database) -> None:
    assert (await lms("outbox", "list")).stdout == "No job has given up.\n"
    assert json.loads((await lms("outbox", "list", "--json")).stdout) == []


async def test_one_job_or_all_are_tried_again(lms: Command, database: Database) -> None:
    first, *_ = [await gave_up("TimeoutError", "accounts.welcome") for _ in range(3)]
    assert (await lms("outbox", "retry", str(first.id))).stdout == "1 due again.\n"
    stored = await database["outbox"].find_one({"_id": first.id})
    assert stored is not None
    assert (stored["failed_at"], stored["attempts"]) == (None, 0)
    assert stored["due"] is not None
    assert (await lms("outbox", "retry")).stdout == "2 due again.\n"
    assert (await lms("outbox", "retry")).stdout == "0 due again.\n"


async def test_what_cannot_be_tried_again_is_an_error(lms: Command, database: Database) -> None:
    unknown = await lms("outbox", "retry", str(uuid.uuid4()))
    assert unknown.exit_code == 1
    assert "has not given up" in plain(unknown.stderr)
    malformed = await lms("outbox", "retry", "not-an-id")
    assert malformed.exit_code == 2
    assert "not-an-id" in malformed.stderr


async def test_fresh_secrets_are_what_production_takes(lms: Command) -> None:
    one, two = (await lms("keys")).stdout, (await lms("keys")).stdout
    secrets = dict(line.split("=", 1) for line in one.splitlines())
    assert set(secrets) == {"LMS_SECRET_KEY", "LMS_PASSWORD_PEPPER", "LMS_JWT_KEYS"}
    assert not set(one.splitlines()) & set(two.splitlines())
    production = {"LMS_ENVIRONMENT": "production", "LMS_PUBLIC_URL": "https://lms.school.example"}
    assert KeyRing(load_settings(secrets | production))


async def test_settings_are_listed_without_secrets(lms: Command) -> None:
    given = {
        "LMS_SECRET_KEY": "hidden-secret-key-of-thirty-two-characters",
        "LMS_PASSWORD_PEPPER": "hidden-pepper-of-thirty-two-characters",
        "LMS_METRICS_TOKEN": "hidden-token",
        "LMS_REDIS_URL": "redis://:hidden@cache.internal:6379/0",
        "LMS_SMTP_URL": "smtps://mailer:hidden@mail.internal",
        "LMS_MONGODB_URL": "mongodb://lms:hidden@db.internal/",
        "LMS_SCHOOL_NAME": "Harbour School",
    }
    for options in ((), ("--json",), ("--markdown",)):
        result = await lms("settings", *options, **given)
        assert result.exit_code == 0, result.output
        assert "hidden" not in result.output
        for name in Settings.model_fields:
            assert f"LMS_{name.upper()}" in result.stdout
    text = (await lms("settings", **given)).stdout
    assert "LMS_SCHOOL_NAME = Harbour School\n    Who issues certificates and signs mails.\n" in text
    assert "LMS_SECRET_KEY = (set)\n" in text
    rows = {row["name"]: row["value"] for row in json.loads((await lms("settings", "--json", **given)).stdout)}
    assert rows["LMS_SCHOOL_NAME"] == "Harbour School"
    assert rows["LMS_METRICS_TOKEN"] == "(set)"


async def test_the_table_of_the_readme_needs_no_settings(lms: Command) -> None:
    result = await lms("settings", "--markdown", LMS_BCRYPT_COST="nonsense")
    assert result.exit_code == 0
    assert re.match(r"\| variable \| default \| what it does \|\n\|---\|---\|---\|\n\| `LMS_", result.stdout)
    assert "Harbour" not in (await lms("settings", "--markdown", LMS_SCHOOL_NAME="Harbour School")).stdout


async def test_the_reference_is_printed_as_a_document(lms: Command) -> None:
    result = await lms("openapi")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/courses" in document["paths"]


async def test_a_second_migration_has_nothing_to_do(lms: Command, database: Database) -> None:
    name = f"lms_test_{uuid.uuid4().hex[:12]}"
    try:
        first = await lms("migrate", LMS_MONGODB_DATABASE=name)
        assert first.exit_code == 0, first.output
        assert "index: users.email\n" in first.stdout
        second = await lms("migrate", LMS_MONGODB_DATABASE=name)
        assert (second.exit_code, second.stdout) == (0, "Nothing to do.\n")
        await database.client[name]["courses"].drop_index("slug")
        third = await lms("migrate", "--json", LMS_MONGODB_DATABASE=name)
        assert json.loads(third.stdout) == {"done": ["index: courses.slug"]}
        assert json.loads((await lms("migrate", "--json", LMS_MONGODB_DATABASE=name)).stdout) == {"done": []}
    finally:
        await database.client.drop_database(name)
