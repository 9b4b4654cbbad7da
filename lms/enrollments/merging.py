"""The law of `rules.merge` as one MongoDB update pipeline, so that a report is a single-document update without a read.

Everything a client sent goes in through `$literal`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lms.enrollments.documents import EnrollmentStatus
from lms.enrollments.rules import COMPLETED, MAX_ENROLLMENT_BYTES, Report, unite

Expression = Any
ROOM = 64 * 1024
"""What one report can add at most, with a margin, in bytes of BSON."""


def has_room() -> dict[str, Any]:
    """The filter that keeps an enrolment below its limit."""
    return {"$expr": {"$lt": [{"$bsonSize": "$$ROOT"}, MAX_ENROLLMENT_BYTES - ROOM]}}


def merge_pipeline(lesson_id: str, report: Report) -> list[dict[str, Any]]:
    """The update for one report on a lesson that has an entry."""
    entry = f"$progress.{lesson_id}"
    fresh: Expression = True if report.epoch is None else {"$lte": [f"{entry}.epoch", report.epoch]}
    merged = {"$mergeObjects": [entry, _changes(entry, report)]}
    return [
        {
            "$set": {
                f"progress.{lesson_id}": {"$cond": [fresh, merged, entry]},
                "last_activity_at": {"$cond": [fresh, "$$NOW", "$last_activity_at"]},
                "changed_at": {"$cond": [fresh, "$$NOW", "$changed_at"]},
            }
        },
        {"$set": {"percent": {"$cond": [_is_completed(), "$percent", _percent()]}}},
    ]


def touched_by_release(lesson_ids: Sequence[str], pins: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The filters of the unfinished enrolments that `release_pipeline` has something to do in; any of them."""
    pinned = [{f"progress.{lesson_id}.required": True} for lesson_id in lesson_ids]
    return pinned + ([{"$expr": {"$not": [_has_pins()]}}] if pins else [])


