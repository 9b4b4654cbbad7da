"""The table of contents of an mdBook, `SUMMARY.md`, read as mdBook reads it but line by line, to name each mistake."""

import re
from typing import NamedTuple

from lms.loading.faults import Faults, Place
from lms.loading.front_matter import plain_title

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ITEM = re.compile(r"(?P<indent> *)(?P<bullet>(?:[-*+]|\d{1,9}[.)]) +)(?P<rest>.*)")
_HEADING = re.compile(r"#[ \t]+(?P<title>.*)")
_SEPARATOR = re.compile(r"(?:-{3,}|\*{3,}|_{3,})")
_LINK = re.compile(r"\[(?P<title>.*)\]\((?P<target>.*)\)")
_MIN_INDENT = 2
MAX_TITLE = 255


class Entry(NamedTuple):
    """A chapter. `target` is empty for a draft; `level` is 0 for one without bullet and at the top."""

    title: str
    target: str
    level: int
    part: int
    line: int
    column: int


class Summary(NamedTuple):
    """`parts` are titles with their lines; an entry's `part` counts them from 1 and is 0 before the first."""

    parts: list[tuple[str, int]]
    entries: list[Entry]


def read_summary(text: str, file: str, faults: Faults) -> Summary:
    """Every chapter in order. What is not understood becomes a fault, what mdBook ignores too a note."""
    reader = _Reader(file, faults)
    uncommented = _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)
    for number, line in enumerate(uncommented.split("\n"), start=1):
        if line.strip():
            reader.read_line(line.expandtabs(4).rstrip(), number)
    return Summary(reader.parts, reader.entries)


class _Reader:
    def __init__(self, file: str, faults: Faults) -> None:
        self.file = file
        self.faults = faults
        self.parts: list[tuple[str, int]] = []
        self.entries: list[Entry] = []
        self.indents: list[int] = []
        self.is_first = True

    def read_line(self, line: str, number: int) -> None:
        was_first, self.is_first = self.is_first, False
        item = _ITEM.fullmatch(line)
        if _SEPARATOR.fullmatch(line.strip()):
            self.indents.clear()
        elif item:
            self.read_item(item, number)
        elif heading := _HEADING.fullmatch(line):
            self.indents.clear()
            # As in mdBook, a heading above everything is the title of the summary, not of a part.
            if not was_first:
                self.parts.append((self.title_of(heading["title"].rstrip("# "), Place(number)), number))
        elif link := _LINK.fullmatch(line.strip()):
            self.indents.clear()
            self.add(link, 0, Place(number, line.index("[") + 1))
        else:
            column = len(line) - len(line.lstrip()) + 1
            self.faults.note(
                "line_ignored", "mdBook ignores this line, and so do we.", self.file, Place(number, column)
            )

    def read_item(self, item: re.Match[str], number: int) -> None:
        indent = len(item["indent"])
        place = Place(number, indent + len(item["bullet"]) + 1)
        level = self.level_of(indent, number)
        link = _LINK.fullmatch(item["rest"])
        if link is None:
            hint = "Write it as `- [Title](file.md)`."
            self.faults.error("no_link", "A chapter must be a link, on one line.", self.file, place, hint=hint)
        elif level is not None:
            self.add(link, level, place)

    def level_of(self, indent: int, number: int) -> int | None:
        """The depth of an item with this indentation, or None and a fault where it fits no chapter above."""
        if not self.indents or indent >= self.indents[-1] + _MIN_INDENT:
            self.indents.append(indent)
        elif indent in self.indents:
            del self.indents[self.indents.index(indent) + 1 :]
        else:
            message = f"{indent} spaces of indentation fit no chapter above."
            hint = f"Expected {', '.join(map(str, self.indents))}, or {self.indents[-1] + _MIN_INDENT} or more."
            self.faults.error("bad_indentation", message, self.file, Place(number, indent + 1), hint=hint)
            return None
        return len(self.indents) - 1

    def add(self, link: re.Match[str], level: int, place: Place) -> None:
        title = self.title_of(link["title"], place)
        # mdBook, too, takes back only the escape of spaces.
        target = link["target"].strip().removeprefix("<").removesuffix(">").replace("%20", " ").strip()
        self.entries.append(Entry(title, target, level, len(self.parts), place.line, place.column))

    def title_of(self, markdown: str, place: Place) -> str:
        title = plain_title(markdown)
        if not 0 < len(title) <= MAX_TITLE:
            self.faults.error("bad_title", f"A title has 1 to {MAX_TITLE} characters.", self.file, place)
        return title
