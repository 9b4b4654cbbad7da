"""SECURITY.md is true: it answers every requirement, and the tests that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)

# Of levels 1 and 2 in ASVS 5.0.0, by section: how many there are from 1 on.
REQUIREMENTS = {
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4,
    "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2,
    "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1,
    "9.1": 3, "9.2": 4,
    "10.1": 2, "10.2": 2, "10.3": 4, "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3,
}  # fmt: skip


def test_every_requirement_has_one_answer() -> None:
    wanted = [f"{section}.{number}" for section, count in REQUIREMENTS.items() for number in range(1, count + 1)]
    assert [number for number, *_ in ROWS] == wanted


@pytest.mark.parametrize(("number", "asks", "verdict", "by"), ROWS)
def test_the_answer_says_why_and_what_it_names_exists(number: str, asks: str, verdict: str, by: str) -> None:
    assert verdict in {"met", "n/a", "accepted"}
    assert len(by) > 5
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", by):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text, f"{file} has no {name}"


def test_most_answers_can_be_seen_to_fail() -> None:
    met = [by for _, _, verdict, by in ROWS if verdict == "met"]
    assert sum("`tests/" in by for by in met) > len(met) * 3 / 4
