"""What a person reads in the terminal about a load, and the same as data."""

import json
import re
from collections import Counter
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from lms.loading.faults import Fault
from lms.loading.load import CourseReport, LoadReport
from lms.loading.plan import Action, Change, CoursePlan, Item

MAX_SHOWN = 60
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, starts a command to the terminal, turns the direction of writing, or is no character."""

SIGNS = {Action.CREATE: ("+", "green"), Action.UPDATE: ("~", "yellow"), Action.MISSING: ("?", "magenta")}


def print_report(report: LoadReport, console: Console | None = None) -> None:
    """One line per course, then what changes, faults, notes, refusals, and at the end the totals."""
    out = console or Console(highlight=False, soft_wrap=True)
    for course in report.courses:
        _print_course(course, out, dry_run=report.dry_run)
    _print(out, _totals(report), "bold")


def _print(out: Console, line: str, style: str) -> None:
    """Titles and file names are written by others; what of them the terminal would obey is shown as an escape."""
    out.print(Text(visible(line), style=style))


def visible(text: str) -> str:
    return _UNSAFE.sub(lambda unsafe: unsafe[0].encode("unicode_escape").decode(), text)


def _print_course(course: CourseReport, out: Console, *, dry_run: bool) -> None:
    _print(out, f"{course.name}: {_summary(course, dry_run=dry_run)}", "bold")
    if course.plan is not None:
        _print_plan(course.plan, out)
    for fault in course.errors:
        _print(out, f"  {line_of(fault)}", "red")
    for fault in course.notes:
        _print(out, f"  note: {line_of(fault)}", "dim")
    if course.refusal is not None:
        _print(out, f"  refused: {course.refusal.message}", "red")
        for name in course.refusal.items:
            _print(out, f"    {name}", "red")


def line_of(fault: Fault) -> str:
    """`file:line:column: message (hint)`, which editors and terminals turn into a link."""
    hint = f" ({fault.hint})" if fault.hint else ""
    return f"{fault.file}:{fault.line}:{fault.column}: {fault.message}{hint}"


def _summary(course: CourseReport, *, dry_run: bool) -> str:
    if course.plan is None:
        return f"not loaded, {_count(len(course.errors), 'fault')}" if course.errors else "no course"
    if course.refusal is not None:
        return f"{course.plan.action} refused"
    if course.plan.action is Action.UNCHANGED:
        return "unchanged"
    done = "would be " if dry_run else ""
    verb = {Action.CREATE: "created", Action.UPDATE: "updated"}[course.plan.action]
    return f"{done}{verb}: {_describe(course.plan)}"


def _describe(plan: CoursePlan) -> str:
    """How much changes, such as `1 lesson created, 2 lessons updated`."""
    counts = Counter((item.action, item.kind) for item in plan.items if item.action is not Action.UNCHANGED)
    words = {Action.CREATE: "created", Action.UPDATE: "updated", Action.MISSING: "missing in the source"}
    parts = [f"{_count(number, kind)} {words[action]}" for (action, kind), number in counts.items()]
    fields = [change.field for change in plan.changes]
    return ", ".join([*parts, *([f"course: {', '.join(fields)}"] if fields else [])]) or "only what was last loaded"


def _print_plan(plan: CoursePlan, out: Console) -> None:
    for change in plan.changes:
        _print(out, f"  ~ {_change(change)}", "yellow")
    for item in plan.items:
        # A new course is new in every item.
        if item.action in SIGNS and plan.action is not Action.CREATE:
            sign, style = SIGNS[item.action]
            _print(out, f"  {sign} {_title(item)}", style)
            for change in item.changes:
                _print(out, f"      {_change(change)}", "dim")


def _title(item: Item) -> str:
    where = f" ({item.file})" if item.file else " (not in the source any more; kept)"
    edited = ", edited in the app" if item.edited else ""
    return f"{item.kind} {item.title}{where}{edited}"


def _change(change: Change) -> str:
    return f"{change.field}: {shortened(change.old)} -> {shortened(change.new)}"


def shortened(value: Any) -> str:
    """A value on one line; a long text by its start and its length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"


def _totals(report: LoadReport) -> str:
    errors = sum(len(course.errors) for course in report.courses)
    notes = sum(len(course.notes) for course in report.courses)
    written = sum(course.applied for course in report.courses)
    planned = [course for course in report.courses if course.plan is not None]
    parts = [_count(len(planned), "course"), f"{written} written", _count(errors, "fault"), _count(notes, "note")]
    return f"{', '.join(parts)}{' (dry run)' if report.dry_run else ''}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def to_json(report: LoadReport) -> dict[str, Any]:
    """What `print_report` shows, for programs; long texts are shortened here too."""
    return {
        "dry_run": report.dry_run,
        "exit_code": report.exit_code,
        "courses": [_course_json(course) for course in report.courses],
    }


def _course_json(course: CourseReport) -> dict[str, Any]:
    return {
        "name": course.name,
        "applied": course.applied,
        "errors": msgspec.to_builtins(course.errors),
        "notes": msgspec.to_builtins(course.notes),
        "refusal": msgspec.to_builtins(course.refusal),
        "plan": None if course.plan is None else _plan_json(course.plan),
    }


def _plan_json(plan: CoursePlan) -> dict[str, Any]:
    return {
        "source": plan.source,
        "source_id": plan.source_id,
        "title": plan.title,
        "action": plan.action.value,
        "course_id": None if plan.seen is None else str(plan.seen.id),
        "edited": plan.edited,
        "changes": _changes_json(plan.changes),
        "items": [_item_json(item) for item in plan.items],
    }


def _item_json(item: Item) -> dict[str, Any]:
    names = ("kind", "id", "source_id", "title", "file", "edited")
    values = {name: getattr(item, name) for name in names}
    return values | {"action": item.action.value, "changes": _changes_json(item.changes)}


def _changes_json(changes: list[Change]) -> list[dict[str, str]]:
    return [{"field": change.field, "old": shortened(change.old), "new": shortened(change.new)} for change in changes]
