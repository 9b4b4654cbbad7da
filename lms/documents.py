"""The base of every stored document."""

from datetime import datetime
from uuid import UUID

from beanie import Document
from pydantic import Field

from lms.clock import utc_now
from lms.ids import new_id


class BaseDocument(Document):
    # Known before insert, never None, and a native type for msgspec, Litestar and BSON.
    id: UUID = Field(default_factory=new_id)  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    created_at: datetime = Field(default_factory=utc_now)
