"""What is wrong with course files, or worth knowing about them, each with its place."""

import difflib
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Severity(StrEnum):
    ERROR = "error"
    NOTE = "note"


class Place(NamedTuple):
    """Line and column, both counted from 1."""

    line: int = 1
    column: int = 1


START = Place()


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`file` is relative to the source's root; `pointer` is a JSON pointer into the YAML of that file."""

    severity: Severity
    file: str
    line: int
    column: int
    code: str
    message: str
    pointer: str = ""
    hint: str = ""


class Faults:
    """Collects everything that is found in one course, so that one run tells it all."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def error(
        self, code: str, message: str, file: str, place: Place = START, *, pointer: str = "", hint: str = ""
    ) -> None:
        self._add(Severity.ERROR, code, message, file, place, pointer, hint)

    def note(self, code: str, message: str, file: str, place: Place = START, *, hint: str = "") -> None:
        """Something that does not stop a load, such as a file that is left alone."""
        self._add(Severity.NOTE, code, message, file, place, "", hint)

    def _add(
        self, severity: Severity, code: str, message: str, file: str, place: Place, pointer: str, hint: str
    ) -> None:
        fault = Fault(
            severity=severity,
            file=file,
            line=place.line,
            column=place.column,
            code=code,
            message=message,
            pointer=pointer,
            hint=hint,
        )
        self.found.append(fault)

    @property
    def errors(self) -> list[Fault]:
        return _sorted(fault for fault in self.found if fault.severity is Severity.ERROR)

    @property
    def notes(self) -> list[Fault]:
        return _sorted(fault for fault in self.found if fault.severity is Severity.NOTE)


def _sorted(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (fault.file, fault.line, fault.column))


def nearest(word: str, known: Iterable[str], *, what: str = "") -> str:
    """A hint that names the known word that is most like `word`; empty where none is."""
    alike = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {what}{alike[0]}?" if alike else ""
