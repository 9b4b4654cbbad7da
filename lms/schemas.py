"""Bases of every wire type. Only msgspec structs cross HTTP."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import msgspec


class Moment(str):
    """A time on the wire: RFC 3339 in UTC with exactly three digits of milliseconds."""

    __slots__ = ()

    @classmethod
    def of(cls, time: datetime) -> Self:
        return cls(f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z")


def from_stored(wanted: type[Any], value: Any) -> Any:
    """What msgspec cannot turn into a wire type by itself. Raises NotImplementedError for anything else."""
    if wanted is Moment and isinstance(value, datetime):
        return Moment.of(value)
    raise NotImplementedError(f"{type(value).__name__} to {wanted.__name__}")


def encode(value: object) -> bytes:
    """The JSON that clients get."""
    return _encoder.encode(value)


def _to_json(value: Any) -> str:
    if isinstance(value, Moment):
        return str.__str__(value)
    raise NotImplementedError(type(value).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_to_json)


class Input(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a client sends. A misspelt field is an error, not silence."""


class Patch(Input):
    """A partial change: a field left out is `UNSET` and keeps its stored value; `null` clears what may be empty."""

    def changes(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in fields.items() if value is not msgspec.UNSET}


class Output(msgspec.Struct, kw_only=True):
    """What a client receives."""

    @classmethod
    def of(cls, document: object) -> Self:
        return msgspec.convert(document, cls, from_attributes=True, dec_hook=from_stored)

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], **more: Any) -> Self:
        """From a stored document as the driver gives it; `more` fills what is not stored in it."""
        return msgspec.convert({**raw, "id": raw.get("_id"), **more}, cls, dec_hook=from_stored)


class Instructor(Output):
    id: UUID
    full_name: str
