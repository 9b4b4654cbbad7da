"""Merging progress reports into the database, those of one moment together: an app's crowd reports all the time.

Each report stays an update of one document by itself; they only travel in one command. Merging one twice is merging
it once, so that whatever fails in company is simply tried alone.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pymongo
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import PyMongoError

from lms.enrollments.documents import Enrollment
from lms.enrollments.merging import has_room, merge_pipeline
from lms.enrollments.queries import READING
from lms.enrollments.rules import Report
from lms.together import Together, TryAlone

COMPANY_SECONDS = 0.5
SHOWN = {"student_id": 1, "status": 1, "percent": 1, "completed_at": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Merging:
    """One report on its way. Compared by identity: two that look the same are two."""

    student_id: UUID
    enrollment_id: UUID
    lesson_id: str
    report: Report

    @property
    def wanted(self) -> dict[str, Any]:
        """An enrolment of this student that takes reports on this lesson and has room for one."""
        return {
            "_id": self.enrollment_id,
            "student_id": self.student_id,
            "status": {"$in": READING},
            f"progress.{self.lesson_id}": {"$exists": True},
            **has_room(),
        }

    @property
    def change(self) -> list[dict[str, Any]]:
        return merge_pipeline(self.lesson_id, self.report)


async def _merge_together(reports: list[Merging]) -> dict[Merging, dict[str, Any]]:
    stored = await _merge_in_company(reports) if len(reports) > 1 else {}
    # It is one, or it has nowhere to go, or somebody came between: then the answer is found out alone.
    rest = [one for one in reports if one not in stored]
    alone = await asyncio.gather(*map(_merge_alone, rest))
    return stored | {one: row for one, row in zip(rest, alone, strict=True) if row is not None}


async def _merge_in_company(reports: list[Merging]) -> dict[Merging, dict[str, Any]]:
    writes = [UpdateOne(one.wanted, one.change) for one in reports]
    try:
        with pymongo.timeout(COMPANY_SECONDS):
            await Enrollment.get_pymongo_collection().bulk_write(writes, ordered=False)
            return await _read_together(reports)
    except PyMongoError as error:
        if error.timeout:
            # Perhaps one enrolment is held by a transaction; the others need not wait for it.
            raise TryAlone from error
        raise


async def _merge_alone(one: Merging) -> dict[str, Any] | None:
    return await Enrollment.get_pymongo_collection().find_one_and_update(
        one.wanted,
        one.change,
        projection={f"progress.{one.lesson_id}": 1, **SHOWN},
        return_document=ReturnDocument.AFTER,
    )


async def _read_together(reports: list[Merging]) -> dict[Merging, dict[str, Any]]:
    """Those whose enrolment takes reports on the lesson, as they are now; perhaps with later reports as well."""
    wanted = {
        "_id": {"$in": [one.enrollment_id for one in reports]},
        "student_id": {"$in": [one.student_id for one in reports]},
        "status": {"$in": READING},
        **has_room(),
    }
    shown = {**SHOWN, **{f"progress.{one.lesson_id}": 1 for one in reports}}
    rows = await Enrollment.get_pymongo_collection().find(wanted, shown).to_list()
    found = {(row["_id"], row["student_id"]): row for row in rows}
    pairs = ((one, found.get((one.enrollment_id, one.student_id))) for one in reports)
    return {one: dict(row) for one, row in pairs if row is not None and one.lesson_id in row.get("progress", {})}


merged: Together[Merging, dict[str, Any]] = Together(_merge_together)
"""The enrolment after a report, with the lesson's entry; None where the report has nowhere to go."""
