"""`lms doctor`: looks at every part of an installation and says what to do."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiosmtplib
import msgspec
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lms.clock import utc_now
from lms.database import DOCUMENTS, connect
from lms.mail import SCHEMES, Mailer
from lms.migrations import SCHEMA_VERSION, schema_version, unlike
from lms.oidc.provider import Provider, Providers
from lms.oidc.rules import SignInFailed
from lms.outbox.documents import BUCKETS
from lms.redis_client import open_redis
from lms.settings import Settings

OLDEST_SERVER = 6
MAX_CLOCK_DIFFERENCE_SECONDS = 2.0
LATE_SECONDS = 60
LITTLE_DISK_BYTES = 2_000_000_000
CHECK_SECONDS = 5.0

Database = AsyncDatabase[dict[str, Any]]


class Finding(msgspec.Struct):
    """One line of the report. `remedy` says what to do where the state is not ok."""

    part: str
    state: Literal["ok", "warn", "fail"]
    message: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Every part, in the order in which to mend them."""
    findings = [*_settings(settings)]
    async with connect(settings) as database:
        findings += await _database(database)
        if findings[-1].state != "fail":
            findings += await _inside(database)
    return [*findings, await _queue(settings), await _mail(settings), *await providers_of(settings), _storage(settings)]


def _settings(settings: Settings) -> list[Finding]:
    found = [Finding("settings", "ok", f"environment {settings.environment}")]
    if settings.environment == "development":
        found.append(
            Finding("settings", "warn", "development secrets", "For production set LMS_ENVIRONMENT=production.")
        )
    if not settings.public_url:
        remedy = "Set LMS_PUBLIC_URL to this API's address."
        found.append(Finding("settings", "warn", "links in mails and QR codes have no address", remedy))
    return found


async def _database(database: Database) -> list[Finding]:
    try:
        hello = await database.client.admin.command("hello")
        version = (await database.client.admin.command("buildInfo"))["version"]
    except PyMongoError as error:
        remedy = "Start MongoDB, or correct LMS_MONGODB_URL."
        return [Finding("database", "fail", f"MongoDB cannot be reached ({type(error).__name__})", remedy)]
    if int(version.split(".")[0]) < OLDEST_SERVER:
        return [Finding("database", "fail", f"MongoDB {version} is too old", "Use MongoDB 6.0 or newer.")]
    if not hello.get("setName"):
        remedy = "Start mongod with --replSet and run rs.initiate(); one node is enough."
        return [Finding("database", "fail", "MongoDB is no replica set", remedy)]
    return [Finding("database", "ok", f"MongoDB {version}, replica set {hello['setName']}")]


async def _inside(database: Database) -> list[Finding]:
    try:
        return [await _indexes(database), await _outbox(database), await _clock(database)]
    except PyMongoError as error:
        remedy = "Correct user and password in LMS_MONGODB_URL, or give this user the right readWrite there."
        return [Finding("database", "fail", f"{database.name} cannot be read ({type(error).__name__})", remedy)]


async def _indexes(database: Database) -> Finding:
    version = await schema_version(database)
    missing = [
        f"{document.get_collection_name()}.{index.document['name']}"
        for document in DOCUMENTS
        for index, _ in await unlike(database, document)
    ]
    if version < SCHEMA_VERSION or missing:
        what = ", ".join(missing) or f"schema version {version} of {SCHEMA_VERSION}"
        return Finding("indexes", "fail", f"missing or out of date: {what}", "Run `lms migrate`.")
    return Finding("indexes", "ok", f"schema version {version}")


async def _outbox(database: Database) -> Finding:
    events = database["outbox"]
    gave_up = await events.count_documents({"failed_at": {"$type": "date"}}, limit=1000)
    oldest = await events.find_one(
        {"bucket": {"$in": list(range(BUCKETS))}, "due": {"$lte": utc_now()}}, {"due": 1}, sort=[("due", 1)]
    )
    late = (utc_now() - oldest["due"]).total_seconds() if oldest else 0
    if gave_up:
        return Finding("outbox", "warn", f"{gave_up} jobs gave up", "See `lms outbox list`, then `lms outbox retry`.")
    if late > LATE_SECONDS:
        remedy = "Start `lms worker`, and see that it reaches Redis."
        return Finding("outbox", "fail", f"the oldest job waits since {late:.0f} s", remedy)
    return Finding("outbox", "ok", "nothing waits too long")


