"""The pipeline that MongoDB runs says the same as the law in `rules.merge`."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lms.enrollments.merging import has_room, merge_pipeline
from lms.enrollments.rules import Report, merge, new_entry, percent_of
from tests.enrollments.reports import entries, reports

LESSON = "aaaaaaaaaaaa"
Database = AsyncDatabase[dict[str, Any]]


async def _start(database: Database, entry: dict[str, Any]) -> None:
    other = new_entry(required=True, duration_minutes=1)
    progress = {LESSON: entry, "bbbbbbbbbbbb": other}
    stored = {"_id": 1, "status": "active", "percent": 0, "progress": progress}
    await database["merging"].replace_one({"_id": 1}, stored, upsert=True)


async def _apply(database: Database, report: Report) -> dict[str, Any]:
    stored = await database["merging"].find_one_and_update(
        {"_id": 1} | has_room(), merge_pipeline(LESSON, report), return_document=ReturnDocument.AFTER
    )
    assert stored is not None
    return stored


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=entries(), sent=st.lists(reports(), max_size=6))
async def test_mongodb_merges_as_the_law_says(database: Database, entry: dict[str, Any], sent: list[Report]) -> None:
    await _start(database, entry)
    for report in sent:
        entry = merge(entry, report)
        stored = await _apply(database, report)
        assert stored["progress"][LESSON] == entry
        assert stored["percent"] == percent_of(stored["progress"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=entries(), sent=st.lists(reports(), min_size=2, max_size=12))
async def test_parallel_reports_end_as_the_law_says(
    database: Database, entry: dict[str, Any], sent: list[Report]
) -> None:
    await _start(database, entry)
    await asyncio.gather(*(_apply(database, report) for report in [*sent, *sent]))
    for report in sent:
        entry = merge(entry, report)
    stored = await database["merging"].find_one({"_id": 1})
    assert stored is not None
    assert stored["progress"][LESSON] == entry
