import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.folding import fold, folded_words, search_words

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Łukasz ÑANDÚ", "lukasz nandu"),
        ("Zoe\u0308 = Zoë", "zoe = zoe"),
        ("STRASSE Straße", "strasse strasse"),
        ("Ærø Þór Œuvre Đặng", "aero thor oeuvre dang"),
        ("İstanbul I\u011fd\u0131r", "istanbul igdir"),
        ("Ἀθῆναι ΑΘΗΝΑΙ", "αθηναι αθηναι"),
        ("Йод", "иод"),
        ("हिन्दी", "हिन्दी"),
        ("欧阳", "欧阳"),
        ("\uff33\uff41\uff4d ℡", "sam tel"),
    ],
)
def test_case_and_accents_are_taken_off(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_what_is_pasted_from_a_mail_is_found() -> None:
    assert folded_words('"Okafor, Sam" <Sam@School.example>; ') == ["okafor", "sam", "sam@school.example"]
    assert folded_words(" ,, () ") == []


def test_a_person_is_found_by_every_part_of_the_name_and_by_the_address() -> None:
    assert search_words("sam.o@school.example", "Anne-Marie  O'Neil (Anne)") == [
        *("sam.o@school.example", "anne-marie", "o'neil", "anne", "marie", "o", "neil"),
    ]
