import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from lms.certificates.pdf import MissingGlyph, breakable, check_glyphs, clean, is_right_to_left, load_fonts, render_pdf
from tests.certificates.papers import NUMBER, URL, a_text, is_inside_the_frame, lines_of, overlapping, read

FONTS = load_fonts()
ZERO_WIDTH_SPACE = "\u200b"


def test_a_certificate_is_one_page_of_a4_with_everything_on_it() -> None:
    paper = read(render_pdf(a_text(), FONTS))
    assert (paper.pages, paper.size) == (1, (842, 595))
    assert paper.lines == [
        "Tidewater School",
        "Certificate of Completion",
        "This certifies that",
        "Sam Okafor",
        "has completed",
        "Plants of the tidal zone",
        "Issued 9 March 2026",
        "Instructor Ivy Okafor",
        f"Number {NUMBER} {URL}",
    ]
    assert paper.metadata["Title"] == "Certificate of Completion: Plants of the tidal zone"
    assert paper.metadata["Author"] == "Tidewater School"
    assert paper.metadata["CreationDate"] == "D:20260309120000Z"
    assert is_inside_the_frame(paper)
    assert overlapping(paper) == []


def test_without_an_instructor_there_is_no_line_for_one() -> None:
    assert not any("Instructor" in line for line in read(render_pdf(a_text(instructor=""), FONTS)).lines)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Zoë Łukasiewicz-Ñandú Šarūnas Ødegård", "Français façile, œuvre ĳ ẞ"),
        ("Ελένη Παπαδοπούλου", "Введение в ботанику"),
        ("Nguyễn Thị Minh Khai", "Đại số tuyến tính"),
        ("欧阳娜娜", "潮间带植物学导论"),
        ("山田太郎", "はじめてのプログラミング"),
        ("김민수", "식물학 입문"),
        ("श्रीमती लक्ष्मी त्रिपाठी", "हिन्दी व्याकरण"),
    ],
)
def test_names_and_titles_of_many_scripts_are_in_the_text_layer(name: str, title: str) -> None:
    paper = read(render_pdf(a_text(name, title), FONTS))
    assert (paper.lines[3], paper.lines[5]) == (name, title)
    assert is_inside_the_frame(paper)


def test_an_arabic_name_is_set_with_its_letters_from_right_to_left() -> None:
    name, title = "فاطمة الزهراء", "مبادئ علم الأحياء (Biology 101)"
    paper = read(render_pdf(a_text(name, title), FONTS))
    # A reader gets joined letters in pieces, some of them twice; the metadata has the title as it was written.
    assert set(name + title) - set("()") <= set("".join(paper.lines))
    assert paper.metadata["Title"] == f"Certificate of Completion: {title}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Sam", False), ("فاطمة", True), ("שרה", True), ("12 (فاطمة) Sam", True), ("1. Sam فاطمة", False), ("123", False)],
)
def test_the_first_letter_tells_the_direction(text: str, *, expected: bool) -> None:
    assert is_right_to_left(text) is expected


@pytest.mark.parametrize(
    "name",
    [
        "Wolfeschlegelsteinhausenbergerdorff" * 2,
        "W" * 120,
        "Maximiliana Alexandrowna von und zu Konstantinopel-Wolfeschlegelstein",
        "कि" * 60,
        "欧" * 120,
    ],
)
def test_the_longest_names_stay_on_the_page(name: str) -> None:
    paper = read(render_pdf(a_text(name, name, instructor=name, issuer=name), FONTS))
    assert paper.pages == 1
    assert is_inside_the_frame(paper)
    assert overlapping(paper) == []
    assert paper.codes == [URL]
    assert f"Number {NUMBER} {URL}" in paper.lines


MARKUP = "#{}[]*_$\\<>\"`@~=-+/'//"


