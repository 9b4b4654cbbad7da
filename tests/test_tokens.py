import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lms.keys import new_seed
from lms.settings import Settings, load_settings
from lms.tokens import MAX_TOKEN_LENGTH, KeyRing, RefreshToken, TokenRefused

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
USER, FAMILY = uuid4(), uuid4()
SEED, OTHER_SEED = new_seed(), new_seed()


def settings_with(*seeds: str, **more: str) -> Settings:
    environ = {"LMS_SECRET_KEY": "k" * 32, "LMS_PASSWORD_PEPPER": "p" * 32, "LMS_JWT_KEYS": ",".join(seeds or [SEED])}
    return load_settings(environ | more)


RING = KeyRing(settings_with())


def genuine() -> str:
    return RING.issue(USER, FAMILY, "student", 3, NOW)


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def key_of(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(f"{seed}="))


def signed(claims: dict[str, Any] | None = None, seed: str = SEED, **header: Any) -> str:
    """As our own ring signs, but with what the test changes; a header of None is left out."""
    headers = {"typ": "at+jwt", "kid": jwt.get_unverified_header(genuine())["kid"]} | header
    return jwt.encode(claims or claims_of(genuine()), key_of(seed), "EdDSA", headers=headers)


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def refused(token: str, ring: KeyRing = RING, now: datetime = NOW) -> str:
    with pytest.raises(TokenRefused) as caught:
        ring.verify(token, now)
    assert not token or token not in str(caught.value)
    return str(caught.value)


def test_a_token_says_who_is_asking_and_until_when() -> None:
    token = genuine()
    claims = RING.verify(token, NOW)
    assert (claims.user_id, claims.session_id, claims.role, claims.epoch) == (USER, FAMILY, "student", 3)
    assert claims.expires_at == int(NOW.timestamp()) + 900
    assert claims_of(token) == {
        "iss": "lms",
        "aud": "lms-api",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 900,
        "sub": str(USER),
        "sid": str(FAMILY),
        "role": "student",
        "epoch": 3,
    }
    assert RING.verify(signed(), NOW) == claims


def test_a_restricted_token_says_so_and_no_other_does() -> None:
    token = RING.issue(USER, FAMILY, "admin", 3, NOW, restricted=True)
    assert RING.verify(token, NOW).restricted is True
    assert claims_of(token)["restricted"] is True
    assert RING.verify(genuine(), NOW).restricted is False


def test_the_header_names_the_key_by_its_thumbprint() -> None:
    header = jwt.get_unverified_header(genuine())
    public = key_of(SEED).public_key().public_bytes_raw()
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": part(public)}, separators=(",", ":"))
    thumbprint = part(hashlib.sha256(canonical.encode()).digest())
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": thumbprint}


def test_it_ends_at_the_second_it_names() -> None:
    token = genuine()
    assert RING.verify(token, NOW + timedelta(seconds=899, milliseconds=999)).user_id == USER
    assert refused(token, now=NOW + timedelta(seconds=900)) == "expired"


def test_it_counts_from_a_clock_five_seconds_ahead_but_not_six() -> None:
    token = genuine()
    assert RING.verify(token, NOW - timedelta(seconds=5)).user_id == USER
    assert refused(token, now=NOW - timedelta(seconds=6)) == "not valid yet"
    later = claims_of(token) | {"nbf": int(NOW.timestamp()) + 60}
    assert refused(signed(later)) == "not valid yet"


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE"])
def test_a_token_without_a_signature_is_refused(algorithm: str) -> None:
    header = jwt.get_unverified_header(genuine()) | {"alg": algorithm}
    for signature in ("", genuine().split(".")[2]):
        assert refused(f"{part(header)}.{part(claims_of(genuine()))}.{signature}") == "InvalidAlgorithmError"


@pytest.mark.parametrize("encoded", ["raw", "pem"])
def test_the_public_key_is_no_secret_to_sign_with(encoded: str) -> None:
    public = key_of(SEED).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = public.public_bytes_raw() if encoded == "raw" else pem
    header = jwt.get_unverified_header(genuine()) | {"alg": "HS256"}
    content = f"{part(header)}.{part(claims_of(genuine()))}"
    signature = part(hmac.new(secret, content.encode(), hashlib.sha256).digest())
    assert refused(f"{content}.{signature}") == "InvalidAlgorithmError"


def test_another_algorithm_is_refused() -> None:
    headers = {"typ": "at+jwt", "kid": jwt.get_unverified_header(genuine())["kid"]}
    token = jwt.encode(claims_of(genuine()), generate_private_key(SECP256R1()), "ES256", headers=headers)
    assert refused(token) == "InvalidAlgorithmError"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"typ": "JWT"}, "header"),
        ({"typ": "rt+jwt"}, "header"),
        ({"typ": None}, "header"),
        ({"typ": ["at+jwt"]}, "header"),
        ({"jwk": {"kty": "OKP"}}, "header"),
        ({"jku": "https://keys.example"}, "header"),
        ({"x5u": "https://keys.example"}, "header"),
        ({"x5c": []}, "header"),
        ({"crit": ["exp"]}, "header"),
        ({"kid": "unknown"}, "unknown key"),
        ({"kid": ""}, "unknown key"),
        ({"kid": None}, "unknown key"),
        ({"kid": "../../../../dev/null"}, "unknown key"),
        ({"kid": "x' UNION SELECT 'secret"}, "unknown key"),
        ({"kid": "|cat /etc/passwd"}, "unknown key"),
        ({"kid": "https://keys.example/jwks.json"}, "unknown key"),
        ({"kid": "{kid}\0"}, "unknown key"),
        ({"kid": "{kid} "}, "unknown key"),
        ({"kid": ["{kid}"]}, "unknown key"),
        ({"kid": {"$ne": ""}}, "unknown key"),
        ({"kid": 0}, "unknown key"),
    ],
)
def test_a_header_that_says_something_else_is_refused(header: dict[str, Any], reason: str) -> None:
    own = jwt.get_unverified_header(genuine())
    given = {"alg": "EdDSA"} | own | json.loads(json.dumps(header).replace("{kid}", own["kid"]))
    content = f"{part(given)}.{part(claims_of(genuine()))}"
    signature = part(key_of(SEED).sign(content.encode()))
    assert refused(f"{content}.{signature}") in {reason, "InvalidTokenError"}


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    own = key_of(OTHER_SEED)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(own.public_key().public_bytes_raw())}
    assert refused(signed(seed=OTHER_SEED, jwk=jwk)) == "header"


