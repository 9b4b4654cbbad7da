"""The base of every stored document."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from beanie import Document
from pydantic import Field

from lms.clock import utc_now
from lms.ids import new_id

DEEPEST = 50
INT64 = range(-(2**63), 2**63)


def why_not_stored(value: Any) -> str | None:
    """What keeps a client's own JSON out of BSON, in a sentence; None where nothing does."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            return f"At most {DEEPEST} levels deep."
        for one in level:
            if isinstance(one, int) and one not in INT64:
                return "Whole numbers are at most 64 bits long."
            if isinstance(one, dict) and any("\0" in name for name in cast("dict[str, Any]", one)):
                return "Names are without the character NUL."
        level = [inner for one in level for inner in _inside(one)]
        depth += 1
    return None


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


class BaseDocument(Document):
    # Known before insert, never None, and a native type for msgspec, Litestar and BSON.
    id: UUID = Field(default_factory=new_id)  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    created_at: datetime = Field(default_factory=utc_now)

    def as_stored(self) -> dict[str, Any]:
        """The document as the driver takes it. Beanie's own insert looks through every value once more."""
        fields = self.model_dump()
        return {"_id": fields.pop("id"), **fields}
