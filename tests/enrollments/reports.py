"""Hypothesis strategies for progress: three devices that report on one lesson."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lms.enrollments.rules import Report, new_entry

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
SECONDS = st.integers(0, 700)


def _interval(ends: tuple[int, int]) -> tuple[int, int]:
    return min(ends), max(ends) + 1


DATA = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["$x", "page", "a.b"]), st.integers(0, 3)), st.just("$page")
)


def _report(values: dict[str, Any]) -> Report:
    data_bytes = b"" if values["data"] is None else msgspec.json.encode(values["data"], order="deterministic")
    return Report(**values, data_bytes=data_bytes)


def reports() -> SearchStrategy[Report]:
    return st.fixed_dictionaries(
        {
            "state": st.integers(0, 2),
            "at": st.integers(0, 3).map(lambda seconds: START + timedelta(seconds=seconds)),
            "device": st.sampled_from(["phone", "tablet", "laptop"]),
            "sequence": st.integers(0, 3),
            "position": st.none() | SECONDS,
            "watched": st.lists(st.tuples(SECONDS, SECONDS).map(_interval), max_size=3).map(tuple),
            "data": DATA,
            "epoch": st.none() | st.integers(0, 2),
        }
    ).map(_report)


def entries() -> SearchStrategy[dict[str, Any]]:
    return st.builds(
        new_entry, required=st.booleans(), duration_minutes=st.none() | st.integers(1, 15), epoch=st.integers(0, 2)
    )
