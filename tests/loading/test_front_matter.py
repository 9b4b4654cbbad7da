import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.loading.faults import Faults
from lms.loading.front_matter import first_heading, lesson_text, plain_title, read_page, split_front_matter
from tests.loading.trees import places

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("---\na: 1\n---\nBody\n", ("a: 1\n", "Body\n")),
        ("---\n---\nBody", ("", "Body")),
        ("---  \na: 1\n--- \n", ("a: 1\n", "")),
        ("---\na: 1\n---", ("a: 1\n", "")),
        ("\n---\na: 1\n---\n", ("", "\n---\na: 1\n---\n")),
        ("Body\n---\n", ("", "Body\n---\n")),
        ("----\n", ("", "----\n")),
        ("", ("", "")),
        ("---\na: 1\n", None),
        ("---", None),
    ],
)
def test_front_matter_stands_between_the_first_two_fences(text: str, parts: tuple[str, str] | None) -> None:
    assert split_front_matter(text) == parts


def test_lines_of_front_matter_count_from_the_start_of_the_file() -> None:
    faults = Faults()
    assert read_page("---\ntitle: x\ntitle: y\n---\n", "a.md", faults) is None
    assert places(faults.errors) == [("a.md", 3, 1, "duplicate_key")]


def test_an_open_front_matter_is_a_fault_with_a_way_out() -> None:
    faults = Faults()
    assert read_page("---\n\nA page that starts with a rule.\n", "a.md", faults) is None
    assert places(faults.errors) == [("a.md", 1, 1, "front_matter_open")]
    assert "horizontal rule" in faults.errors[0].hint


def test_text_between_two_rules_is_no_front_matter_and_says_so() -> None:
    faults = Faults()
    assert read_page("---\nwords\n---\n", "a.md", faults) is None
    assert places(faults.errors) == [("a.md", 2, 1, "yaml_no_mapping")]
    assert "horizontal rule" in faults.errors[0].hint


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("# Hello\n\nBody\n", "Body\n"),
        ("\n\n# `Hello` #\n\nBody", "Body\n"),
        ("# Other\n\nBody\n", "# Other\n\nBody\n"),
        ("<!--\nCopyright\n-->\n\n# Hello\n\nBody\n", "<!--\nCopyright\n-->\n\nBody\n"),
        ("Body\n\n# Hello\n", "Body\n\n# Hello\n"),
        ("# Hello", ""),
        ("<!-- open\n# Hello\n", "<!-- open\n# Hello\n"),
        ("", ""),
    ],
)
def test_the_first_heading_is_dropped_where_it_repeats_the_title(body: str, text: str) -> None:
    assert lesson_text(body, "hello") == text


@pytest.mark.parametrize(
    ("body", "title"),
    [("# C#\n", "C#"), ("<!-- x -->\n# A **b** ##\n", "A b"), ("## Second\n", None), ("Text", None), ("#\n", None)],
)
def test_the_first_heading_is_read_without_its_marks(body: str, title: str | None) -> None:
    assert first_heading(body) == title


@pytest.mark.parametrize(
    ("markdown", "title"),
    [
        ("`if` Expressions", "if Expressions"),
        ("MaybeUninit<T>", "MaybeUninit<T>"),
        ("Example: may_overflow", "Example: may_overflow"),
        ("``a ` b``", "a ` b"),
        ("*One* and **two** and _three_", "One and two and three"),
        (r"\*mut T\* and *mut T", "*mut T* and *mut T"),
        ("`*not*`  spaced", "*not* spaced"),
        ("  ", ""),
    ],
)
def test_a_title_loses_its_marks_and_keeps_its_code(markdown: str, title: str) -> None:
    assert plain_title(markdown) == title


def test_hostile_pages_take_no_longer_than_others() -> None:
    for text in ("`" * 300_000, "# " + " #" * 300_000, "\n" * 1_000_000, "<!--" * 200_000, "# " + "*a" * 100_000):
        lesson_text(text, first_heading(text) or "")


@given(st.text(st.characters(codec="utf-8")) | st.text("-\n a:#", max_size=30))
def test_no_page_breaks_the_reader_and_nothing_of_it_is_lost(text: str) -> None:
    faults = Faults()
    page = read_page(text, "a.md", faults)
    assert (page is None) == bool(faults.errors)
    if page is not None:
        assert text.endswith(page.body)
        lesson_text(page.body, first_heading(page.body) or "")
