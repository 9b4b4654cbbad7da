"""What is stored of a profile. Pure."""

from collections.abc import Collection

from lms.errors import FieldError, Invalid

REGION_LENGTH, SCRIPT_LENGTH = 2, 4


def normal_locale(tag: str) -> str:
    """The usual case of a language tag (RFC 5646 2.1.1): `pt-BR`, `zh-Hant-TW`, `en-u-ca-islamic`."""
    first, *rest = tag.lower().split("-")
    parts, inside_extension = [first], False
    for part in rest:
        inside_extension = inside_extension or len(part) == 1
        is_region, is_script = len(part) == REGION_LENGTH, len(part) == SCRIPT_LENGTH
        usual = part.upper() if is_region else part.title() if is_script and part.isalpha() else part
        parts.append(part if inside_extension else usual)
    return "-".join(parts)


def check_time_zone(name: str, known: Collection[str]) -> None:
    if name not in known:
        message = "No time zone of IANA's database has this name."
        raise Invalid(errors=[FieldError(code="unknown_time_zone", message=message, pointer="#/time_zone")])
