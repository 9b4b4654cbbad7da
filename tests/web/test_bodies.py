from typing import Annotated, Any

import msgspec
import pytest

from lms.errors import Invalid
from lms.schemas import Input, Patch
from lms.web.bodies import MAX_ERRORS, MalformedJson, decode_body

pytestmark = pytest.mark.quick


class Tide(Input):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)]
    height: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Beach(Input):
    tides: Annotated[list[Tide], msgspec.Meta(max_length=3)]
    slug: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", description="Lower-case letters.")] = "beach"
    code: Annotated[str, msgspec.Meta(pattern="^[0-9]+$")] | None = None
    notes: dict[str, int] = {}
    either: int | str = 0


class Change(Patch):
    name: Annotated[str, msgspec.Meta(max_length=5)] | msgspec.UnsetType = msgspec.UNSET


def broken(body: bytes, wanted: Any = Beach) -> dict[str, str]:
    with pytest.raises(Invalid) as invalid:
        decode_body(body, wanted)
    return {str(error.pointer): error.message for error in invalid.value.errors}


def test_a_good_body_is_decoded() -> None:
    beach = decode_body(b'{"tides": [{"name": "ebb", "height": 1.5}], "either": "x"}', Beach)
    assert beach == Beach(tides=[Tide(name="ebb", height=1.5)], either="x")
    assert decode_body(b"{}", Change).changes() == {}
    assert decode_body(b'{"name": "x"}', Change).changes() == {"name": "x"}


def test_every_broken_field_is_named_at_its_place() -> None:
    body = b'{"tides": [{"name": "ebb"}, {"name": "", "height": -1, "moon": 1}, 7, {}], "slug": "A", "extra": 1}'
    assert broken(body) == {
        "#/tides/1/name": "Expected str of length >= 1.",
        "#/tides/1/height": "Expected float >= 0.0.",
        "#/tides/1/moon": "There is no such field.",
        "#/tides/2": "Expected object, got int.",
        "#/tides/3/name": "This field is required.",
        "#/slug": "Expected: Lower-case letters.",
        "#/extra": "There is no such field.",
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"tides": {}}', {"#/tides": "Expected array, got object."}),
        (b'{"tides": [' + b",".join([b'{"name":"a"}'] * 4) + b"]}", {"#/tides": "Expected array of length <= 3."}),
        (b'{"tides": [], "code": "x"}', {"#/code": "Not of the form that is expected."}),
        (b'{"tides": [], "notes": {"a/b~c": "x"}}', {"#/notes/...": "Expected int, got str."}),
        (b'{"tides": [], "either": []}', {"#/either": "Expected int | str, got array."}),
        (b"3", {"#": "Expected object, got int."}),
        (b"[]", {"#": "Expected object, got array."}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(body: bytes, expected: dict[str, str]) -> None:
    assert broken(body) == expected


def test_names_of_unknown_fields_are_escaped_and_cut() -> None:
    found = broken(b'{"tides": [], "a/b~c": 1, "' + b"x" * 500 + b'": 1}')
    assert set(found) == {"#/a~1b~0c", "#/" + "x" * 100}


def test_the_list_of_mistakes_ends() -> None:
    many = b'{"tides": [' + b",".join([b"{}"] * 1000) + b"]}"
    assert len(broken(many, Beach)) == MAX_ERRORS


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{}x", b"nope", b'"\xff"', b'{"tides": [], "extra": ' + b"[" * 50_000, b"\x00", b"\xff\xfe{\x00}"],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_body(body, Beach)


def test_broken_json_after_a_broken_field_is_malformed() -> None:
    with pytest.raises(MalformedJson):
        decode_body(b'{"tides": 3, "x": [', Beach)
