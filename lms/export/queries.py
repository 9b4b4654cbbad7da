"""The reads of an export: a batch at a time, each found behind the last row of the one before."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any
from uuid import UUID

from pymongo.asynchronous.collection import AsyncCollection

from lms.accounts.documents import SignIn
from lms.api_keys.documents import ApiKey
from lms.audit import unseal
from lms.audit.documents import AuditDetails, AuditEntry, AuditKey
from lms.certificates.documents import Certificate
from lms.certificates.page import verify_url
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment
from lms.enrollments.queries import shown_progress
from lms.export.schemas import (
    ExportedAct,
    ExportedApiKey,
    ExportedCertificate,
    ExportedCourse,
    ExportedEmailChange,
    ExportedEnrollment,
    ExportedIdentity,
    ExportedInvitation,
    ExportedLesson,
    ExportedReport,
    ExportedSession,
)
from lms.oidc.documents import Identity
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.schemas import Moment, Output
from lms.settings import Settings
from lms.together import by_id
from lms.users.documents import Invitation
from lms.web.lists import Sort

BATCH = 100
TOGETHER = 256 * 1024
"""Octets of enrolments that are read at once: with their progress they are 20 KB as a rule, 4 MB at most."""
NOT_SHOWN = ("operator", "system", "nobody")

BY_COURSE = Sort((("course_id", 1),), index="student_course")
BY_NEWEST_SESSION = Sort((("created_at", -1), ("_id", -1)), index="user")
BY_ISSUER = Sort((("issuer", 1),), index="user")
BY_NEWEST_KEY = Sort((("created_at", -1), ("_id", -1)), index="owner")
BY_NEWEST_INVITATION = Sort((("created_at", -1), ("_id", -1)), index="inviter")
BY_NEWEST_COURSE = Sort((("created_at", -1), ("_id", -1)), index="instructor_created")
BY_PLACE = Sort((("_id", -1),), index="_id_")

Rows = list[dict[str, Any]]
Batches = AsyncGenerator[list[Output]]


async def _batches(
    collection: AsyncCollection[dict[str, Any]],
    wanted: Mapping[str, Any],
    sort: Sort,
    size: int = BATCH,
    projection: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Rows]:
    """No cursor stays open between two of them, however slowly somebody reads."""
    start: dict[str, Any] = {}
    while True:
        found = collection.find({"$and": [wanted, start]}, projection).sort(list(sort.fields)).limit(size)
        rows = await found.to_list()
        if rows:
            yield rows
        if len(rows) < size:
            return
        start = sort.after(sort.values_of(rows[-1]))


async def sessions(person: UUID, _: Settings) -> Batches:
    async for rows in _batches(SignIn.get_pymongo_collection(), {"user_id": person}, BY_NEWEST_SESSION):
        yield [ExportedSession.from_raw(row, refreshed_at=row["rotated_at"]) for row in rows]


async def email_change(person: UUID) -> ExportedEmailChange | None:
    wanted = {"_id": link_id(Purpose.CHANGE_EMAIL, person), "expires_at": {"$gt": utc_now()}}
    row = await MailedLink.get_pymongo_collection().find_one(wanted)
    return None if row is None else ExportedEmailChange.from_raw(row, new_email=row["email"])


async def identities(person: UUID, _: Settings) -> Batches:
    async for rows in _batches(Identity.get_pymongo_collection(), {"user_id": person}, BY_ISSUER):
        yield [ExportedIdentity.from_raw(row) for row in rows]


async def api_keys(person: UUID, _: Settings) -> Batches:
    async for rows in _batches(ApiKey.get_pymongo_collection(), {"owner_id": person}, BY_NEWEST_KEY):
        yield [ExportedApiKey.from_raw(row) for row in rows]


async def invitations(person: UUID, _: Settings) -> Batches:
    async for rows in _batches(Invitation.get_pymongo_collection(), {"invited_by": person}, BY_NEWEST_INVITATION):
        yield [ExportedInvitation.from_raw(row) for row in rows]


async def courses(person: UUID, _: Settings) -> Batches:
    collection, shown = Course.get_pymongo_collection(), {"title": 1, "slug": 1, "status": 1, "created_at": 1}
    for name, part in (("instructor_id", "owner"), ("co_instructor_ids", "co_instructor")):
        async for rows in _batches(collection, {name: person}, BY_NEWEST_COURSE, projection=shown):
            yield [ExportedCourse.from_raw(row, part=part) for row in rows]


async def enrollments(person: UUID, _: Settings) -> Batches:
    """Which there are and how large first; then as few at a time as fit together, a large one by itself."""
    collection, sized = Enrollment.get_pymongo_collection(), {"course_id": 1, "size": {"$bsonSize": "$$ROOT"}}
    async for rows in _batches(collection, {"student_id": person}, BY_COURSE, projection=sized):
        heads = await by_id(Course.get_pymongo_collection(), [row["course_id"] for row in rows], {"title": 1})
        for ids in _fitting(rows):
            # Who was erased meanwhile has none of them any more.
            found = await collection.find({"student_id": person, "_id": {"$in": ids}}).sort("course_id", 1).to_list()
            for row in found:
                yield [await _enrollment(row, heads.get(row["course_id"], {}).get("title"))]


def _fitting(rows: Rows) -> Iterator[list[UUID]]:
    ids: list[UUID] = []
    total = 0
    for row in rows:
        if ids and total + row["size"] > TOGETHER:
            yield ids
            ids, total = [], 0
        ids.append(row["_id"])
        total += row["size"]
    yield ids


async def _enrollment(row: Mapping[str, Any], title: str | None) -> ExportedEnrollment:
    progress: dict[str, ExportedLesson] = {}
    for lesson_id, entry in row["progress"].items():
        progress[lesson_id] = _lesson(entry)
        # Thousands of lessons, or much data in them, must not hold up other requests.
        await asyncio.sleep(0)
    return ExportedEnrollment.from_raw(row, course_title=title, progress=progress)


def _lesson(entry: Mapping[str, Any]) -> ExportedLesson:
    came_from = {"position_from": _report(entry["stamp"]), "data_from": _report(entry["data_stamp"])}
    return ExportedLesson.from_raw(shown_progress(entry), **came_from)


def _report(stamp: list[Any] | None) -> ExportedReport | None:
    if stamp is None:
        return None
    at, device_id, sequence, *_ = stamp
    return ExportedReport(occurred_at=Moment.of(at), device_id=device_id, sequence=sequence)


async def certificates(person: UUID, settings: Settings) -> Batches:
    """Under the ids of the enrolments that they were issued for."""
    issued, shown = {"student_id": person, "certificate_issued": True}, {"course_id": 1}
    async for rows in _batches(Enrollment.get_pymongo_collection(), issued, BY_COURSE, projection=shown):
        found = await by_id(Certificate.get_pymongo_collection(), [row["_id"] for row in rows])
        yield [_certificate(found[row["_id"]], settings) for row in rows if row["_id"] in found]


def _certificate(row: Mapping[str, Any], settings: Settings) -> ExportedCertificate:
    pdf_path = f"/api/v1/certificates/{row['_id']}/pdf"
    return ExportedCertificate.from_raw(row, verify_url=verify_url(row["number"], settings), pdf_path=pdf_path)


async def audit(person: UUID, _: Settings) -> Batches:
    """What they did, then what others did to them."""
    who, entries = str(person), AuditEntry.get_pymongo_collection()
    for wanted in ({"actor": who}, {"target_id": who, "actor": {"$ne": who}}):
        async for rows in _batches(entries, wanted, BY_PLACE):
            told = await _told(who, rows)
            yield [_act(row, who, told.get(row["event_id"], {})) for row in rows]


async def _told(who: str, rows: Rows) -> dict[UUID, dict[str, str]]:
    """By event what was sealed about the person; what is about others in the same act stays closed."""
    kept = await AuditKey.get_pymongo_collection().find_one({"_id": UUID(who)})
    events = [row["event_id"] for row in rows if who in row["sealed"]]
    details = await AuditDetails.get_pymongo_collection().find({"_id": {"$in": events}}).to_list() if kept else []
    key = bytes(kept["key"]) if kept else b""
    return {one["_id"]: unseal(key, bytes(one["sealed"][who])) or {} for one in details}


def _act(row: Mapping[str, Any], who: str, about: dict[str, str]) -> ExportedAct:
    actor = "you" if row["actor"] == who else row["actor"] if row["actor"] in NOT_SHOWN else "somebody"
    is_person = row["target_kind"] == "user"
    target = ("you" if row["target_id"] == who else "somebody") if is_person else None
    return ExportedAct.from_raw(row, actor=actor, target=target, about=about)