def test_a_signature_by_another_key_under_our_keys_name_is_refused() -> None:
    assert refused(signed(seed=OTHER_SEED)) == "InvalidSignatureError"


def test_a_token_of_another_installation_is_refused() -> None:
    other = KeyRing(settings_with(OTHER_SEED))
    assert refused(genuine(), other) == "unknown key"
    assert refused(genuine(), KeyRing(settings_with(LMS_JWT_ISSUER="other"))) == "InvalidIssuerError"
    assert refused(genuine(), KeyRing(settings_with(LMS_JWT_AUDIENCE="other"))) == "InvalidAudienceError"


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat", "sub", "sid", "role", "epoch"])
def test_a_missing_claim_is_refused(name: str) -> None:
    claims = claims_of(genuine())
    del claims[name]
    assert refused(signed(claims)) == "MissingRequiredClaimError"


@pytest.mark.parametrize(
    "change",
    [
        {"sub": "sam"},
        {"sub": 7},
        {"sid": "1"},
        {"sid": None},
        {"sid": 7},
        {"epoch": "first"},
        {"epoch": [1]},
        {"exp": "tomorrow"},
        {"exp": None},
        {"exp": float("inf")},
        {"iat": "yesterday"},
        {"iat": [1]},
        {"nbf": None},
        {"nbf": "now"},
        {"iss": "somebody"},
        {"aud": ["lms-api-2"]},
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    refused(signed(claims_of(genuine()) | change))


def test_a_changed_payload_is_refused() -> None:
    header, _, signature = genuine().split(".")
    assert refused(f"{header}.{part(claims_of(genuine()) | {'role': 'admin'})}.{signature}") == "InvalidSignatureError"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b",
        "\xe9.\xe9.\xe9",
        "\0",
        f"{part([])}.{part({})}.AA",
        f"{part(b'[' * 1400)}.e30.AA",
        f"{part(b'1' * 1400)}.e30.AA",
    ],
)
def test_garbage_is_refused(token: str) -> None:
    refused(token)


def test_a_token_that_is_too_long_is_not_even_read() -> None:
    assert refused(signed(claims_of(genuine()) | {"more": "x" * MAX_TOKEN_LENGTH})) == "too long"


def test_the_first_key_signs_and_all_verify() -> None:
    old, rotated = KeyRing(settings_with(SEED)), KeyRing(settings_with(OTHER_SEED, SEED))
    assert rotated.verify(old.issue(USER, FAMILY, "student", 0, NOW), NOW).user_id == USER
    fresh = rotated.issue(USER, FAMILY, "student", 0, NOW)
    assert rotated.verify(fresh, NOW) == KeyRing(settings_with(OTHER_SEED)).verify(fresh, NOW)
    assert refused(fresh, old) == "unknown key"


def test_what_is_published_are_the_public_parts_under_their_ids() -> None:
    rotated = KeyRing(settings_with(OTHER_SEED, SEED))
    public = [part(key_of(seed).public_key().public_bytes_raw()) for seed in (OTHER_SEED, SEED)]
    assert list(rotated.published().values()) == public
    assert jwt.get_unverified_header(genuine())["kid"] == list(rotated.published())[1]


def test_a_refresh_token_is_read_back_as_it_was_made() -> None:
    token = RefreshToken.make(settings_with(), FAMILY, 41, "nonce")
    assert RefreshToken.parse(str(token)) == token
    assert (token.family, token.generation) == (FAMILY, 41)
    assert token.is_genuine(settings_with(), "nonce")


def test_a_refresh_token_is_genuine_only_for_its_family_generation_nonce_and_key() -> None:
    token = RefreshToken.make(settings_with(), FAMILY, 1, "nonce")
    assert not token.is_genuine(settings_with(), "nonce2")
    assert not token.is_genuine(settings_with(LMS_SECRET_KEY="l" * 32), "nonce")
    assert not RefreshToken(uuid4(), 1, token.proof).is_genuine(settings_with(), "nonce")
    assert not RefreshToken(FAMILY, 2, token.proof).is_genuine(settings_with(), "nonce")
    assert not RefreshToken(FAMILY, 1, token.proof[:-1]).is_genuine(settings_with(), "nonce")
    assert not RefreshToken(FAMILY, 1, "").is_genuine(settings_with(), "nonce")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "no-family.1.proof",
        f"{UUID(int=1)}.1",
        f"{UUID(int=1)}.1.proof.more",
        f"{UUID(int=1)}.-1.proof",
        f"{UUID(int=1)}.one.proof",
        f"{UUID(int=1)}.\u0661.proof",
        f"{UUID(int=1)}.1234567890.proof",
        f"{UUID(int=1)}.1.pro\xf6f",
        "\xe9.1.proof",
    ],
)
def test_what_has_not_the_form_of_a_refresh_token_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused, match="form"):
        RefreshToken.parse(text)