def release_pipeline(lesson_ids: Sequence[str], pins: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The update for an unfinished enrolment whose course has these lessons no more: all is kept, they do not count.

    Where nothing is left that counts, `pins` do, the lessons that are required today: their entries stay as they are.
    """
    goes = {"$and": ["$$one.v.required", {"$in": ["$$one.k", {"$literal": [*lesson_ids]}]}]}
    return [
        {"$set": {"progress": _with_required("$progress", goes, required=False), "changed_at": "$$NOW"}},
        {"$set": {"progress": {"$cond": [_has_pins(), "$progress", _repinned(pins)]}}},
        {"$set": {"percent": _percent()}},
    ]


def _with_required(progress: Expression, which: Expression, *, required: bool) -> Expression:
    """The map with `required` set in the entries `$$one` that `which` is true of."""
    entry = {"$mergeObjects": ["$$one.v", {"required": required}]}
    one = {"k": "$$one.k", "v": {"$cond": [which, entry, "$$one.v"]}}
    return {"$arrayToObject": {"$map": {"input": {"$objectToArray": progress}, "as": "one", "in": one}}}


def _has_pins() -> Expression:
    required = {"$map": {"input": {"$objectToArray": "$progress"}, "as": "one", "in": "$$one.v.required"}}
    return {"$anyElementTrue": [required]}


def _repinned(pins: Mapping[str, Any]) -> Expression:
    """The map with `pins` required; those that are new in it are of the current epoch."""
    epochs = {"$map": {"input": {"$objectToArray": "$progress"}, "as": "one", "in": "$$one.v.epoch"}}
    current = {"epoch": {"$ifNull": [{"$max": epochs}, 0]}}
    one = {"k": "$$one.k", "v": {"$mergeObjects": ["$$one.v", current]}}
    given = {"$literal": [{"k": lesson_id, "v": entry} for lesson_id, entry in pins.items()]}
    fresh = {"$arrayToObject": {"$map": {"input": given, "as": "one", "in": one}}}
    pinned = {"$in": ["$$one.k", {"$literal": [*pins]}]}
    return _with_required({"$mergeObjects": [fresh, "$progress"]}, pinned, required=True)


def _changes(entry: str, report: Report) -> dict[str, Expression]:
    changes: dict[str, Expression] = {"state": {"$max": [f"{entry}.state", report.state]}}
    reached: list[Expression] = [f"{entry}.furthest"]
    if report.watched:
        inside = _clipped(entry, report)
        changes["watched"] = _united(f"{entry}.watched", inside)
        reached.append({"$max": {"$map": {"input": inside, "as": "one", "in": {"$last": "$$one"}}}})
    if report.position is not None:
        position = {"$min": [report.position, f"{entry}.length"]}
        reached.append(position)
        changes |= _latest(entry, "position", "stamp", position, [*_literal(report.stamp(0)[:-1]), position])
    if report.data is not None:
        stamp = _literal(report.stamp(report.data_digest))
        changes |= _latest(entry, "data", "data_stamp", {"$literal": report.data}, stamp)
    if report.state == COMPLETED:
        # $min passes over null, so the first completion needs no case of its own.
        changes["first_completed_at"] = {"$min": [f"{entry}.first_completed_at", report.at]}
    return changes | {"furthest": {"$max": reached}}


def _literal(values: list[Any]) -> list[Expression]:
    return [{"$literal": value} for value in values]


def _latest(
    entry: str, name: str, stamp_name: str, value: Expression, stamp: list[Expression]
) -> dict[str, Expression]:
    """A value that belongs to the greatest stamp. A missing stamp is null, which sorts before every array."""
    wins = {"$gt": [stamp, f"{entry}.{stamp_name}"]}
    return {
        name: {"$cond": [wins, value, f"{entry}.{name}"]},
        stamp_name: {"$cond": [wins, stamp, f"{entry}.{stamp_name}"]},
    }


def _clipped(entry: str, report: Report) -> Expression:
    """The report's intervals as far as they lie inside the lesson."""
    intervals = unite([list(interval) for interval in report.watched])
    cut = [{"$first": "$$one"}, {"$min": [{"$last": "$$one"}, f"{entry}.length"]}]
    clipped = {"$map": {"input": {"$literal": intervals}, "as": "one", "in": cut}}
    return {"$filter": {"input": clipped, "as": "one", "cond": {"$lt": [{"$first": "$$one"}, {"$last": "$$one"}]}}}


def _united(stored: str, added: Expression) -> Expression:
    """Fold each new interval into the stored ones: those that touch it become one with it, the others stay."""
    touches = {
        "$and": [
            {"$lte": [{"$first": "$$old"}, {"$last": "$$one"}]},
            {"$gte": [{"$last": "$$old"}, {"$first": "$$one"}]},
        ]
    }
    hit = {"$filter": {"input": "$$value", "as": "old", "cond": touches}}
    rest = {"$filter": {"input": "$$value", "as": "old", "cond": {"$not": [touches]}}}
    starts = {"$map": {"input": "$$hit", "as": "old", "in": {"$first": "$$old"}}}
    ends = {"$map": {"input": "$$hit", "as": "old", "in": {"$last": "$$old"}}}
    one = [
        {"$min": {"$concatArrays": [starts, [{"$first": "$$one"}]]}},
        {"$max": {"$concatArrays": [ends, [{"$last": "$$one"}]]}},
    ]
    fold = {
        "$let": {
            "vars": {"one": "$$this"},
            "in": {"$let": {"vars": {"hit": hit}, "in": {"$concatArrays": [rest, [one]]}}},
        }
    }
    folded = {"$reduce": {"input": added, "initialValue": stored, "in": fold}}
    return {"$sortArray": {"input": folded, "sortBy": 1}}


def _is_completed() -> Expression:
    return {"$eq": ["$status", EnrollmentStatus.COMPLETED.value]}


def _percent() -> Expression:
    """`rules.percent_of` over the map."""
    entries = {"$objectToArray": "$progress"}
    required = {"$filter": {"input": entries, "as": "one", "cond": "$$one.v.required"}}
    completed = {"$filter": {"input": "$$pinned", "as": "one", "cond": {"$eq": ["$$one.v.state", COMPLETED]}}}
    share = {"$toInt": {"$floor": {"$divide": [{"$multiply": [{"$size": completed}, 100]}, {"$size": "$$pinned"}]}}}
    return {"$let": {"vars": {"pinned": required}, "in": {"$cond": [{"$eq": [{"$size": "$$pinned"}, 0]}, 0, share]}}}
