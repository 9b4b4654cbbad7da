"""A Markdown page: the YAML between its first two lines of `---`, and its text."""

import re
from typing import NamedTuple

from lms.loading.faults import Faults
from lms.loading.yaml_lines import YamlDocument, read_yaml

_FENCE = re.compile(r"---[ \t]*\n?")
_LEADING = re.compile(r"(?:\s++|<!--.*?-->)*+", re.DOTALL)
_HEADING = re.compile(r"#[ \t]+([^\n]*)(?:\n|$)")
_EMPHASIS = re.compile(r"(?<![\w\\])(\*{1,3}|_{1,3})(?=\S)(.+?)(?<![\s\\])\1(?!\w)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_MAX_TITLE = 1000


class Page(NamedTuple):
    head: YamlDocument
    body: str


def split_front_matter(text: str) -> tuple[str, str] | None:
    """YAML and text; without front matter the YAML is empty. None where the front matter is never closed."""
    lines = re.split(r"(?<=\n)", text)
    if not _FENCE.fullmatch(lines[0]):
        return "", text
    for number, line in enumerate(lines[1:], start=1):
        if _FENCE.fullmatch(line):
            return "".join(lines[1:number]), "".join(lines[number + 1 :])
    return None


def read_page(text: str, file: str, faults: Faults) -> Page | None:
    """The page, or None with a fault."""
    parts = split_front_matter(text)
    if parts is None:
        message = "The front matter that starts here has no closing line of three hyphens."
        hint = "If this is a horizontal rule, put an empty line before it."
        faults.error("front_matter_open", message, file, hint=hint)
        return None
    head = read_yaml(parts[0], file, faults, first_line=2 if parts[1] is not text else 1)
    return None if head is None else Page(head, parts[1])


def first_heading(body: str) -> str | None:
    """The text of the top-level heading that the body starts with, comments aside."""
    match = _heading(body)
    return _heading_title(match) if match else None


def lesson_text(body: str, title: str) -> str:
    """The body without its first heading where that only repeats the title.

    A comment before it stays: it often is the licence notice, which travels with the text and is shown nowhere.
    """
    match = _heading(body)
    if match and _heading_title(match).casefold() == title.casefold():
        body = body[: match.start()] + body[match.end() :].lstrip("\n")
    body = body.strip()
    return f"{body}\n" if body else ""


def _heading(body: str) -> re.Match[str] | None:
    comments = _LEADING.match(body)
    return _HEADING.match(body, comments.end() if comments else 0)


def _heading_title(match: re.Match[str]) -> str:
    return plain_title(re.sub(r"(?:^|[ \t])#+$", "", match[1].strip()))


def plain_title(markdown: str) -> str:
    """A title without the marks of code, emphasis and escapes."""
    parts = re.split(r"(`+)(.+?)\1", markdown[:_MAX_TITLE])
    # Text, fence, code, text, ...: the text loses its marks, the code keeps everything, the fences go.
    parts[::3] = [_ESCAPE.sub(r"\1", _EMPHASIS.sub(r"\2", text)) for text in parts[::3]]
    return " ".join("".join(part for index, part in enumerate(parts) if index % 3 != 1).split())