@pytest.mark.parametrize(
    "text", [MARKUP, '#set page(width: 1cm) #read("/etc/passwd")', "\\u{41} $x^2$ <label> {{ name }}"]
)
def test_markup_in_a_name_is_text(text: str) -> None:
    paper = read(render_pdf(a_text(text, text, issuer=text, instructor=text), FONTS))
    assert (paper.pages, paper.size) == (1, (842, 595))
    assert (paper.lines[0], paper.lines[3], paper.lines[5]) == (text, text, text)
    assert f"Instructor {text}" in paper.lines
    assert paper.metadata["Author"] == text


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=0x7E), min_size=1, max_size=30))
def test_no_ascii_text_is_code_or_gets_lost(name: str) -> None:
    # Where a line ends at a hyphen, pdfium gives U+FFFE for it and no end of line.
    printed = "".join(lines_of(render_pdf(a_text(name), FONTS))).replace("\ufffe", "-").replace(" ", "")
    assert f"Thiscertifiesthat{clean(name).replace(' ', '')}hascompleted" in printed


def test_the_same_certificate_has_the_same_bytes() -> None:
    again = load_fonts()
    assert render_pdf(a_text("فاطمة 欧阳"), FONTS) == render_pdf(a_text("فاطمة 欧阳"), again)
    other_day = a_text("فاطمة 欧阳", issued_on=datetime(2026, 3, 10, tzinfo=UTC))
    assert render_pdf(other_day, FONTS) != render_pdf(a_text("فاطمة 欧阳"), FONTS)


async def test_several_threads_render_at_once() -> None:
    names = [f"Sam {number}" for number in range(8)]
    pdfs = await asyncio.gather(*(asyncio.to_thread(render_pdf, a_text(name), FONTS) for name in names))
    assert [read(pdf).lines[3] for pdf in pdfs] == names


@pytest.mark.parametrize("check_symbol", "0*~$=U")
def test_the_qr_code_holds_the_address_that_verifies(check_symbol: str) -> None:
    url = URL[:-1] + check_symbol
    assert read(render_pdf(a_text(verify_url=url), FONTS)).codes == [url]


@pytest.mark.parametrize(
    ("char", "named"),
    [
        ("🎓", "U+1F393 GRADUATION CAP"),
        ("\u0f40", "U+0F40 TIBETAN LETTER KA"),
        ("\ue000", "U+E000 without a name"),
        ("\u0378", "U+0378 without a name"),
        # Of category Cf, as joiners are, and drawn as a box where no font has them.
        ("\ufff9", "U+FFF9 INTERLINEAR ANNOTATION ANCHOR"),
        ("\u070f", "U+070F SYRIAC ABBREVIATION MARK"),
    ],
)
@pytest.mark.parametrize(
    ("field", "shown_as"),
    [("name", "name"), ("course_title", "course title"), ("issuer", "school"), ("instructor", "instructor")],
)
def test_a_character_that_no_font_has_is_named_with_its_place(char: str, named: str, field: str, shown_as: str) -> None:
    with pytest.raises(MissingGlyph) as raised:
        render_pdf(a_text(**{field: f"Ann {char}{char} {char}Lee"}), FONTS)
    assert str(raised.value).startswith(f"No font has {named} in the {shown_as}. Install lms[cjk], or put one into")


def test_every_missing_character_is_named_once() -> None:
    with pytest.raises(MissingGlyph, match=r"has U\+1F393 [A-Z ]+ in the name, U\+0F40 [A-Z ]+ in the course title\."):
        check_glyphs(a_text("🎓 Ann 🎓", "\u0f40 \u0f40"), FONTS)


def test_a_mark_that_stands_in_another_font_than_its_letter_is_missing() -> None:
    # The fonts have both, and typst would print the mark without the letter.
    with pytest.raises(MissingGlyph, match=r"U\+4E2D CJK UNIFIED IDEOGRAPH-4E2D with U\+0301 COMBINING ACUTE ACCENT"):
        check_glyphs(a_text("中\u0301"), FONTS)
    check_glyphs(a_text("中 x\u0301 か\u309a"), FONTS)


def test_what_draws_nothing_is_never_missing() -> None:
    invisible = "\u00ad\u034f\u180b\u200b\u200c\u200d\u200e\u200f\u2060\u2067\u2069\u3164\ufe0e\ufeff\U000e0101"
    paper = read(render_pdf(a_text(f"A{invisible}nn Lee"), FONTS))
    assert paper.lines[3].endswith("nn Lee")


