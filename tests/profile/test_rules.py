import msgspec
import pytest

from lms.errors import Invalid
from lms.profile.rules import check_time_zone, normal_locale
from lms.profile.schemas import LanguageTag

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("EN", "en"),
        ("pt-br", "pt-BR"),
        ("ZH-HANT-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("de-ch-1901", "de-CH-1901"),
        ("sl-rozaj-BISKE", "sl-rozaj-biske"),
        ("en-US-U-CA-Islamic", "en-US-u-ca-islamic"),
        ("ar-x-home-AB", "ar-x-home-ab"),
    ],
)
def test_a_language_tag_is_stored_in_its_usual_case(given: str, normal: str) -> None:
    assert normal_locale(msgspec.convert(given, LanguageTag)) == normal


@pytest.mark.parametrize(
    "given", ["", "e", "english", "pt_BR", "pt-", "-pt", "pt-BR-", "en--US", "en US", "12", "en-u", "en\n", "x" * 36]
)
def test_what_is_no_language_tag_is_refused(given: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, LanguageTag)


def test_only_known_time_zones_are_taken() -> None:
    check_time_zone("Europe/Lisbon", {"Europe/Lisbon"})
    with pytest.raises(Invalid) as caught:
        check_time_zone("europe/lisbon", {"Europe/Lisbon"})
    assert [(error.code, error.pointer) for error in caught.value.errors] == [("unknown_time_zone", "#/time_zone")]
