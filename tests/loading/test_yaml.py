import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.loading.faults import Faults, Place
from lms.loading.yaml_lines import YamlDocument, read_yaml
from tests.loading.trees import places

pytestmark = pytest.mark.quick


def read(text: str, first_line: int = 1) -> tuple[YamlDocument | None, list[tuple[str, int, int, str]]]:
    faults = Faults()
    document = read_yaml(text, "x.yaml", faults, first_line)
    return document, places(faults.errors)


def value_of(text: str) -> object:
    document, faults = read(text)
    assert not faults
    assert document is not None
    return document.value


def test_values_are_those_of_the_core_schema() -> None:
    text = (
        "a: no\nb: true\nc: 0x1f\nd: 1.5e3\ne: ~\nf:\ng: 2024-01-01\nh: 010\ni: .inf\nj: [1, 'x', {k: off}]\nk: 0o17\n"
    )
    assert value_of(text) == {
        "a": "no",
        "b": True,
        "c": 31,
        "d": 1500.0,
        "e": None,
        "f": None,
        "g": "2024-01-01",
        "h": 10,
        "i": ".inf",
        "j": [1, "x", {"k": "off"}],
        "k": 15,
    }


def test_places_count_from_the_start_of_the_file() -> None:
    document, _ = read("title: Héllo\nmetadata:\n  level/1:\n    - a\n    - b\n", first_line=2)
    assert document is not None
    assert document.places["#/title"] == Place(2, 8)
    assert document.places["#/metadata/level~11/1"] == Place(6, 7)
    assert document.keys["#/metadata/level~11"] == Place(4, 3)
    assert document.place_of("#/metadata/nothing/here") == Place(4, 3)
    assert document.place_of("#/nothing") == Place(2, 1)


@pytest.mark.parametrize(
    ("text", "line", "column", "code"),
    [
        ("a: 1\nb: [1, 2\n", 3, 1, "yaml_syntax"),
        ("a: 1\n\tb: 2\n", 2, 1, "yaml_syntax"),
        ("a: b: c\n", 1, 5, "yaml_syntax"),
        ("a: 1\nb: x\x07y\n", 2, 5, "yaml_syntax"),
        ("a: 1\n---\nb: 2\n", 2, 1, "yaml_syntax"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate_key"),
        ("m:\n  a: 1\n  a: 1\n", 3, 3, "duplicate_key"),
        ("a: &x [1]\n", 1, 4, "yaml_alias"),
        ("a: 1\nb: *x\n", 2, 4, "yaml_alias"),
        ("1: a\n", 1, 1, "key_no_text"),
        ("a: 1\n? [b, c]\n: d\n", 2, 3, "key_no_text"),
        ('a: {"x\\0y": 1}\n', 1, 5, "nul_byte"),
        ("a: !!python/object:os.system 1\n", 1, 4, "yaml_tag"),
        ("a: !!set {x}\n", 1, 4, "yaml_tag"),
        ("a: !!binary aGVsbG8=\n", 1, 4, "yaml_tag"),
        ("a: !mine [1]\n", 1, 4, "yaml_tag"),
        ("a: 9223372036854775808\n", 1, 4, "bad_number"),
        ("a: 1e999\n", 1, 4, "bad_number"),
        (f"a: {'9' * 5000}\n", 1, 4, "bad_number"),
        ("- a\n- b\n", 1, 1, "yaml_no_mapping"),
        ("just words\n", 1, 1, "yaml_no_mapping"),
        ("a: " + "[" * 50 + "]" * 50, 1, 43, "yaml_too_deep"),
    ],
)
def test_what_a_course_file_has_no_use_for_is_a_fault_with_its_place(
    text: str, line: int, column: int, code: str
) -> None:
    document, faults = read(text)
    assert document is None
    assert faults == [("x.yaml", line, column, code)]


def test_every_fault_of_a_file_is_told_at_once() -> None:
    _, faults = read("a: 1\na: 2\n3: x\nb: !x y\nc: 1e999\n")
    assert [(line, code) for _, line, _, code in faults] == [
        (2, "duplicate_key"),
        (3, "key_no_text"),
        (4, "yaml_tag"),
        (5, "bad_number"),
    ]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "~\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    assert value_of(text) == {}


def test_aliases_cannot_unfold_to_more_than_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    _, faults = read("\n".join(lines))
    assert faults == [("x.yaml", 1, 5, "yaml_alias")]


@given(st.text(st.characters(codec="utf-8"), max_size=200) | st.text("ab:-[]{}&*!#'\"\n \t?|>%@0.~,", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    document, faults = read(text)
    assert (document is None) == bool(faults)


@pytest.mark.parametrize("end", ["\n", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("levels", [45, 400])
def test_no_kind_of_line_end_hides_how_deep_it_goes(end: str, levels: int) -> None:
    text = end.join(" " * level + "a:" for level in range(levels))
    document, faults = read(text)
    assert document is None
    assert [code for _, _, _, code in faults] == ["yaml_too_deep"]


@pytest.mark.parametrize("text", ["- " * 50 + "x", "? " * 50 + "x", "a: " + "[{b: " * 25 + "1" + "}]" * 25])
def test_depth_on_one_line_is_seen(text: str) -> None:
    assert [code for _, _, _, code in read(text)[1]] == ["yaml_too_deep"]
