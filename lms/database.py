"""Opening MongoDB, and the list of everything that is stored there."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError

from lms.accounts.documents import SignIn, SignInFailures, User
from lms.api_keys.documents import ApiKey
from lms.audit.documents import AuditDetails, AuditEntry, AuditKey
from lms.certificates.documents import Certificate, CertificatePdf
from lms.courses.documents import Course, CourseStats
from lms.enrollments.documents import Enrollment
from lms.oidc.documents import Identity, OidcCode, OidcStart
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink
from lms.second_factor.documents import SignInChallenge
from lms.settings import Settings, SettingsError
from lms.transactions import use_database
from lms.users.documents import Invitation
from lms.web.idempotency import IdempotencyRecord

CLOSE_SECONDS = 0.5

DOCUMENTS: list[type[Document]] = [
    User,
    SignIn,
    SignInFailures,
    ApiKey,
    MailedLink,
    Invitation,
    SignInChallenge,
    Identity,
    OidcStart,
    OidcCode,
    Course,
    CourseStats,
    Enrollment,
    Certificate,
    CertificatePdf,
    Event,
    IdempotencyRecord,
    AuditEntry,
    AuditDetails,
    AuditKey,
]


def open_client(settings: Settings) -> AsyncMongoClient[dict[str, Any]]:
    """A client that gives up early: every operation, choosing a server included, is bounded by the setting.

    Raises `SettingsError` for an address that the driver cannot read.
    """
    milliseconds = int(settings.mongodb_timeout_seconds * 1000)
    try:
        return AsyncMongoClient(
            settings.mongodb_url,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=milliseconds // 2,
            connectTimeoutMS=milliseconds // 2,
            w="majority",
            retryWrites=True,
            tz_aware=True,
            uuidRepresentation="standard",
            appname="lms",
        )
    except (ValueError, ConfigurationError):
        # The driver's own words may quote a part of the password.
        problem = "cannot be read; %-encode what is special in user and password, and look at port and options"
        raise SettingsError([f"LMS_MONGODB_URL: {problem}"]) from None


class _Unasked(AsyncDatabase[dict[str, Any]]):
    """The database for Beanie's start, which asks for the server's version and collections but needs neither here.

    A process that starts while MongoDB is away would end otherwise; so it comes up, says so, and works when it is back.
    """

    async def command(self, command: Any, *args: Any, **options: Any) -> Any:
        if command == {"buildInfo": 1}:
            return {"version": "6.0.0"}
        return await super().command(command, *args, **options)

    async def list_collection_names(self, *_: Any, **__: Any) -> list[str]:
        return []


async def bind(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Let the documents use `database`. Indexes are the migration's work, not every start's."""
    unasked = _Unasked(database.client, database.name)
    await init_beanie(database=unasked, document_models=DOCUMENTS, skip_indexes=True)
    use_database(database)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncGenerator[AsyncDatabase[dict[str, Any]]]:
    """Open the database for this process. Does not wait for a server: who needs one finds out in time."""
    client = open_client(settings)
    try:
        database = client[settings.mongodb_database]
        await bind(database)
        yield database
    finally:
        use_database(None)
        # It takes leave of the server, which may be frozen, while the process has only so much time to stop.
        with pymongo.timeout(CLOSE_SECONDS):
            await client.close()
