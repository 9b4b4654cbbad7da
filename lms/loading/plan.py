"""What a load would do: the source compared with what is stored, item by item and field by field. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import bson
import msgspec

from lms.courses.rules import MAX_COURSE_BYTES, is_open
from lms.loading.faults import Faults
from lms.loading.fields import HEAD, LESSON, MODULE, canonical, hash_of, head_fields, lesson_fields, module_fields
from lms.loading.source import SourceCourse, SourceLesson, SourceModule

OTHER_FIELDS_BYTES = 4096
"""More than the fields of a course take that a load does not write."""


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    MISSING = "missing"


class Change(msgspec.Struct, frozen=True):
    field: str
    old: Any
    new: Any


class Item(msgspec.Struct, kw_only=True):
    """A module or a lesson. `missing` is stored but no longer in the source; it is listed and stays.

    `fields` is what will be stored. `edited` says that it was changed or deleted in the app since the last load.
    """

    kind: str
    action: Action
    id: str
    source_id: str
    title: str
    file: str = ""
    changes: list[Change] = []
    edited: bool = False
    fields: dict[str, Any] = {}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The stored course as the plan saw it; applying demands that it still is so, by its revisions.

    `keeps_required`: of the lessons that the load leaves alone one is required.
    """

    id: UUID
    rev: int
    outline_rev: int
    updated_at: datetime
    is_published: bool
    keeps_required: bool


class CoursePlan(msgspec.Struct, kw_only=True):
    """`hashes` are what the load will remember to have written, by the ids of lessons and modules."""

    source: str
    source_id: str
    title: str
    file: str
    action: Action
    head: dict[str, Any]
    head_hash: str
    seen: Seen | None = None
    changes: list[Change] = []
    head_edited: bool = False
    items: list[Item] = []
    hashes: dict[str, str] = {}
    is_remembered: bool = False

    @property
    def edited(self) -> list[str]:
        """What was edited in the app and would be written over."""
        return (["the course itself"] if self.head_edited else []) + [
            f"{item.kind} {item.title}" for item in self.items if item.edited
        ]

    @property
    def is_left_without_required(self) -> bool:
        """Whether a course that is open would have no required lesson afterwards, so that nobody could complete it."""
        if self.seen is None or not self.seen.is_published or self.seen.keeps_required:
            return False
        return not any(item.kind == "lesson" and item.fields.get("required") for item in self.items)

    def of(self, kind: str, action: Action) -> list[Item]:
        return [item for item in self.items if item.kind == kind and item.action is action]


def plan_course(course: SourceCourse, stored: Mapping[str, Any] | None, slug: str, faults: Faults) -> CoursePlan:
    """`slug` is the course's slug where its source gives none. Lessons and modules of the app's own are left alone."""
    before = stored or {}
    loaded: Mapping[str, Any] = before.get("loaded") or {}
    remembered: Mapping[str, str] = loaded.get("lessons", {})
    head = head_fields(course, slug)
    changes = _changes(before, head, HEAD) if stored else []
    items = [
        *_items("module", module_fields(course), course.modules, before.get("modules", []), remembered),
        *_items("lesson", lesson_fields(course, before, faults), course.lessons, before.get("lessons", []), remembered),
    ]
    plan = CoursePlan(
        source=course.source,
        source_id=course.source_id,
        title=course.head.title,
        file=course.file,
        action=Action.CREATE,
        head=head,
        head_hash=hash_of(head, HEAD),
        changes=changes,
        head_edited=bool(changes) and loaded.get("hash") not in (None, hash_of(before, HEAD)),
        items=items,
        hashes=_hashes(items, remembered),
    )
    if stored:
        _compare(plan, stored, loaded)
    check_size(plan, stored, faults)
    return plan


