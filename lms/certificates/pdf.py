"""Certificates as PDF: every script that a font is there for, the same bytes every time, an error instead of a box."""

import functools
import io
import json
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import cast

import segno
import typst
from fontTools.ttLib import TTFont

FONT_PACKAGES = (
    "fontpkg_noto_sans",
    "fontpkg_noto_sans_arabic",
    "fontpkg_noto_sans_devanagari",
    "cvttf_NotoSansCJK_Regular",
)
# Unicode's Default_Ignorable_Code_Point: what draws nothing where no font has it. Other characters draw a box then,
# those of category Cf too.
IGNORABLE = frozenset[int]().union(
    {0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0},
    range(0x180B, 0x1810),
    range(0x200B, 0x2010),
    range(0x202A, 0x202F),
    range(0x2060, 0x2070),
    range(0xFE00, 0xFE10),
    range(0xFFF0, 0xFFF9),
    range(0x1BCA0, 0x1BCA4),
    range(0x1D173, 0x1D17B),
    range(0xE0000, 0xE1000),
)
LONGEST_WORD = 30
ZERO_WIDTH_SPACE = "\u200b"
ZERO_WIDTH_JOINERS = "\u200c\u200d"
VIRAMA = 9
"""The combining class of the signs that bind the next letter to the one before."""
_HERE = str(Path(__file__).parent)
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
    """The fonts of a process: their families in order of preference, and what every face of each family can show."""

    families: dict[str, frozenset[int]]
    loaded: typst.Fonts


def load_fonts(extra: Path | None = None) -> Fonts:
    """Read which fonts there are: those in the folder `extra`, and those of the installed packages after them."""
    folders = [*([extra] if extra else []), *_package_folders()]
    # System fonts are left out, since they differ from machine to machine.
    loaded = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=list(folders))
    families: dict[str, frozenset[int]] = {}
    # Only what typst took counts: it passes over files that it cannot use, and has its own names for families.
    for face in loaded.fonts():
        characters = _characters(face)
        families[face.family] = families.get(face.family, characters) & characters
    return Fonts(families, loaded)


def _package_folders() -> list[Path]:
    found: list[Path] = []
    for package in FONT_PACKAGES:
        try:
            found.append(Path(str(resources.files(package))))
        except ModuleNotFoundError:
            # An extra that is not installed; its scripts are missing glyphs then.
            continue
    return found


def _characters(face: typst.FontInfo) -> frozenset[int]:
    with TTFont(face.path, fontNumber=face.index, lazy=True) as font:
        return frozenset(font.getBestCmap() or ())


def check_glyphs(text: CertificateText, fonts: Fonts) -> None:
    """Raises `MissingGlyph` naming every character that cannot be shown, and where it stands."""
    fields = {
        "name": text.name,
        "course title": text.course_title,
        "school": text.issuer,
        "instructor": text.instructor,
    }
    missing = [f"{_name_of(one)} in the {field}" for field, value in fields.items() for one in _missing(value, fonts)]
    if missing:
        raise MissingGlyph(
            f"No font has {', '.join(missing)}. Install lms[cjk], or put one into the folder of LMS_CERTIFICATE_FONTS."
        )


def _missing(value: str, fonts: Fonts) -> list[str]:
    """The clusters that no single font can show: where letter and mark come from two fonts, typst drops the letter."""
    clusters = dict.fromkeys(one for word in clean(value).split(" ") for one in _clusters(word))
    return [one for one in clusters if not any(_drawn(one) <= characters for characters in fonts.families.values())]


def _drawn(cluster: str) -> set[int]:
    return set(map(ord, cluster)) - IGNORABLE


def _clusters(word: str) -> list[str]:
    """Each letter with the marks on it and with the letters that a virama or a joiner binds to it."""
    found: list[str] = []
    for char in word:
        if found and (_is_mark(char) or _binds(found[-1][-1])):
            found[-1] += char
        else:
            found.append(char)
    return found


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M") or char in ZERO_WIDTH_JOINERS


def _binds(char: str) -> bool:
    return unicodedata.combining(char) == VIRAMA or char in ZERO_WIDTH_JOINERS


def _name_of(cluster: str) -> str:
    return " with ".join(f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}" for char in cluster)


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
    pieces = [""]
    for cluster in _clusters(word):
        if len(pieces[-1]) >= LONGEST_WORD // 2:
            pieces.append("")
        pieces[-1] += cluster
    return pieces


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
        "issuer": breakable(clean(text.issuer)),
        "number": text.number,
        "url": text.verify_url,
        "qr": _qr_code(text.verify_url),
        "fonts": list(fonts.families),
    }
    # One for each certificate: it is made in a millisecond, and refuses to be used by two threads at once.
    compiler = typst.Compiler(root=_HERE, font_paths=fonts.loaded, ignore_system_fonts=True)
    pdf = compiler.compile(
        _template(),
        sys_inputs={"data": json.dumps(data)},
        format="pdf",
        # Part of the file's metadata; the issue's own time keeps the bytes the same whenever they are made.
        timestamp=int(text.issued_on.timestamp()),
    )
    # Its type also covers pictures, of which there is one for each page.
    return cast("bytes", pdf)


@functools.cache
def _template() -> bytes:
    return resources.files("lms.certificates").joinpath("template.typ").read_bytes()


def _qr_code(url: str) -> str:
    picture = io.BytesIO()
    segno.make(url, error="m").save(picture, kind="svg", scale=4, border=2, xmldecl=False)
    return picture.getvalue().decode()
