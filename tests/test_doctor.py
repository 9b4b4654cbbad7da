import gc
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from pymongo import AsyncMongoClient, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from lms import doctor
from lms.accounts.documents import User
from lms.clock import utc_now
from lms.database import DOCUMENTS
from lms.doctor import Finding, examine
from lms.migrations import migrate
from lms.settings import Settings
from tests.conftest import HeldClock, settings_for
from tests.servers import SmtpSink
from tests.web.own_servers import running_mongod

Database = AsyncDatabase[dict[str, Any]]
Installation = Callable[..., Settings]

# A client of PyMongo that is closed while it connects leaves the socket to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def collected() -> Generator[None]:
    """No test of another module finds such a socket."""
    yield
    gc.collect()


@pytest.fixture
def installation(mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path) -> Installation:
    """Settings of a production that lacks nothing, but for what the test says."""
    names = {"LMS_MONGODB_DATABASE": f"lms_test_{uuid.uuid4().hex[:12]}", "LMS_REDIS_PREFIX": uuid.uuid4().hex}
    production = {"LMS_ENVIRONMENT": "production", "LMS_PUBLIC_URL": "https://lms.school.example"}
    places = {"LMS_SMTP_URL": smtp_sink.url, "LMS_DATA_DIR": str(tmp_path)}

    def make(**more: str) -> Settings:
        return settings_for(mongodb_url, redis_url, **(names | production | places | more))

    return make


@pytest.fixture
async def migrated(app: Litestar, installation: Installation) -> AsyncGenerator[Database]:
    settings = installation()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(settings.mongodb_url, tz_aware=True)
    database = client[settings.mongodb_database]
    await migrate(database, DOCUMENTS)
    yield database
    await client.drop_database(database.name)
    await client.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with running_mongod(tmp_path_factory.mktemp("standalone")) as (url, _):
        yield url


async def found(settings: Settings, part: str) -> Finding:
    """What is said of a part, which is said once."""
    (finding,) = [one for one in await examine(settings) if one.part == part]
    return finding


async def test_of_a_whole_installation_everything_is_ok(migrated: Database, installation: Installation) -> None:
    findings = await examine(installation())
    parts = ["settings", "database", "indexes", "outbox", "clock", "queue", "mail", "storage"]
    assert [one.part for one in findings] == parts
    assert {one.state for one in findings} == {"ok"}, findings
    assert {one.remedy for one in findings} == {""}


