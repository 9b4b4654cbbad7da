import hashlib
import re
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.api_keys.rules import ALPHABET, LENGTH, ApiKeyMistyped, key_text, parse_key, prefix_of, state_of
from lms.clock import utc_now
from lms.ids import new_id
from lms.redaction import redact

SECRET = bytes(range(32))
SCANNED = re.compile(r"lms_[0-9A-Za-z]{22}_[0-9A-Za-z]{49}")


@given(st.uuids(), st.binary(min_size=32, max_size=32))
def test_a_key_is_read_as_it_was_written(key_id: UUID, secret: bytes) -> None:
    text = key_text(key_id, secret)
    assert SCANNED.fullmatch(text)
    assert len(text) == LENGTH
    found, told = parse_key(text)
    assert found == key_id
    assert text.startswith(f"{prefix_of(key_id)}_{told}")


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_two_secrets_are_never_written_alike(one: bytes, other: bytes) -> None:
    key_id = UUID(int=7)
    assert (key_text(key_id, one) == key_text(key_id, other)) == (one == other)


def test_every_single_mistake_is_seen() -> None:
    text = key_text(new_id(), SECRET)
    for place, symbol in enumerate(text):
        for other in (*ALPHABET, "_", " ", "é", "\n"):
            if other != symbol:
                with pytest.raises(ApiKeyMistyped):
                    parse_key(text[:place] + other + text[place + 1 :])


def test_two_letters_that_changed_places_are_seen() -> None:
    text = key_text(new_id(), SECRET)
    for place in range(len(text) - 1):
        swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        if swapped != text:
            with pytest.raises(ApiKeyMistyped):
                parse_key(swapped)


@pytest.mark.parametrize("wrong", ["", "lms_", "lms_x", "é" * LENGTH, "_" * LENGTH, "lms_" + "0" * (LENGTH - 4)])
def test_what_is_no_key_is_refused(wrong: str) -> None:
    with pytest.raises(ApiKeyMistyped):
        parse_key(wrong)


def test_a_key_that_was_cut_or_grew_is_refused() -> None:
    text = key_text(new_id(), SECRET)
    for wrong in (text[:-1], text[1:], f"{text}0", f" {text}", text.lower(), text.upper()):
        with pytest.raises(ApiKeyMistyped):
            parse_key(wrong)


def test_an_id_that_is_none_is_refused_with_a_right_checksum_too() -> None:
    largest = key_text(UUID(int=2**128 - 1), SECRET)
    assert parse_key(largest)[0].int == 2**128 - 1
    # One more than fits into 128 bits: everything else about it is right.
    body = largest[:4] + _next(largest[4:26]) + largest[26:-6]
    forged = body + _checksum(body)
    assert SCANNED.fullmatch(forged)
    with pytest.raises(ApiKeyMistyped):
        parse_key(forged)


def _next(symbols: str) -> str:
    last = ALPHABET.index(symbols[-1])
    return symbols[:-1] + ALPHABET[last + 1] if last + 1 < len(ALPHABET) else _next(symbols[:-1]) + ALPHABET[0]


def _checksum(body: str) -> str:
    number, symbols = int.from_bytes(hashlib.sha256(body.encode()).digest()[:4]), ""
    for _ in range(6):
        number, place = divmod(number, 62)
        symbols = ALPHABET[place] + symbols
    return symbols


def test_a_state_is_told() -> None:
    now = utc_now()
    later, before = now + timedelta(seconds=1), now - timedelta(seconds=1)
    assert state_of(None, later, now) == "active"
    assert state_of(None, now, now) == "expired"
    assert state_of(before, later, now) == "revoked"
    assert state_of(before, before, now) == "revoked"


def test_a_key_stands_in_no_log_line() -> None:
    key_id = new_id()
    text = key_text(key_id, SECRET)
    for line in (text, f"x={text}", f"refused {text}: no", f"'{text[:-9]}'"):
        told = redact(line)
        assert text[27:60] not in told
        assert "[redacted]" in told
    assert redact(f"revoked {prefix_of(key_id)} just now") == f"revoked {prefix_of(key_id)} just now"