def _compare(plan: CoursePlan, stored: Mapping[str, Any], loaded: Mapping[str, Any]) -> None:
    """A course whose fields agree is still written once where the record of what was loaded does not."""
    written = {item.id for item in plan.items if item.fields}
    plan.seen = Seen(
        id=stored["_id"],
        rev=stored["rev"],
        outline_rev=stored["outline_rev"],
        updated_at=stored["updated_at"],
        is_published=is_open(stored),
        keeps_required=any(one["required"] for one in stored["lessons"] if one["id"] not in written),
    )
    plan.is_remembered = loaded.get("hash") == plan.head_hash and loaded.get("lessons") == plan.hashes
    changed = plan.changes or any(item.action in (Action.CREATE, Action.UPDATE) for item in plan.items)
    plan.action = Action.UPDATE if changed or not plan.is_remembered else Action.UNCHANGED


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str]) -> list[Change]:
    pairs = ((name, before.get(name), after[name]) for name in names)
    return [Change(name, old, new) for name, old, new in pairs if canonical(old) != canonical(new)]


def _items(
    kind: str,
    wanted: Mapping[str, dict[str, Any]],
    sources: Sequence[SourceModule | SourceLesson],
    stored: Sequence[Mapping[str, Any]],
    remembered: Mapping[str, str],
) -> list[Item]:
    """One item for each of the source in its order, then those that are stored and were loaded once."""
    names = MODULE if kind == "module" else LESSON
    before = {one["id"]: one for one in stored}
    items = [
        _item(kind, fields, source.file, before.get(item_id), remembered.get(item_id), names)
        for (item_id, fields), source in zip(wanted.items(), sources, strict=True)
    ]
    for item_id, old in before.items():
        if item_id not in wanted and old.get("source_id") is not None:
            items.append(
                Item(kind=kind, action=Action.MISSING, id=item_id, source_id=old["source_id"], title=old["title"])
            )
    return items


def _item(
    kind: str,
    fields: dict[str, Any],
    file: str,
    old: Mapping[str, Any] | None,
    remembered: str | None,
    names: Sequence[str],
) -> Item:
    item = Item(
        kind=kind,
        action=Action.CREATE,
        id=fields["id"],
        source_id=fields["source_id"],
        title=fields["title"],
        file=file,
        fields=fields,
    )
    if old is None:
        item.edited = remembered is not None  # It was loaded once, so it was deleted in the app.
        return item
    item.changes = _changes(old, fields, names)
    item.action = Action.UPDATE if item.changes else Action.UNCHANGED
    item.edited = bool(item.changes) and remembered not in (None, hash_of(old, names))
    return item


def _hashes(items: Sequence[Item], remembered: Mapping[str, str]) -> dict[str, str]:
    """What is missing keeps its hash, so that an edit still shows when it comes back."""
    names = {"module": MODULE, "lesson": LESSON}
    hashes = {item.id: hash_of(item.fields, names[item.kind]) for item in items if item.action is not Action.MISSING}
    kept = {item.id: remembered[item.id] for item in items if item.id in remembered and item.id not in hashes}
    return hashes | kept


def check_size(plan: CoursePlan, stored: Mapping[str, Any] | None, faults: Faults) -> None:
    """The document as it would be stored: what is in the source, and what stays."""
    wanted = {item.id for item in plan.items if item.fields}
    kept = [one for name in ("modules", "lessons") for one in (stored or {}).get(name, []) if one["id"] not in wanted]
    items = [*(item.fields for item in plan.items if item.fields), *kept]
    sizes = [len(bson.encode(fields)) + 32 for fields in items]
    size = len(bson.encode(plan.head | {"hashes": plan.hashes})) + sum(sizes) + OTHER_FIELDS_BYTES
    if size <= MAX_COURSE_BYTES:
        return
    lessons = [item for item in plan.items if item.kind == "lesson" and item.fields]
    largest = max(lessons, key=lambda item: len(item.fields["content"]))
    message = f"The course would take {size / 2**20:.1f} MB of at most 12; its largest lesson is {largest.title}."
    faults.error("course_too_large", message, largest.file, hint="Split the course, or shorten this lesson.")
