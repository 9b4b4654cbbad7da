"""Reading the files of a source folder: never outside it, one at a time, as plain text."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

from lms.loading.faults import Faults, Place

MAX_FILE_BYTES = 2 * 1024 * 1024


class SourceFolder:
    """One course's folder. `prefix` is its path below the source's root, for the names in faults."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        self._real = path.resolve()
        self._places: dict[str, Path] = {}

    @property
    def name(self) -> str:
        """The folder's own name, also where it was given as `.` or by a link."""
        return as_text(self._real.name)

    def shown(self, file: str) -> str:
        """How faults name `file`, which is relative to this folder."""
        return as_text(PurePosixPath(self.prefix, file))

    def holds(self, file: str) -> bool:
        """Whether `file`, links followed, lies in this folder."""
        try:
            return self._place_of(file).is_relative_to(self._real)
        except (OSError, RuntimeError):  # Links in a circle, or a name longer than the system takes.
            return False

    def _place_of(self, file: str) -> Path:
        """Where `file` really is. Looked up once, and for what is no link only its folder is."""
        if file not in self._places:
            folder, _, name = file.rpartition("/")
            path = self.path / file
            is_plain = name not in {"", ".", ".."} and not path.is_symlink()
            self._places[file] = self._folder(folder) / name if is_plain else path.resolve()
        return self._places[file]

    def _folder(self, directory: str) -> Path:
        key = f"{directory}/"
        if key not in self._places:
            self._places[key] = (self.path / directory).resolve()
        return self._places[key]

    def is_file(self, file: str) -> bool:
        try:
            return self.holds(file) and (self.path / file).is_file()
        except OSError:  # A name longer than the system takes.
            return False

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
            with (self.path / file).open("rb") as opened:
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
