"""What crosses HTTP about API keys."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from lms.api_keys.documents import Scope
from lms.schemas import Input, Moment, Output

# One line, without what commands a terminal or turns around what stands beside it.
_PLAIN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
KeyName = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=(
            rf"^(?=.*[^\s\u200b-\u200f\u2060\ufeff]) *[^\s{_PLAIN}](?:[^{_PLAIN}]{{0,58}}[^\s{_PLAIN}])? *$(?!\n)"
        ),
        description="1 to 60 characters in one line after trimming, by which you know it again.",
        examples=["nightly load"],
    ),
]
KeyScopes = Annotated[
    list[Scope],
    Meta(min_length=1, max_length=20, description="What it may be used for.", examples=[["courses:read"]]),
]
KeyDays = Annotated[int, Meta(ge=1, le=365, description="Days until it expires.", examples=[90])]


class ApiKeyCreate(Input):
    name: KeyName
    scopes: KeyScopes
    expires_in_days: KeyDays = 90


class ApiKeyRead(Output):
    """A key, without its secret part. `prefix` is what it starts with; `last_used_at` is right to the minute."""

    id: UUID
    name: str
    prefix: str
    scopes: list[Scope]
    state: Literal["active", "expired", "revoked"]
    created_at: Moment
    expires_at: Moment
    revoked_at: Moment | None
    last_used_at: Moment | None


class ApiKeyCreated(ApiKeyRead):
    """`key` is shown this once."""

    key: Annotated[str, Meta(examples=["lms_01KXy9bZ0nGJ4tUfc7RqMd_..."])]