async def _clock(database: Database) -> Finding:
    # By itself a command's answer has times without a zone, whatever the client is told.
    hello = await database.client.admin.command("hello", codec_options=database.codec_options)
    difference = abs((utc_now() - hello["localTime"]).total_seconds())
    if difference > MAX_CLOCK_DIFFERENCE_SECONDS:
        return Finding("clock", "warn", f"{difference:.1f} s off MongoDB's clock", "Run a time service on both.")
    return Finding("clock", "ok", f"{difference * 1000:.0f} ms off MongoDB's clock")


async def _queue(settings: Settings) -> Finding:
    if not settings.redis_url:
        return Finding("queue", "warn", "LMS_REDIS_URL is empty", "Jobs wait in the outbox until there is a Redis.")
    try:
        async with asyncio.timeout(CHECK_SECONDS), _open(settings) as redis:
            name = f"{settings.redis_prefix}:jobs"
            waiting, dead = await redis.xlen(name), await redis.xlen(f"{name}:dead")
    except ValueError:
        return Finding("queue", "fail", "LMS_REDIS_URL is no address", "Write it as redis://HOST:PORT/0.")
    except (RedisError, OSError, TimeoutError) as error:
        remedy = "Start Redis or Valkey, or correct LMS_REDIS_URL. Until then jobs wait in the outbox."
        return Finding("queue", "fail", f"Redis cannot be reached ({type(error).__name__})", remedy)
    if dead:
        remedy = "A job keeps killing its worker; the worker's log has `message_buried`."
        return Finding("queue", "warn", f"{waiting} messages, {dead} dead letters", remedy)
    return Finding("queue", "ok", f"{waiting} messages")


@asynccontextmanager
async def _open(settings: Settings) -> AsyncGenerator[Redis]:
    redis = open_redis(settings.redis_url, connections=2)
    try:
        yield redis
    finally:
        await redis.aclose(close_connection_pool=True)


async def _mail(settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await Mailer(settings).check()
    except ValueError as error:
        return Finding("mail", "fail", str(error), f"Use one of {', '.join(SCHEMES)}.")
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        remedy = "Start the mail server, or correct LMS_SMTP_URL. Until then mails wait in the outbox."
        return Finding("mail", "fail", f"the SMTP server does not answer ({type(error).__name__})", remedy)
    return Finding("mail", "ok", "the SMTP server answers")


async def providers_of(settings: Settings) -> list[Finding]:
    """Whether those that people sign in at can be reached from here, and are whom the settings take them for."""
    providers = Providers(settings.oidc_providers)
    try:
        return [await _provider(providers.named(one.name)) for one in providers.all()]
    finally:
        await providers.close()


async def _provider(provider: Provider) -> Finding:
    name = provider.config.name
    try:
        await provider.metadata()
    except SignInFailed as error:
        remedy = "See that this machine reaches the issuer, and that LMS_OIDC_PROVIDERS has it letter for letter."
        return Finding("sign-in", "fail", f"{name}: {error.reason}", remedy)
    return Finding("sign-in", "ok", f"{name} answers")


def _storage(settings: Settings) -> Finding:
    if settings.environment == "production":
        return Finding("storage", "ok", "everything is kept in MongoDB")
    path = settings.data_dir.absolute()
    where = next(one for one in (path, *path.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=where):
            free = shutil.disk_usage(where).free
    except OSError as error:
        remedy = "Let this user write there, or set LMS_DATA_DIR to another folder."
        return Finding("storage", "fail", f"{where} cannot be written to ({error.strerror})", remedy)
    if free < LITTLE_DISK_BYTES:
        return Finding("storage", "warn", f"{free / 1e9:.1f} GB free at {where}", "Free some disk space.")
    return Finding("storage", "ok", f"{free / 1e9:.0f} GB free")
