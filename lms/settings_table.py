"""The settings as a table, for `lms settings` and the README."""

from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from lms.redaction import redact
from lms.settings import SECRETS, Settings


def rows(settings: Settings) -> list[dict[str, Any]]:
    """Each variable's name, value here and meaning; of a secret only whether it is set."""
    return [
        {"name": _variable(name), "value": _shown(getattr(settings, name), field), "description": field.description}
        for name, field in Settings.model_fields.items()
    ]


def as_markdown() -> str:
    lines = ["| variable | default | what it does |", "|---|---|---|"]
    lines += [
        f"| `{_variable(name)}` | {_default(name, field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(lines)


def _variable(name: str) -> str:
    return f"LMS_{name.upper()}"


def _shown(value: Any, field: FieldInfo) -> str:
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else "(not set)"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if value is None:
        return ""
    # What may hold a password is left out of the model's own text as well.
    return str(value) if field.repr else redact(str(value))


def _default(name: str, field: FieldInfo) -> str:
    if name in SECRETS:
        return "made in development"
    text = "" if isinstance(field.default, SecretStr) else _shown(field.default, field)
    return f"`{text}`" if text else "none"
