"""Places in the tree of a course: lessons and sub-modules of a module share one order from 0, without gaps. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lms.courses.rules import in_order
from lms.errors import Conflict, FieldError, Invalid, NotFound

Items = Sequence[Mapping[str, Any]]


class ModuleNotFound(NotFound):
    detail = "There is no such module in this course."


class ModuleNotEmpty(Conflict):
    detail = "There are lessons or modules in this module; move them, or delete them as well with `?lessons=delete`."


class OutlineNotWhole(Invalid):
    code = "outline_not_whole"
    detail = "An outline names every module and every lesson of the course exactly once."


@dataclass(frozen=True, slots=True)
class Place:
    """`parent` is the module that a lesson or sub-module is in."""

    parent: str | None
    order: int


@dataclass(frozen=True, slots=True)
class WantedModule:
    """A module as a client wants it. `after_lessons` None: behind all lessons of its parent."""

    id: str
    parent_id: str | None
    after_lessons: int | None
    lessons: Sequence[str]


def tree_of(modules: Items, lessons: Items) -> list[dict[str, Any]]:
    """Modules as they are read, each with its `lessons` and how many of its parent's lessons it follows."""
    ordered, in_reading_order = in_order(modules, lessons)
    inside: dict[str, list[Mapping[str, Any]]] = {one["id"]: [] for one in ordered}
    for lesson in in_reading_order:
        inside.get(lesson["module_id"], []).append(lesson)

    def follows(module: Mapping[str, Any]) -> int:
        beside = inside.get(module["parent_id"] or "", [])
        return sum(lesson["order"] <= module["order"] for lesson in beside)

    return [{**one, "lessons": inside[one["id"]], "after_lessons": follows(one)} for one in ordered]


def places_of(wanted: Sequence[WantedModule], modules: Items, lessons: Items) -> dict[str, Place]:
    """The place of each module and lesson by its id. Raises `OutlineNotWhole` with all that is wrong."""
    errors = [*_misnamed(wanted, modules, lessons), *_missing(wanted, modules, lessons), *_misplaced(wanted)]
    if errors:
        raise OutlineNotWhole(errors=errors)
    children: dict[str | None, list[str]] = {one.id: [*one.lessons] for one in wanted}
    children[None] = []
    put: dict[str | None, int] = dict.fromkeys(children, 0)
    reached: dict[str | None, int] = dict.fromkeys(children, 0)
    for one in wanted:
        siblings, before = children[one.parent_id], put[one.parent_id]
        most = len(siblings) - before
        after = most if one.after_lessons is None else min(one.after_lessons, most)
        # Modules keep the order of the list, whatever number a moved one brings along.
        reached[one.parent_id] = max(reached[one.parent_id], after)
        siblings.insert(reached[one.parent_id] + before, one.id)
        put[one.parent_id] += 1
    return {child: Place(parent, order) for parent, ids in children.items() for order, child in enumerate(ids)}


def _named(wanted: Sequence[WantedModule]) -> Iterator[tuple[str, str, bool]]:
    """Each id with its pointer, and whether it stands for a lesson."""
    for index, module in enumerate(wanted):
        yield module.id, f"#/modules/{index}/id", False
        for place, lesson_id in enumerate(module.lessons):
            yield lesson_id, f"#/modules/{index}/lessons/{place}/id", True


def _misnamed(wanted: Sequence[WantedModule], modules: Items, lessons: Items) -> Iterator[FieldError]:
    known = {False: {one["id"] for one in modules}, True: {one["id"] for one in lessons}}
    seen: set[str] = set()
    for one, pointer, is_lesson in _named(wanted):
        if one not in known[is_lesson]:
            kind = "lesson" if is_lesson else "module"
            yield FieldError(code="unknown", message=f"There is no such {kind} in this course.", pointer=pointer)
        elif one in seen:
            yield FieldError(code="duplicate", message="It is named before.", pointer=pointer)
        seen.add(one)


def _missing(wanted: Sequence[WantedModule], modules: Items, lessons: Items) -> Iterator[FieldError]:
    named = {one for one, _, _ in _named(wanted)}
    for kind, items in (("module", modules), ("lesson", lessons)):
        for one in items:
            if one["id"] not in named:
                message = f"The {kind} {one['id']} is missing: {one['title'] or 'untitled'}."
                yield FieldError(code="missing", message=message, pointer="#/modules")


def _misplaced(wanted: Sequence[WantedModule]) -> Iterator[FieldError]:
    """A parent must be named, and no module is inside of itself."""
    parents = {one.id: one.parent_id for one in wanted}
    grounded: set[str | None] = {None}
    for index, module in enumerate(wanted):
        if module.parent_id is not None and module.parent_id not in parents:
            yield _parent_error("unknown", "There is no such module in this outline.", index)
            continue
        path: set[str] = set()
        at: str | None = module.id
        while at is not None and at in parents and at not in grounded and at not in path:
            path.add(at)
            at = parents[at]
        if at in path:
            yield _parent_error("cycle", "The module would be inside of itself.", index)
        else:
            grounded |= path


def _parent_error(code: str, message: str, index: int) -> FieldError:
    return FieldError(code=code, message=message, pointer=f"#/modules/{index}/parent_id")


def places_without(gone: Collection[str], modules: Items, lessons: Items) -> dict[str, Place]:
    """Who was beside what goes moves up; others stay as they are."""
    homes = {one["parent_id"] for one in modules if one["id"] in gone}
    homes |= {one["module_id"] for one in lessons if one["id"] in gone}
    places: dict[str, Place] = {}
    for home in homes:
        beside = [(one["order"], True, one["id"]) for one in modules if one["parent_id"] == home]
        beside += [(one["order"], False, one["id"]) for one in lessons if one["module_id"] == home]
        staying = [one_id for _, _, one_id in sorted(beside) if one_id not in gone]
        places |= {one_id: Place(home, order) for order, one_id in enumerate(staying)}
    return places


def inside_of(module_id: str, modules: Items, lessons: Items) -> tuple[set[str], list[str]]:
    """The modules and the lessons in a module, at any depth."""
    below: dict[str | None, list[str]] = {}
    for one in modules:
        below.setdefault(one["parent_id"], []).append(one["id"])
    found: set[str] = set()
    waiting = [module_id]
    while waiting:
        children = [one for one in below.get(waiting.pop(), []) if one not in found]
        found.update(children)
        waiting += children
    homes = found | {module_id}
    return found - {module_id}, [one["id"] for one in lessons if one["module_id"] in homes]
