import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.accounts.rules import Refreshing, judge_refresh, normal_email

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
GRACE = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("sam@school.example", "sam@school.example"),
        ("  Sam@School.Example\n", "sam@school.example"),
        ("JOS\xc9@school.example", "jos\xe9@school.example"),
        ("Jose\u0301@school.example", "jos\xe9@school.example"),
        ("H\u0331@school.example", "\u1e96@school.example"),
    ],
)
def test_an_address_has_one_spelling(typed: str, stored: str) -> None:
    assert normal_email(typed) == stored


@given(st.text(max_size=20))
def test_the_one_spelling_of_an_address_stays(text: str) -> None:
    once = normal_email(text)
    assert normal_email(once) == once
    assert normal_email(unicodedata.normalize("NFD", text)) == once


@pytest.mark.parametrize(
    ("presented", "current", "age", "verdict"),
    [
        (0, 0, 0, Refreshing.ROTATE),
        (5, 5, 10_000, Refreshing.ROTATE),
        (4, 5, 0, Refreshing.REPEAT),
        (4, 5, 60, Refreshing.REPEAT),
        (4, 5, 60.001, Refreshing.END_FAMILY),
        (3, 5, 0, Refreshing.END_FAMILY),
        (6, 5, 0, Refreshing.END_FAMILY),
    ],
)
def test_what_a_refresh_token_deserves(presented: int, current: int, age: float, verdict: Refreshing) -> None:
    assert judge_refresh(presented, current, NOW - timedelta(seconds=age), NOW, GRACE) is verdict


def test_a_rotation_by_a_process_whose_clock_is_ahead_is_repeated() -> None:
    assert judge_refresh(0, 1, NOW + timedelta(seconds=2), NOW, GRACE) is Refreshing.REPEAT
