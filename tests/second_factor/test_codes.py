import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import pytest

from lms.second_factor.codes import (
    as_base32,
    code_of,
    matching_step,
    new_recovery_code,
    new_secret,
    normal_code,
    normal_recovery_code,
    provisioning_uri,
    step_at,
)
from lms.second_factor.secrets import seal, unseal
from tests.conftest import settings_for

pytestmark = pytest.mark.quick

# RFC 6238, appendix B: the secret of SHA-1, and the last six of the eight digits.
SECRET = b"12345678901234567890"
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]
# RFC 4226, appendix D, counts from 0.
COUNTED = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(("seconds", "code"), VECTORS)
def test_the_vectors_of_rfc_6238(seconds: int, code: str) -> None:
    assert code_of(SECRET, step_at(at(seconds))) == code
    assert matching_step(SECRET, code, at(seconds), after=-1) == seconds // 30


def test_the_vectors_of_rfc_4226() -> None:
    assert [code_of(SECRET, step) for step in range(10)] == COUNTED


@pytest.mark.parametrize(("steps", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
@pytest.mark.parametrize("second", [0, 29.999])
def test_a_clock_may_be_off_by_one_step(steps: int, counts: bool, second: float) -> None:
    now = at(1_000 * 30 + second)
    found = matching_step(SECRET, code_of(SECRET, 1_000 + steps), now, after=-1)
    assert found == (1_000 + steps if counts else None)


def test_a_step_counts_once_and_none_of_before() -> None:
    now = at(1_000 * 30)
    codes = {step: code_of(SECRET, step) for step in (999, 1_000, 1_001)}
    assert [matching_step(SECRET, code, now, after=1_000) for code in codes.values()] == [None, None, 1_001]


@pytest.mark.parametrize("code", ["", "28708", "2870822", "28708\u0662", "\ud800", "-87082"])
def test_what_is_no_code_is_not_right(code: str) -> None:
    assert matching_step(SECRET, code, at(59), after=-1) is None


def test_a_code_is_read_as_apps_show_it() -> None:
    assert normal_code(" 287 082 ") == "287082"


def test_secrets_have_160_bits_and_no_padding() -> None:
    assert len(new_secret()) == 20
    assert re.fullmatch(r"[A-Z2-7]{32}", as_base32(new_secret()))
    assert len({new_secret() for _ in range(50)}) == 50


def test_the_address_says_all_that_an_app_needs() -> None:
    uri = provisioning_uri(SECRET, "Tide: Été & Co", "sam+x@school.example")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/Tide  Été & Co:sam+x@school.example"
    assert parse_qs(parts.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"],
        "issuer": ["Tide  Été & Co"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert uri.isascii()


def test_recovery_codes_have_120_bits_in_groups() -> None:
    codes = {new_recovery_code() for _ in range(100)}
    assert len(codes) == 100
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in codes)


@pytest.mark.parametrize("typed", ["ABCD-efgh-2345", "abcdefgh2345", " abcd efgh\t2345\n", "--abcd--efgh2345-"])
def test_a_recovery_code_is_read_however_it_is_typed(typed: str) -> None:
    assert normal_recovery_code(typed) == "abcdefgh2345"


def test_what_is_sealed_opens_for_its_owner_with_the_same_key() -> None:
    settings, owner = settings_for("mongodb://unused", ""), uuid4()
    other = settings_for("mongodb://unused", "", LMS_SECRET_KEY="another-key-of-thirty-two-characters")
    sealed = seal(settings, SECRET, owner)
    assert SECRET not in sealed
    assert unseal(settings, sealed, owner) == SECRET
    assert unseal(settings, sealed, uuid4()) is None
    assert unseal(other, sealed, owner) is None
    assert unseal(settings, sealed[:-1] + bytes([sealed[-1] ^ 1]), owner) is None
    assert seal(settings, SECRET, owner) != sealed