async def test_what_is_not_ok_says_what_to_do(standalone: str, installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = {
        "LMS_ENVIRONMENT": "development",
        "LMS_PUBLIC_URL": "",
        "LMS_MONGODB_URL": standalone,
        "LMS_REDIS_URL": "redis://127.0.0.1:1/0",
        "LMS_SMTP_URL": "smtp://127.0.0.1:1",
        "LMS_DATA_DIR": str(tmp_path / "file" / "below"),
    }
    findings = await examine(installation(**broken))
    assert [(one.part, one.state) for one in findings] == [
        ("settings", "ok"),
        ("settings", "warn"),
        ("settings", "warn"),
        ("database", "fail"),
        ("queue", "fail"),
        ("mail", "fail"),
        ("storage", "fail"),
    ]
    assert all(one.remedy.endswith(".") for one in findings if one.state != "ok")


async def test_development_is_told_from_production(migrated: Database, installation: Installation) -> None:
    settings = installation(LMS_ENVIRONMENT="development", LMS_PUBLIC_URL="")
    told = [one for one in await examine(settings) if one.part == "settings"]
    assert [one.message for one in told] == [
        "environment development",
        "development secrets",
        "links in mails and QR codes have no address",
    ]
    assert "LMS_ENVIRONMENT=production" in told[1].remedy
    assert "LMS_PUBLIC_URL" in told[2].remedy


async def test_a_database_that_is_away_hides_nothing_else(installation: Installation) -> None:
    settings = installation(LMS_MONGODB_URL="mongodb://127.0.0.1:1/", LMS_MONGODB_TIMEOUT_SECONDS="0.4")
    findings = {one.part: one for one in await examine(settings)}
    assert set(findings) == {"settings", "database", "queue", "mail", "storage"}
    database = findings["database"]
    assert (database.state, database.message) == ("fail", "MongoDB cannot be reached (ServerSelectionTimeoutError)")
    assert database.remedy == "Start MongoDB, or correct LMS_MONGODB_URL."
    assert findings["queue"].state == findings["mail"].state == "ok"


async def test_a_database_that_is_no_replica_set_is_told(standalone: str, installation: Installation) -> None:
    finding = await found(installation(LMS_MONGODB_URL=standalone), "database")
    assert (finding.state, finding.message) == ("fail", "MongoDB is no replica set")
    assert "--replSet" in finding.remedy
    assert "rs.initiate()" in finding.remedy


async def test_an_old_database_is_told(
    migrated: Database, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "OLDEST_SERVER", 99)
    finding = await found(installation(), "database")
    assert finding.state == "fail"
    assert finding.message.endswith("is too old")


async def test_a_database_that_may_not_be_read_is_told(migrated: Database, installation: Installation) -> None:
    # A view that fails: for a user without rights the driver raises the same error.
    await migrated.drop_collection("meta")
    await migrated["numbers"].insert_one({"_id": "schema", "zero": 0})
    divided = [{"$project": {"version": {"$divide": [1, "$zero"]}}}]
    await migrated.command("create", "meta", viewOn="numbers", pipeline=divided)
    findings = [one for one in await examine(installation()) if one.part == "database"]
    assert [one.state for one in findings] == ["ok", "fail"]
    assert findings[1].message == f"{migrated.name} cannot be read (OperationFailure)"
    assert "LMS_MONGODB_URL" in findings[1].remedy


async def test_every_index_that_is_missing_is_named(migrated: Database, installation: Installation) -> None:
    await migrated["courses"].drop_index("slug")
    await migrated["users"].drop_index("email")
    finding = await found(installation(), "indexes")
    assert (finding.state, finding.remedy) == ("fail", "Run `lms migrate`.")
    assert finding.message == "missing or out of date: users.email, courses.slug"


async def test_an_index_that_is_not_as_declared_is_named(
    migrated: Database, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(User.Settings, "indexes", [IndexModel("full_name", name="email")])
    assert (await found(installation(), "indexes")).message == "missing or out of date: users.email"


async def test_before_the_first_migration_it_asks_for_one(migrated: Database, installation: Installation) -> None:
    await migrated["meta"].delete_many({})
    finding = await found(installation(), "indexes")
    assert (finding.state, finding.remedy) == ("fail", "Run `lms migrate`.")
    assert "schema version 0" in finding.message


async def test_jobs_that_gave_up_are_counted(migrated: Database, installation: Installation) -> None:
    await migrated["outbox"].insert_many([{"failed_at": utc_now(), "bucket": 1, "due": None} for _ in range(3)])
    finding = await found(installation(), "outbox")
    assert (finding.state, finding.message) == ("warn", "3 jobs gave up")
    assert "lms outbox retry" in finding.remedy


@pytest.mark.parametrize(("seconds", "state"), [(30, "ok"), (90, "fail")])
async def test_a_job_that_nobody_takes_is_told(
    migrated: Database, installation: Installation, seconds: int, state: str
) -> None:
    await migrated["outbox"].insert_one({"bucket": 63, "due": utc_now() - timedelta(seconds=seconds)})
    finding = await found(installation(), "outbox")
    assert finding.state == state
    assert ("waits since 9" in finding.message) == (state == "fail")
    assert ("lms worker" in finding.remedy) == (state == "fail")


async def test_clocks_that_differ_are_told(
    migrated: Database, installation: Installation, held_clock: HeldClock
) -> None:
    held_clock.advance(seconds=60)
    finding = await found(installation(), "clock")
    assert finding.state == "warn"
    assert finding.message.endswith("s off MongoDB's clock")
    assert "time service" in finding.remedy


@pytest.mark.parametrize(
    ("url", "state", "message", "remedy"),
    [
        ("", "warn", "LMS_REDIS_URL is empty", "outbox"),
        ("redis://127.0.0.1:1/0", "fail", "Redis cannot be reached (ConnectionError)", "LMS_REDIS_URL"),
        ("redis://127.0.0.1:port/0", "fail", "LMS_REDIS_URL is no address", "redis://HOST:PORT/0"),
    ],
)
async def test_a_queue_that_is_away_is_told(
    installation: Installation, migrated: Database, url: str, state: str, message: str, remedy: str
) -> None:
    finding = await found(installation().model_copy(update={"redis_url": url}), "queue")
    assert (finding.state, finding.message) == (state, message)
    assert remedy in finding.remedy


async def test_what_waits_and_what_died_in_the_queue_is_counted(
    migrated: Database, installation: Installation, redis: Redis
) -> None:
    settings = installation()
    jobs = f"{settings.redis_prefix}:jobs"
    await redis.xadd(jobs, {"data": "one"})
    finding = await found(settings, "queue")
    assert (finding.state, finding.message) == ("ok", "1 messages")
    await redis.xadd(f"{jobs}:dead", {"data": "two"})
    finding = await found(settings, "queue")
    assert (finding.state, finding.message) == ("warn", "1 messages, 1 dead letters")
    assert "message_buried" in finding.remedy
    await redis.delete(jobs, f"{jobs}:dead")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("smtp://127.0.0.1:1", "the SMTP server does not answer (SMTPConnectError)"),
        ("http://mail.internal", "must start with smtp://"),
    ],
)
async def test_mail_that_cannot_be_sent_is_told(
    migrated: Database, installation: Installation, url: str, message: str
) -> None:
    finding = await found(installation().model_copy(update={"smtp_url": url}), "mail")
    assert finding.state == "fail"
    assert message in finding.message
    assert finding.remedy


async def test_a_folder_that_cannot_be_written_to_is_told(
    migrated: Database, installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    finding = await found(
        installation(LMS_ENVIRONMENT="development", LMS_DATA_DIR=str(tmp_path / "file" / "below")), "storage"
    )
    assert (finding.state, finding.message) == ("fail", f"{tmp_path}/file cannot be written to (Not a directory)")
    assert "LMS_DATA_DIR" in finding.remedy


async def test_a_full_disk_is_told(
    migrated: Database, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    development = installation(LMS_ENVIRONMENT="development", LMS_DATA_DIR=str(tmp_path / "not" / "made" / "yet"))
    assert (await found(development, "storage")).state == "ok"
    monkeypatch.setattr(doctor, "LITTLE_DISK_BYTES", 1 << 60)
    finding = await found(development, "storage")
    assert (finding.state, finding.remedy) == ("warn", "Free some disk space.")
    assert str(tmp_path) in finding.message
    assert (await found(installation(), "storage")).message == "everything is kept in MongoDB"
