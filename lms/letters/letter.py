"""A letter is pure data; one template sets all of them as text and as HTML."""

import re
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_templates = Environment(
    loader=PackageLoader("lms.letters", "."),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


# What mail programs make a link of: an address, a domain.
LINK = re.compile(r"[/@]|\w\.\w{2,}")


@dataclass(frozen=True, slots=True)
class Letter:
    """`paragraphs` are plain text; `action` is a (label, address) pair that stands after them as a link."""

    subject: str
    greeting: str
    paragraphs: tuple[str, ...]
    school: str
    action: tuple[str, str] | None = None

    def as_text(self) -> str:
        return _templates.get_template("letter.txt").render(letter=self)

    def as_html(self) -> str:
        return _templates.get_template("letter.html").render(letter=self)


def greeting(words: str, name: str, end: str) -> str:
    """Without a name that would be a link: anybody can sign up a stranger's address under any name."""
    return words.rstrip(",") + end if LINK.search(name) else f"{words} {name}{end}"
