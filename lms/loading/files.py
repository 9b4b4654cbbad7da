"""Reading the files of a source folder: never outside it, one at a time, as plain text."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

from lms.loading.faults import Faults, Place

DEEPEST = 100
"""Folders in a path, beyond which it is not gone through one by one."""
MAX_FILE_BYTES = 2 * 1024 * 1024


class SourceFolder:
    """One course's folder. `prefix` is its path below the source's root, for the names in faults."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self.prefix = "" if prefix in {"", "."} else str(PurePosixPath(prefix))
        self._real = path.resolve()
        self._held: dict[str, bool] = {}

    @property
    def name(self) -> str:
        """The folder's own name, also where it was given as `.` or by a link."""
        return as_text(self._real.name)

    def shown(self, file: str) -> str:
        """How faults name `file`, which is relative to this folder."""
        if file in {"", "."}:
            return as_text(self.prefix or ".")
        return as_text(f"{self.prefix}/{file}" if self.prefix else file)

    def holds(self, file: str) -> bool:
        """Whether `file`, links followed, lies in this folder. Looked up once."""
        if file.count("/") > DEEPEST:
            return self._leads_inside(file)
        if file not in self._held:
            self._held[file] = self._lies_inside(file)
        return self._held[file]

    def _lies_inside(self, file: str) -> bool:
        # Text and not paths: there are many files, and building a path costs as much as reading a short one.
        folder, _, name = file.rpartition("/")
        if file.startswith("/") or name in {"", ".", ".."} or os.path.islink(self._at(file)):
            return self._leads_inside(file)
        return not folder or self.holds(folder)

    def _leads_inside(self, file: str) -> bool:
        try:
            return (self.path / file).resolve().is_relative_to(self._real)
        except (OSError, RuntimeError):  # Links in a circle, or a name longer than the system takes.
            return False

    def _at(self, file: str) -> str:
        return os.path.join(self.path, file)

    def is_file(self, file: str) -> bool:
        return self.holds(file) and os.path.isfile(self._at(file))

    def children(self, directory: str, faults: Faults) -> list[Path]:
        """Files and folders by name, without those whose name starts with a dot. A name that is no text is a fault."""
        try:
            entries = sorted(entry for entry in (self.path / directory).iterdir() if not entry.name.startswith("."))
        except OSError as error:
            faults.error("unreadable", f"The folder cannot be read: {error.strerror}.", self.shown(directory))
            return []
        for entry in entries:
            if as_text(entry.name) != entry.name:
                message = "The name of this file is not UTF-8."
                faults.error("bad_name", message, self.shown(f"{directory}/{entry.name}".lstrip("/")))
        return [entry for entry in entries if as_text(entry.name) == entry.name]

    def walk(self, directory: str) -> Iterator[str]:
        """Every file below `directory` as it is shown, links not followed, relative to this folder."""
        for root, folders, files in os.walk(self.path / directory):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith("."):
                    yield as_text((Path(root) / name).relative_to(self.path).as_posix())

    def read(self, file: str, faults: Faults) -> str | None:
        """The text with line ends as `\\n` and without a byte order mark; None and a fault where it is no text."""
        shown = self.shown(file)
        if not self.holds(file):
            faults.error("outside_source", "This link leads out of the course's folder.", shown)
            return None
        if not self.is_file(file):
            faults.error("missing_file", "There is no such file.", shown)
            return None
        try:
            with open(self._at(file), "rb") as opened:
                raw = opened.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            faults.error("unreadable", f"The file cannot be read: {error.strerror}.", shown)
            return None
        if len(raw) > MAX_FILE_BYTES:
            faults.error("file_too_large", "The file is larger than 2 MB.", shown, hint="Split it, or link media.")
            return None
        return _decode(raw, shown, faults)


def as_text(path: PurePath | str) -> str:
    """A path as text that can be stored and printed; Python holds bytes that are no UTF-8 as lone surrogates."""
    return str(path).encode(errors="backslashreplace").decode()


def _decode(raw: bytes, shown: str, faults: Faults) -> str | None:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"The byte 0x{raw[error.start]:02x} is not UTF-8."
        faults.error("not_utf8", message, shown, _place(raw, error.start), hint="Save the file as UTF-8.")
        return None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        message = "There is a NUL byte; this is no text file."
        faults.error("nul_byte", message, shown, _place(raw, raw.index(b"\0")))
        return None
    return text


def _place(raw: bytes, position: int) -> Place:
    before = raw[:position].removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    last_line = before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")
    return Place(before.count(b"\n") + 1, len(last_line) + 1)
