import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.outline.rules import (
    OutlineNotWhole,
    Place,
    WantedModule,
    inside_of,
    places_of,
    places_without,
    tree_of,
)


def a_module(module_id: str, order: int, parent: str | None = None) -> dict[str, Any]:
    return {"id": module_id, "title": module_id.upper(), "parent_id": parent, "order": order}


def a_lesson(lesson_id: str, order: int, module: str) -> dict[str, Any]:
    return {"id": lesson_id, "title": lesson_id.upper(), "module_id": module, "order": order}


MODULES = [a_module("a", 0), a_module("b", 1), a_module("a1", 1, "a"), a_module("a2", 3, "a")]
LESSONS = [a_lesson("x", 0, "a"), a_lesson("y", 2, "a"), a_lesson("z", 0, "a1")]


def wanted_of(tree: list[dict[str, Any]]) -> list[WantedModule]:
    return [
        WantedModule(one["id"], one["parent_id"], one["after_lessons"], [lesson["id"] for lesson in one["lessons"]])
        for one in tree
    ]


def test_a_tree_has_everything_in_its_place() -> None:
    shown = [(one["id"], one["after_lessons"], [lesson["id"] for lesson in one["lessons"]]) for one in tree()]
    assert shown == [("a", 0, ["x", "y"]), ("a1", 1, ["z"]), ("a2", 2, []), ("b", 0, [])]


def tree() -> list[dict[str, Any]]:
    return tree_of(MODULES, LESSONS)


def test_what_was_read_and_is_put_back_moves_nothing() -> None:
    places = places_of(wanted_of(tree()), MODULES, LESSONS)
    assert places == {
        **{one["id"]: Place(one["parent_id"], one["order"]) for one in MODULES},
        **{one["id"]: Place(one["module_id"], one["order"]) for one in LESSONS},
    }


def test_a_sub_module_follows_all_lessons_where_nothing_is_said() -> None:
    wanted = [WantedModule("a", None, None, ["x", "y"]), WantedModule("b", "a", None, [])]
    places = places_of(wanted, [a_module("a", 0), a_module("b", 1)], LESSONS[:2])
    assert places == {"a": Place(None, 0), "x": Place("a", 0), "y": Place("a", 1), "b": Place("a", 2)}


def test_modules_keep_the_order_of_the_list_whatever_number_they_bring_along() -> None:
    wanted = [
        WantedModule("a", None, 7, ["x", "y"]),
        WantedModule("b", "a", 9, []),
        WantedModule("a1", "a", 0, ["z"]),
        WantedModule("a2", None, 3, []),
    ]
    places = places_of(wanted, MODULES, LESSONS)
    assert (places["b"], places["a1"]) == (Place("a", 2), Place("a", 3))
    assert (places["a"], places["a2"]) == (Place(None, 0), Place(None, 1))


@pytest.mark.parametrize(
    ("wanted", "errors"),
    [
        ([], {"missing #/modules"}),
        (
            [
                WantedModule("a", None, None, ["x", "y", "x", "b"]),
                WantedModule("b", "b", None, []),
                WantedModule("a1", "nowhere", None, ["z"]),
                WantedModule("a", None, None, []),
                WantedModule("q", None, None, ["r"]),
            ],
            {
                "duplicate #/modules/0/lessons/2/id",
                "unknown #/modules/0/lessons/3/id",
                "duplicate #/modules/1/id",
                "cycle #/modules/1/parent_id",
                "unknown #/modules/2/parent_id",
                "duplicate #/modules/3/id",
                "unknown #/modules/4/id",
                "unknown #/modules/4/lessons/0/id",
                "missing #/modules",
            },
        ),
        (
            [
                WantedModule("a", "a2", None, ["x", "y", "z"]),
                WantedModule("a1", "a", None, []),
                WantedModule("a2", "a1", None, []),
                WantedModule("b", None, None, []),
            ],
            {f"cycle #/modules/{index}/parent_id" for index in range(3)},
        ),
    ],
)
def test_all_that_is_wrong_with_an_outline_is_told(wanted: list[WantedModule], errors: set[str]) -> None:
    with pytest.raises(OutlineNotWhole) as refused:
        places_of(wanted, MODULES, LESSONS)
    assert {f"{one.code} {one.pointer}" for one in refused.value.errors} == errors


def test_what_is_missing_is_named() -> None:
    with pytest.raises(OutlineNotWhole) as refused:
        places_of(wanted_of(tree())[:1], MODULES, LESSONS)
    assert [one.message for one in refused.value.errors] == [
        "The module b is missing: B.",
        "The module a1 is missing: A1.",
        "The module a2 is missing: A2.",
        "The lesson z is missing: Z.",
    ]


@given(st.integers(min_value=0, max_value=2**32), st.integers(0, 8), st.integers(0, 12))
def test_any_tree_is_gap_free_and_reads_as_it_was_put(seed: int, modules: int, lessons: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    if not modules:
        lessons = 0
    names = [f"m{n}" for n in range(modules)]
    stored_modules = [a_module(name, 0) for name in names]
    stored_lessons = [a_lesson(f"l{n}", 0, "m0") for n in range(lessons)]
    rng.shuffle(names)
    inside: dict[str, list[str]] = {name: [] for name in names}
    for n in range(lessons):
        inside[rng.choice(names)].append(f"l{n}")
    wanted = [
        WantedModule(name, rng.choice([None, *names[:index]]), rng.choice([None, 0, 1, 5]), inside[name])
        for index, name in enumerate(names)
    ]
    places = places_of(wanted, stored_modules, stored_lessons)
    assert set(places) == {*names, *(f"l{n}" for n in range(lessons))}
    for parent in (None, *names):
        orders = sorted(place.order for place in places.values() if place.parent == parent)
        assert orders == list(range(len(orders)))
    for one in wanted:
        assert [places[lesson].parent for lesson in one.lessons] == [one.id] * len(one.lessons)
        assert sorted(one.lessons, key=lambda lesson: places[lesson].order) == list(one.lessons)
    moved = [{**one, "parent_id": places[one["id"]].parent, "order": places[one["id"]].order} for one in stored_modules]
    placed = [
        {**one, "module_id": places[one["id"]].parent, "order": places[one["id"]].order} for one in stored_lessons
    ]
    assert places_of(wanted_of(tree_of(moved, placed)), moved, placed) == places


def test_who_was_beside_what_goes_moves_up_and_nobody_else() -> None:
    assert places_without({"x"}, MODULES, LESSONS) == {
        "a1": Place("a", 0),
        "y": Place("a", 1),
        "a2": Place("a", 2),
    }
    assert places_without({"a", "a1", "a2", "x", "y", "z"}, MODULES, LESSONS)["b"] == Place(None, 0)


def test_what_is_in_a_module_is_found_at_any_depth() -> None:
    deep = [*MODULES, a_module("a11", 1, "a1")]
    lessons = [*LESSONS, a_lesson("w", 0, "a11")]
    assert inside_of("a", deep, lessons) == ({"a1", "a2", "a11"}, ["x", "y", "z", "w"])
    assert inside_of("a1", deep, lessons) == ({"a11"}, ["z", "w"])
    assert inside_of("b", deep, lessons) == (set(), [])