def test_without_the_cjk_extra_its_characters_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # So Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "cvttf_NotoSansCJK_Regular", None)
    fonts = load_fonts()
    assert list(fonts.families) == ["Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari"]
    with pytest.raises(MissingGlyph, match=r"U\+6B27 .* Install lms\[cjk\]"):
        render_pdf(a_text("欧"), fonts)


def a_font(family: str, characters: str, *, postscript: bool = True) -> TTFont:
    """A font in which every character is the same triangle."""
    builder = FontBuilder(1000)
    names = {ord(char): f"u{ord(char):X}" for char in characters}
    order = [".notdef", *names.values()]
    pen = TTGlyphPen(None)
    for place, to in enumerate([(50, 0), (550, 0), (300, 700)]):
        (pen.lineTo if place else pen.moveTo)(to)
    pen.closePath()
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (600, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    called = {"familyName": family, "styleName": "Regular"}
    builder.setupNameTable(called | ({"psName": family.replace(" ", "")} if postscript else {}))
    builder.setupOS2()
    builder.setupPost()
    return builder.font


def test_a_font_in_the_folder_of_the_school_supplies_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    a_font("House Sans", "\ue000\u0f40").save(tmp_path / "more" / "House.TTF")
    (tmp_path / "readme.txt").write_text("not a font")
    fonts = load_fonts(tmp_path)
    assert list(fonts.families) == ["House Sans", *FONTS.families]
    assert read(render_pdf(a_text("Ann \ue000\u0f40"), fonts)).lines[3] == "Ann \ue000\u0f40"


def test_a_collection_has_the_characters_of_all_its_families(tmp_path: Path) -> None:
    collection = TTCollection()
    collection.fonts = [a_font("House Sans", "\ue000"), a_font("House Serif", "\ue001")]
    collection.save(tmp_path / "house.ttc")
    fonts = load_fonts(tmp_path)
    assert (fonts.families["House Sans"], fonts.families["House Serif"]) == ({0xE000}, {0xE001})
    assert read(render_pdf(a_text("Ann \ue000 \ue001"), fonts)).lines[3] == "Ann \ue000 \ue001"


def test_a_font_that_the_renderer_cannot_use_does_not_count(tmp_path: Path) -> None:
    # Without a PostScript name typst passes it over without a word, and would print boxes.
    a_font("House Sans", "\ue000", postscript=False).save(tmp_path / "house.ttf")
    fonts = load_fonts(tmp_path)
    assert fonts.families == FONTS.families
    with pytest.raises(MissingGlyph, match=r"U\+E000"):
        render_pdf(a_text("\ue000"), fonts)


def test_a_family_has_what_each_of_its_faces_has(tmp_path: Path) -> None:
    # Which face typst takes depends on weight and style, so that only the common characters are sure.
    a_font("House Sans", "\ue000\ue001").save(tmp_path / "a.ttf")
    a_font("House Sans Bold", "\ue001\ue002").save(tmp_path / "b.otf")
    assert load_fonts(tmp_path).families["House Sans"] == {0xE001}


def test_control_characters_and_white_space_become_one_space_and_marks_are_composed() -> None:
    assert clean("  Ann\r\n\t\x00\x1b Lee\u3000\u2028x\u00a0y ") == "Ann Lee x y"
    assert clean("e\u0301") == "é"


def test_only_words_that_are_too_long_get_places_to_break() -> None:
    assert breakable(f"{'a' * 30} b") == f"{'a' * 30} b"
    assert breakable(f"x {'a' * 31}") == f"x {'a' * 15}{ZERO_WIDTH_SPACE}{'a' * 15}{ZERO_WIDTH_SPACE}a"


@pytest.mark.parametrize("cluster", ["कि", "क्ष", "क्\u200dष", "र्‌य", "q\u0307\u0323"])
def test_no_word_breaks_inside_a_cluster(cluster: str) -> None:
    pieces = breakable(cluster * 20).split(ZERO_WIDTH_SPACE)
    assert len(pieces) > 1
    assert all(set(piece.split(cluster)) == {""} for piece in pieces)


@given(st.text())
def test_places_to_break_are_all_that_is_added(text: str) -> None:
    assert breakable(text).replace(ZERO_WIDTH_SPACE, "") == text.replace(ZERO_WIDTH_SPACE, "")
