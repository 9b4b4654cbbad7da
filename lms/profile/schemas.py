"""What people may change about themselves."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from lms.accounts.schemas import FullName
from lms.schemas import Patch

# RFC 5646: language, script, region, variants, extensions.
_SUBTAGS = r"(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
LanguageTag = Annotated[
    str,
    Meta(
        max_length=35,
        # Python's `$` would let a line break follow.
        pattern=rf"^[A-Za-z]{{2,3}}{_SUBTAGS}(?:-[A-Za-z0-9](?:-[A-Za-z0-9]{{2,8}})+)*$(?!\n)",
        description="A language tag of BCP 47, such as pt-BR.",
        examples=["pt-BR"],
    ),
]
TimeZone = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="A time zone's name in IANA's database.", examples=["Europe/Lisbon"]),
]


class UserUpdate(Patch):
    full_name: FullName | UnsetType = UNSET
    locale: LanguageTag | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET
