"""Certificates as PDF: every script that a font is there for, the same bytes every time, an error instead of a box."""

import functools
import io
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import segno
import typst
from fontTools.ttLib import TTCollection, TTFont

FONT_PACKAGES = (
    "fontpkg_noto_sans",
    "fontpkg_noto_sans_arabic",
    "fontpkg_noto_sans_devanagari",
    "cvttf_NotoSansCJK_Regular",
)
FONT_FILES = frozenset({".ttf", ".otf", ".ttc", ".otc"})
FAMILY_NAMES = (16, 1)
"""Ids in a font's name table: the typographic family, else the family."""
INVISIBLE = frozenset({"Cf", "Zs", "Zl", "Zp"})
VARIATION_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
LONGEST_WORD = 30
ZERO_WIDTH_SPACE = "\u200b"
RIGHT_TO_LEFT = frozenset({"R", "AL"})


class MissingGlyph(LookupError):
    """No font that is installed can show a character. Raised before anything is rendered."""


@dataclass(frozen=True, slots=True)
class CertificateText:
    name: str
    course_title: str
    issued_on: datetime
    number: str
    verify_url: str
    issuer: str
    instructor: str = ""


@dataclass(frozen=True, slots=True)
class Fonts:
    """The fonts of a process: their families in order of preference, and every character that one of them has."""

    paths: tuple[str, ...]
    families: tuple[str, ...]
    characters: frozenset[int]


def load_fonts(extra: Path | None = None) -> Fonts:
    """Read which fonts there are: those of the installed packages, and the files in `extra` before them."""
    folders = [extra] if extra else []
    files = [*_files(folders), *_files(_package_folders())]
    faces = [face for file in files for face in _faces(file)]
    characters = frozenset[int]().union(*(found for _, found in faces))
    families = tuple(dict.fromkeys(family for family, _ in faces))
    return Fonts(tuple(sorted({str(file.parent) for file in files})), families, characters)


def _package_folders() -> list[Path]:
    found: list[Path] = []
    for package in FONT_PACKAGES:
        try:
            found.append(Path(str(resources.files(package))))
        except ModuleNotFoundError:
            # An extra that is not installed; its scripts are missing glyphs then.
            continue
    return found


def _files(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix.lower() in FONT_FILES]


def _faces(file: Path) -> list[tuple[str, frozenset[int]]]:
    collection = TTCollection(file, lazy=True) if file.suffix.lower() in {".ttc", ".otc"} else None
    fonts: list[Any] = list(collection.fonts) if collection else [TTFont(file, lazy=True)]
    return [(_family(font), frozenset(font.getBestCmap() or ())) for font in fonts]


def _family(font: Any) -> str:
    names = font["name"]
    return next(str(found) for number in FAMILY_NAMES if (found := names.getDebugName(number)))


def check_glyphs(text: CertificateText, fonts: Fonts) -> None:
    """Raises `MissingGlyph` naming every character that cannot be shown, and where it stands."""
    fields = {
        "name": text.name,
        "course title": text.course_title,
        "school": text.issuer,
        "instructor": text.instructor,
    }
    missing = [f"{_name_of(char)} in the {field}" for field, value in fields.items() for char in _missing(value, fonts)]
    if missing:
        raise MissingGlyph(
            f"No font has {', '.join(missing)}. Install lms[cjk], or put one into the folder of LMS_CERTIFICATE_FONTS."
        )


def _missing(value: str, fonts: Fonts) -> list[str]:
    return [char for char in dict.fromkeys(clean(value)) if _needs_glyph(char) and ord(char) not in fonts.characters]


def _needs_glyph(char: str) -> bool:
    """Spaces, joiners, direction marks and variation selectors are not drawn."""
    return unicodedata.category(char) not in INVISIBLE and not any(ord(char) in one for one in VARIATION_SELECTORS)


def _name_of(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"


def clean(value: str) -> str:
    """Composed as fonts expect it, every run of white space and control characters one space."""
    spaced = "".join(" " if unicodedata.category(char) == "Cc" else char for char in value)
    return unicodedata.normalize("NFC", " ".join(spaced.split()))


def breakable(value: str) -> str:
    """The text with places to break a word that is wider than the page; ordinary words stay whole."""
    return " ".join(ZERO_WIDTH_SPACE.join(_pieces(word)) for word in value.split(" "))


def _pieces(word: str) -> list[str]:
    if len(word) <= LONGEST_WORD:
        return [word]
    return [word[start : start + LONGEST_WORD // 2] for start in range(0, len(word), LONGEST_WORD // 2)]


def is_right_to_left(value: str) -> bool:
    """The direction of the first letter that has one (Unicode's rule P2)."""
    classes = (unicodedata.bidirectional(char) for char in value)
    return next((one in RIGHT_TO_LEFT for one in classes if one in RIGHT_TO_LEFT or one == "L"), False)


def render_pdf(text: CertificateText, fonts: Fonts) -> bytes:
    """The certificate. CPU work of some ten milliseconds: call it in a thread. Raises `MissingGlyph`."""
    check_glyphs(text, fonts)
    data = {
        "title": f"Certificate of Completion: {clean(text.course_title)}",
        "name": breakable(clean(text.name)),
        "name_rtl": is_right_to_left(text.name),
        "course": breakable(clean(text.course_title)),
        "course_rtl": is_right_to_left(text.course_title),
        "issued": f"{text.issued_on.day} {text.issued_on:%B %Y}",
        "instructor": breakable(clean(text.instructor)),
        "issuer": clean(text.issuer),
        "number": text.number,
        "url": text.verify_url,
        "qr": _qr_code(text.verify_url),
        "fonts": list(fonts.families),
    }
    return _compiler(fonts.paths).compile(
        _template(),
        sys_inputs={"data": json.dumps(data)},
        format="pdf",
        # Part of the file's metadata; the issue's own time keeps the bytes the same whenever they are made.
        timestamp=int(text.issued_on.timestamp()),
    )


@functools.cache
def _compiler(paths: tuple[str, ...]) -> Any:
    """The fonts are loaded once; system fonts are left out, since they differ from machine to machine."""
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=list(paths))
    return typst.Compiler(root=str(Path(__file__).parent), font_paths=fonts, ignore_system_fonts=True)


@functools.cache
def _template() -> bytes:
    return resources.files("lms.certificates").joinpath("template.typ").read_bytes()


def _qr_code(url: str) -> str:
    picture = io.BytesIO()
    segno.make(url, error="m").save(picture, kind="svg", scale=4, border=2, xmldecl=False)
    return picture.getvalue().decode()
