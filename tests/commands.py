"""What the driver sends to MongoDB, as its own command monitor tells."""

from typing import Any

from pymongo import monitoring

WRITES = frozenset({"insert", "update", "delete", "findAndModify", "bulkWrite"})
HOUSEKEEPING = frozenset({"hello", "ping", "endSessions", "commitTransaction", "abortTransaction", "killCursors"})


class Commands(monitoring.CommandListener):
    """Every command of every client of this process, newest last."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.seen.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Only what was asked is of interest."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Only what was asked is of interest."""

    @property
    def names(self) -> list[str]:
        """The commands that read or write documents, in order."""
        return [name for name, _ in self.seen if name not in HOUSEKEEPING]

    @property
    def writes(self) -> list[str]:
        return [f"{name} {command.get(name)}" for name, command in self.seen if name in WRITES]
