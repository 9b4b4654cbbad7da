"""Makes anything fit for a log line: no secret, nothing that forges or splits a line, nothing endless.

Secrets are known by the name of their key and by their shape, also inside the text of an exception.
"""

import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

REDACTED = "[redacted]"
MAX_TEXT = 2_000
MAX_NAME = 100
MAX_EXCEPTION = 16_000
MAX_FRAMES = 30
MAX_ITEMS = 50
MAX_DEPTH = 5
MAX_INTEGER = 2**63

_WORDS = "passw|pwd|token|secret|authorization|cookie|api[_-]?key|pepper|jwt|credential|private[_-]?key|proof"
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"',;&})\]]+)"""
_SECRET_SHAPES = [
    # The user and password of an address; the digits of a port are neither.
    (re.compile(r"(://)(?:[^\s/@:]*:(?!\d+[/?#])[^\s@]*|[^\s/?#@]+)@"), rf"\1{REDACTED}@"),
    (re.compile(r"(authorization[\"']?\s*[=:]\s*[\"']?)(?:\w+\s+)?[^\s\"',]+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"\b(Bearer)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    # A JWT, a refresh token of ours, a bcrypt hash, an API key of ours (also one that was cut).
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?"), REDACTED),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.\d+\.[\w=-]+"), REDACTED),
    (re.compile(r"\$2[aby]\$\d\d\$[./\w]{50,}"), REDACTED),
    (re.compile(r"(\blms_[0-9A-Za-z]{22}_)[0-9A-Za-z]+"), rf"\1{REDACTED}"),
    # name=value and "name": value, where the name is one of the words.
    (
        re.compile(
            rf"((?<![\w-])[\w-]*?(?:{_WORDS})[\w-]*[\"']?\s*[=:]\s*)(?![\"']?\[redacted){_VALUE}", re.IGNORECASE
        ),
        rf"\1{REDACTED}",
    ),
]
_MAY_BE_SECRET = re.compile(rf"://|bearer|eyJ|lms_|\.\d+\.|\$2|{_WORDS}", re.IGNORECASE)

# What a terminal or a log viewer takes for an end of line, a command or a change of direction, and lone surrogates,
# which no encoder takes. ASCII's control characters stay: JSON escapes them, and the console escapes them itself.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def redact(text: str) -> str:
    """`text` without what looks like a secret."""
    if _MAY_BE_SECRET.search(text):
        for shape, replacement in _SECRET_SHAPES:
            text = shape.sub(replacement, text)
    return text


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    # Cut only roughly before redacting: half a secret would not be known for one.
    clean = _UNSAFE.sub(escape, redact(text[: 4 * limit]))
    return clean if len(clean) <= limit else f"{clean[:limit]}... [{len(text)} characters]"


def clean_exception(error: BaseException) -> str:
    """The traceback's last frames, whole lines of it where it is too long."""
    pieces = traceback.TracebackException.from_exception(error, limit=-MAX_FRAMES).format()
    return "".join(map(clean_text, pieces))[-MAX_EXCEPTION:]


def clean_value(value: Any, depth: int = 0) -> Any:
    """`value` as plain data that every encoder takes. Never raises."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -MAX_INTEGER <= value < MAX_INTEGER else "[huge number]"
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        return clean_fields(value, depth + 1)
    if isinstance(value, list | tuple | set | frozenset) and depth < MAX_DEPTH:
        return [clean_value(item, depth + 1) for item in _first(value)]
    return clean_text(_text_of(value))


def clean_fields(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for key, value in _first(fields.items()):
        name = clean_text(_text_of(key), MAX_NAME)
        clean[name] = REDACTED if value is not None and _SECRET_NAME.search(name) else clean_value(value, depth)
    return clean


def escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _first(items: Iterable[Any]) -> list[Any]:
    return [item for _, item in zip(range(MAX_ITEMS), items, strict=False)]


def _text_of(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody else's __str__; a log line must not break what it tells of
        return f"[{type(value).__name__} that cannot be printed]"
