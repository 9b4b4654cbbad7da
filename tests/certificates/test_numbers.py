from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.certificates.numbers import ALPHABET, CHECK_ALPHABET, GROUPS, MAX_TEXT, enrollment_id_of, number_of

KNOWN = {
    UUID(int=0): "000000-00000-00000-00000-000000",
    UUID(int=37): "000000-00000-00000-00000-000150",
    UUID(int=(1 << 128) - 1): "7ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ*",
    UUID("0190a5b2-7c3d-7e4f-8a6b-0c1d2e3f4a5b"): "01J2JV-4Z1XF-S7RMT-RC3MQ-3YJJVT",
}
LARGE = UUID("0190a5b2-7c3d-7e4f-8a6b-0c1d2e3f4a5b")
WITH_EVERY_CHECK_SYMBOL = [UUID(int=LARGE.int + n) for n in range(37)]


def check_value(symbols: str) -> int:
    """Crockford's own definition, one symbol at a time."""
    rest = 0
    for one in symbols:
        rest = (rest * 32 + ALPHABET.index(one)) % 37
    return rest


def test_the_alphabet_is_crockfords() -> None:
    assert len(set(ALPHABET)) == 32
    assert not set("ILOU") & set(ALPHABET)
    assert CHECK_ALPHABET == ALPHABET + "*~$=U"


@pytest.mark.parametrize("enrollment_id", KNOWN)
def test_known_numbers_stay_as_they_are(enrollment_id: UUID) -> None:
    assert number_of(enrollment_id) == KNOWN[enrollment_id]


@given(st.uuids())
def test_a_number_leads_back_to_its_enrolment(enrollment_id: UUID) -> None:
    number = number_of(enrollment_id)
    assert tuple(map(len, number.split("-"))) == GROUPS
    symbols = number.replace("-", "")
    assert CHECK_ALPHABET[check_value(symbols[:-1])] == symbols[-1]
    assert enrollment_id_of(number) == enrollment_id


@given(st.uuids(), st.data())
def test_every_way_to_type_a_number_is_read(enrollment_id: UUID, data: st.DataObject) -> None:
    def typed(symbol: str) -> str:
        same = {"0": "0Oo", "1": "1IiLl"}.get(symbol, symbol + symbol.lower())
        return data.draw(st.sampled_from(same)) + data.draw(st.sampled_from(["", "", "-", " "]))

    text = "".join(map(typed, number_of(enrollment_id).replace("-", "")))
    assert enrollment_id_of(text) == enrollment_id


@pytest.mark.parametrize("enrollment_id", WITH_EVERY_CHECK_SYMBOL, ids=lambda one: number_of(one)[-1])
def test_any_single_wrong_symbol_is_refused(enrollment_id: UUID) -> None:
    symbols = number_of(enrollment_id).replace("-", "")
    for place, right in enumerate(symbols):
        for wrong in set(CHECK_ALPHABET) - {right}:
            assert enrollment_id_of(symbols[:place] + wrong + symbols[place + 1 :]) is None, (place, wrong)


@given(st.uuids())
def test_two_neighbours_that_changed_places_are_refused(enrollment_id: UUID) -> None:
    symbols = number_of(enrollment_id).replace("-", "")
    for place, (left, right) in enumerate(pairwise(symbols)):
        if left != right:
            assert enrollment_id_of(symbols[:place] + right + left + symbols[place + 2 :]) is None


@given(st.uuids(), st.data())
def test_a_number_that_lost_or_gained_a_symbol_is_refused(enrollment_id: UUID, data: st.DataObject) -> None:
    symbols = number_of(enrollment_id).replace("-", "")
    place = data.draw(st.integers(0, len(symbols) - 1))
    assert enrollment_id_of(symbols[:place] + symbols[place + 1 :]) is None
    assert enrollment_id_of(symbols[:place] + data.draw(st.sampled_from(ALPHABET)) + symbols[place:]) is None


def test_a_value_of_more_than_128_bits_is_refused_although_its_check_symbol_is_right() -> None:
    symbols = "8" + "0" * 25
    assert enrollment_id_of(symbols + CHECK_ALPHABET[check_value(symbols)]) is None


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    found = enrollment_id_of(text)
    assert found is None or enrollment_id_of(number_of(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "0" * 26,
        "0" * 28,
        # The full-width zero and the Arabic-Indic zero are digits for Python, and not for us.
        "\uff10" * 27,
        "\u0660" * 27,
        # Its upper case is two letters, its lower case is i with a dot.
        "\u00df" * 13 + "0",
        "\u0130" + "0" * 26,
        "0\x00" * 13 + "0",
        "../" * 9,
    ],
)
def test_what_cannot_be_a_number_is_none(text: str) -> None:
    assert enrollment_id_of(text) is None


def test_separators_count_towards_the_longest_text_that_is_read() -> None:
    zeros = "0" * 27
    assert enrollment_id_of(zeros + "-" * (MAX_TEXT - 27)) == UUID(int=0)
    assert enrollment_id_of(zeros + "-" * (MAX_TEXT - 26)) is None
