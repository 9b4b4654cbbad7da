"""What time it is. Everything that decides by time asks here, so that tests can hold the clock."""

from collections.abc import Callable
from datetime import UTC, datetime


def _system_time() -> datetime:
    return datetime.now(UTC)


_source: Callable[[], datetime] = _system_time


def utc_now() -> datetime:
    """Now, in the whole milliseconds that MongoDB stores."""
    now = _source()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def set_source(source: Callable[[], datetime] | None) -> None:
    """Take the time from `source`, or with None from the system again."""
    global _source  # noqa: PLW0603 - the one clock of the process
    _source = source or _system_time
