"""Strict reading of JSON bodies: every broken field is found, not only the first one.

msgspec stops at the first error, so a body that fails is walked field by field against its type.
"""

import re
import types
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from lms.errors import BadRequest, FieldError, Invalid

MAX_ERRORS = 100
_PATH = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class MalformedJson(BadRequest):
    detail = "The body is not valid JSON."


@lru_cache(maxsize=512)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def decode_body(body: bytes, wanted: Any) -> Any:
    """`body` as `wanted`. Raises `MalformedJson` (400) or `Invalid` (422) with every broken field."""
    try:
        return _decoder(wanted).decode(body)
    except msgspec.ValidationError:
        raise Invalid(errors=list(_take(find_errors(_parse(body), wanted)))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None


def _parse(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None


def _take(errors: Iterator[FieldError]) -> Iterator[FieldError]:
    for _, error in zip(range(MAX_ERRORS), errors, strict=False):
        yield error


def find_errors(value: Any, wanted: Any, at: str = "#") -> Iterator[FieldError]:
    """Every way in which `value` is not a `wanted`, each with its JSON pointer."""
    first = _first_error(value, wanted)
    if first is None:
        return
    found = False
    for error in _inside(value, _plain(wanted), at):
        found = True
        yield error
    if not found:
        yield _as_field_error(first, at, _description(wanted))


def _first_error(value: Any, wanted: Any) -> str | None:
    try:
        msgspec.convert(value, wanted, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _inside(value: Any, wanted: Any, at: str) -> Iterator[FieldError]:
    if isinstance(value, dict) and isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        yield from _struct_errors(typing.cast("dict[str, Any]", value), wanted, at)
    elif isinstance(value, list) and typing.get_origin(wanted) is list:
        for index, item in enumerate(typing.cast("list[Any]", value)):
            yield from find_errors(item, typing.get_args(wanted)[0], f"{at}/{index}")


def _struct_errors(value: dict[str, Any], wanted: type[msgspec.Struct], at: str) -> Iterator[FieldError]:
    hints = typing.get_type_hints(wanted, include_extras=True)
    fields = msgspec.structs.fields(wanted)
    for field in fields:
        if field.encode_name in value:
            yield from find_errors(value[field.encode_name], hints[field.name], f"{at}/{field.encode_name}")
        elif field.required:
            yield FieldError(code="required", message="This field is required.", pointer=f"{at}/{field.encode_name}")
    known = {field.encode_name for field in fields}
    if wanted.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - known:
            message = "There is no such field."
            yield FieldError(code="unknown_field", message=message, pointer=f"{at}/{_escape(name)}")


def _plain(wanted: Any) -> Any:
    """The one struct or list that `wanted` means, without its limits and without `None` or `UNSET`."""
    while typing.get_origin(wanted) is typing.Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        options = [one for one in typing.get_args(wanted) if one not in (types.NoneType, msgspec.UnsetType)]
        return _plain(options[0]) if len(options) == 1 else wanted
    return wanted


def _description(wanted: Any) -> str:
    """What the type says of itself in words, which reads better than the pattern that holds it."""
    if typing.get_origin(wanted) is typing.Annotated:
        notes = (note.description for note in wanted.__metadata__ if isinstance(note, msgspec.Meta))
        return next((text for text in notes if text), "")
    options = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else ()
    return next((text for option in options if (text := _description(option))), "")


def _as_field_error(message: str, at: str, description: str) -> FieldError:
    match = _PATH.search(message)
    steps = "".join(f"/{_escape(name or index)}" for name, index in _STEP.findall(match[1])) if match else ""
    text = _PATH.sub("", message).replace("`", "")
    if "matching regex" in text:
        text = f"Expected: {description.rstrip('.')}" if description else "Not of the form that is expected"
    return FieldError(code="invalid", message=f"{text}.", pointer=at + steps)


def _escape(name: str) -> str:
    """RFC 6901 and, since a pointer stands behind `#`, cut where a client sent nonsense."""
    return name.replace("~", "~0").replace("/", "~1")[:100]
