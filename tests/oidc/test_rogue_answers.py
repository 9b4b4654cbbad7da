"""Providers, or whoever sits between, that say what is not to be believed: nobody is signed in by it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from lms.accounts.documents import User
from lms.app import create_app
from lms.oidc import provider as providing
from lms.oidc.documents import Identity, OidcCode
from lms.settings import Settings
from tests.conftest import running
from tests.oidc.browser import Browser, told
from tests.oidc.rogue import CURVE, ED25519, KEYS, RSA, SHORT_RSA, STRANGERS, Rogue, http, jwk_of

PROVIDER_REFUSED, UNAVAILABLE = "provider_refused", "provider_unavailable"


async def arrive(browser: Browser, rogue: Rogue, **query: Any) -> dict[str, str]:
    asked = await browser.away()
    rogue.nonce = asked["nonce"]
    return told(await browser.callback("rogue", **{"code": "a-code", "state": asked["state"], **query}))


async def refused(browser: Browser, rogue: Rogue, failure: str = PROVIDER_REFUSED, **query: Any) -> str:
    """The reason that the log has; the app is told no more than the word."""
    with capture_logs() as lines:
        assert await arrive(browser, rogue, **query) == {"error": failure, "provider": "rogue"}
    assert await User.count() == await Identity.count() == await OidcCode.count() == 0
    (line,) = [line for line in lines if line["event"] == "oidc_sign_in_failed"]
    return line["reason"]


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")])
async def test_each_allowed_algorithm_signs_in(browser: Browser, rogue: Rogue, algorithm: str, kid: str) -> None:
    rogue.algorithm, rogue.key, rogue.headers = algorithm, KEYS[algorithm], {"kid": kid}
    for one in rogue.keys:
        one.pop("alg", None)
    assert "code" in await arrive(browser, rogue)


def sign_by_stranger(rogue: Rogue) -> None:
    rogue.key = STRANGERS


def sign_by_nobody(rogue: Rogue) -> None:
    rogue.algorithm, rogue.key = "none", None


def sign_by_the_public_key(rogue: Rogue) -> None:
    """An HMAC whose secret everybody knows."""
    rogue.algorithm, rogue.key = "HS256", str(rogue.keys[0]["n"]).encode()


def sign_by_the_secret(rogue: Rogue) -> None:
    rogue.algorithm, rogue.key = "HS256", b"secret" * 8


def name_an_unknown_key(rogue: Rogue) -> None:
    rogue.headers = {"kid": "nobody's"}


def name_no_key_of_two(rogue: Rogue) -> None:
    rogue.headers = {}
    rogue.keys.append(jwk_of(STRANGERS, "RS256", "other"))


def bring_the_key_along(rogue: Rogue) -> None:
    rogue.key, rogue.headers = STRANGERS, {"jwk": jwk_of(STRANGERS, "RS256", "rsa")}


def sign_with_a_key_for_encryption(rogue: Rogue) -> None:
    rogue.keys[0]["use"] = "enc"


def sign_with_a_short_key(rogue: Rogue) -> None:
    rogue.key, rogue.keys = SHORT_RSA, [jwk_of(SHORT_RSA, "RS256", "rsa")]


def sign_with_a_key_of_another_kind(rogue: Rogue) -> None:
    rogue.key, rogue.algorithm, rogue.headers = CURVE, "ES256", {"kid": "rsa"}


def sign_against_the_keys_algorithm(rogue: Rogue) -> None:
    rogue.algorithm, rogue.keys[0]["alg"] = "PS256", "RS256"


def have_what_nobody_understands(rogue: Rogue) -> None:
    rogue.headers = {"kid": "rsa", "crit": ["b64"], "b64": True}


def publish_nonsense(rogue: Rogue) -> None:
    rogue.keys = [{"kty": "RSA", "kid": "rsa", "n": "!", "e": "AQAB"}]


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "tamper",
    [
        *(sign_by_stranger, sign_by_nobody, sign_by_the_public_key, sign_by_the_secret, name_an_unknown_key),
        *(name_no_key_of_two, bring_the_key_along, sign_with_a_key_for_encryption, sign_with_a_short_key),
        *(sign_with_a_key_of_another_kind, sign_against_the_keys_algorithm, have_what_nobody_understands),
        publish_nonsense,
    ],
)
async def test_a_token_that_no_published_key_has_signed_is_refused(
    browser: Browser, rogue: Rogue, tamper: Callable[[Rogue], None]
) -> None:
    tamper(rogue)
    assert "key" in (reason := await refused(browser, rogue)) or "ID token" in reason


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://id.school.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another-app"}, "aud"),
        ({"aud": ["another-app"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["lms", "another-app"]}, "azp"),
        ({"aud": ["lms", "another-app"], "azp": "another-app"}, "aud"),
        ({"azp": "another-app"}, "aud"),
        ({"exp": None}, "times"),
        ({"exp": "tomorrow"}, "times"),
        ({"exp": True}, "times"),
        ({"iat": None}, "times"),
        ({"nonce": "of-another-sign-in"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"at_hash": "of-another-token"}, "at_hash"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "s" * 256}, "sub"),
        ({"sub": None}, "sub"),
    ],
)
async def test_a_token_for_somebody_or_something_else_is_refused(
    browser: Browser, rogue: Rogue, claims: dict[str, Any], reason: str
) -> None:
    rogue.claims = claims
    assert await refused(browser, rogue) == reason


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [({"exp": -61}, "expired"), ({"iat": 90}, "not valid yet"), ({"nbf": 90}, "not valid yet")],
)
async def test_a_token_of_another_time_is_refused(
    browser: Browser, rogue: Rogue, seconds: dict[str, int], reason: str
) -> None:
    rogue.seconds = seconds
    assert await refused(browser, rogue) == reason


async def test_clocks_may_differ_a_little(browser: Browser, rogue: Rogue) -> None:
    rogue.seconds = {"exp": -30, "iat": 30}
    assert "code" in await arrive(browser, rogue)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["lms"]},
        {"aud": ["lms", "another-app"], "azp": "lms"},
        {"at_hash": None},
        {"email_verified": "true"},
        {"amr": ["pwd"]},
    ],
)
async def test_what_the_standard_allows_is_taken(browser: Browser, rogue: Rogue, claims: dict[str, Any]) -> None:
    rogue.claims = claims
    assert "code" in await arrive(browser, rogue)


@pytest.mark.parametrize("told_of", [False, "false", "yes", 1.5, None, ["true"]])
async def test_only_an_address_that_was_verified_counts(browser: Browser, rogue: Rogue, told_of: object) -> None:
    rogue.claims = {"email_verified": told_of}
    await refused(browser, rogue, "email_not_verified")


@pytest.mark.parametrize("email", ["", "sam", "sam@school", "sam@school.example\n", "a b@c.de", 7, "s" * 250 + "@c.de"])
async def test_what_is_no_address_is_none(browser: Browser, rogue: Rogue, email: object) -> None:
    rogue.claims = {"email": email}
    if email == "sam@school.example\n":
        assert "code" in await arrive(browser, rogue)
    else:
        await refused(browser, rogue, "email_not_verified")


async def test_an_answer_of_another_issuer_is_no_answer(browser: Browser, rogue: Rogue) -> None:
    assert await refused(browser, rogue, iss="https://evil.example") == "the answer names another issuer"
    assert await refused(browser, rogue, iss=[rogue.issuer, rogue.issuer]) == "the answer names another issuer"
    assert "/token" not in rogue.paths()
    assert "code" in await arrive(browser, rogue, iss=rogue.issuer)


async def test_who_promised_to_name_itself_has_to(browser: Browser, rogue: Rogue) -> None:
    rogue.metadata = {"authorization_response_iss_parameter_supported": True}
    assert await refused(browser, rogue) == "the answer names another issuer"
    assert "code" in await arrive(browser, rogue, iss=rogue.issuer)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("access_denied", "cancelled"),
        ("temporarily_unavailable", UNAVAILABLE),
        ("invalid_scope", PROVIDER_REFUSED),
        ("<script>alert(1)</script>", PROVIDER_REFUSED),
        ("", PROVIDER_REFUSED),
    ],
)
async def test_the_providers_own_words_stay_here(browser: Browser, rogue: Rogue, error: str, failure: str) -> None:
    with capture_logs() as lines:
        answer = await arrive(browser, rogue, code="", error=error, error_description="<b>your words</b>")
    assert answer == {"error": failure, "provider": "rogue"}
    assert "words" not in str(lines)
    assert "script" not in str(lines)


TOKEN, DISCOVERY, JWKS = "/token", "/.well-known/openid-configuration", "/keys"
ANSWERS = {
    "no JSON": http(b"<html>"),
    "no object": http(b"[]"),
    "not UTF-8": http(b'{"a": "\xff"}'),
    "a redirect": http(b"", "302 Found", "Location: http://127.0.0.1:1/stolen"),
    "an error": http(b'{"error": "invalid_grant"}', "400 Bad Request"),
    "huge": http(b'{"a": "' + b"x" * 300_000 + b'"}'),
    "endless nesting": http(b'{"a":' + b"[" * 100_000),
    "compressed": http(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"),
}
REASONS = {"a redirect": "status 302", "an error": "status 400", "huge": "too large an answer"}


@pytest.mark.parametrize("path", [TOKEN, JWKS])
@pytest.mark.parametrize("answer", list(ANSWERS))
async def test_what_is_no_answer_signs_nobody_in(browser: Browser, rogue: Rogue, path: str, answer: str) -> None:
    rogue.raw = {path: ANSWERS[answer]}
    assert await refused(browser, rogue) == REASONS.get(answer, "no JSON object")


@pytest.mark.parametrize("path", [TOKEN, JWKS])
@pytest.mark.parametrize("answer", [http(b"", "503 Service Unavailable"), b"nonsense\r\n\r\n", b"\r\n"])
async def test_a_provider_that_does_not_work_is_unavailable(
    browser: Browser, rogue: Rogue, path: str, answer: bytes
) -> None:
    rogue.raw = {path: answer}
    await refused(browser, rogue, UNAVAILABLE)


async def test_a_provider_that_never_answers_is_given_up(browser: Browser, rogue: Rogue) -> None:
    rogue.silent = {TOKEN}
    began = time.monotonic()
    await refused(browser, rogue, UNAVAILABLE)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    "tokens", [{"id_token": None}, {"access_token": 7}, {"id_token": "x.y"}, {"id_token": "x" * 20_000}]
)
async def test_tokens_that_are_none_are_refused(browser: Browser, rogue: Rogue, tokens: dict[str, Any]) -> None:
    rogue.tokens = tokens
    await refused(browser, rogue)


async def test_the_client_proves_itself_as_the_provider_wants_it(browser: Browser, rogue: Rogue) -> None:
    assert "code" in await arrive(browser, rogue)
    (asked,) = [one for one in rogue.asked if one.path.endswith(TOKEN)]
    assert asked.headers["authorization"] == "Basic bG1zOnNlY3JldA=="
    assert set(asked.form) == {"grant_type", "code", "redirect_uri", "code_verifier"}


@pytest.mark.parametrize(
    ("methods", "works"), [(["client_secret_post"], True), (["private_key_jwt"], False), ("nonsense", False)]
)
async def test_or_in_another_way_or_not_at_all(browser: Browser, rogue: Rogue, methods: object, *, works: bool) -> None:
    rogue.metadata = {"token_endpoint_auth_methods_supported": methods}
    if works:
        assert "code" in await arrive(browser, rogue)
        (asked,) = [one for one in rogue.asked if one.path.endswith(TOKEN)]
        assert "authorization" not in asked.headers
        assert (asked.form["client_id"], asked.form["client_secret"]) == ("lms", "secret")
    else:
        assert await refused(browser, rogue) == "it takes no client secret"


async def test_what_the_token_lacks_is_asked_for(browser: Browser, rogue: Rogue) -> None:
    rogue.claims = {"email": None, "email_verified": None, "name": None}
    rogue.userinfo = {"sub": "sam-at-rogue", "email": "SAM@School.example", "email_verified": True, "name": "Sam U."}
    assert "code" in await arrive(browser, rogue)
    (user,) = await User.find_all().to_list()
    assert (user.email, user.full_name) == ("sam@school.example", "Sam U.")
    (asked,) = [one for one in rogue.asked if one.path.endswith("/userinfo")]
    assert asked.headers["authorization"] == "Bearer an-access-token"


async def test_what_is_said_of_somebody_else_is_not_taken(browser: Browser, rogue: Rogue) -> None:
    rogue.claims = {"email": None}
    rogue.userinfo = {"sub": "somebody", "email": "sam@school.example", "email_verified": True}
    assert await refused(browser, rogue) == "it tells of somebody else"


async def test_metadata_and_keys_are_asked_for_once(browser: Browser, rogue: Rogue) -> None:
    for _ in range(3):
        assert "code" in await arrive(browser, rogue)
    assert sorted(rogue.paths()) == [DISCOVERY, JWKS, *[TOKEN] * 3]


async def test_unknown_keys_do_not_make_us_ask_again_and_again(
    browser: Browser, rogue: Rogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_an_unknown_key(rogue)
    for _ in range(3):
        await refused(browser, rogue)
    assert rogue.paths().count(JWKS) == 2
    monkeypatch.setattr(providing, "BETWEEN_REFETCHES_SECONDS", 0.0)
    rogue.keys.append(jwk_of(ED25519, "EdDSA", "newer"))
    rogue.algorithm, rogue.key, rogue.headers = "EdDSA", ED25519, {"kid": "newer"}
    assert "code" in await arrive(browser, rogue)
    assert rogue.paths().count(JWKS) == 3


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://id.school.example"},
        {"token_endpoint": None},
        {"token_endpoint": "http://id.school.example/token"},
        {"token_endpoint": "https://user@id.school.example/token#"},
        {"jwks_uri": "https://user:password@id.school.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://[::1/"},
        {"userinfo_endpoint": 7},
    ],
)
async def test_metadata_that_lead_elsewhere_are_refused(
    browser: Browser, rogue: Rogue, metadata: dict[str, Any]
) -> None:
    rogue.metadata = metadata
    response = await browser.start("rogue")
    assert response.headers["location"].endswith("#error=provider_refused&provider=rogue")
    assert rogue.paths() == [DISCOVERY]


async def test_a_provider_that_is_away_is_not_asked_by_everybody(browser: Browser, rogue: Rogue) -> None:
    rogue.raw = {DISCOVERY: http(b"", "500 Internal Server Error")}
    answers = await asyncio.gather(*(browser.start("rogue") for _ in range(5)))
    assert {one.headers["location"].partition("#")[2] for one in answers} == {
        "error=provider_unavailable&provider=rogue"
    }
    assert rogue.paths() == [DISCOVERY]


def test_the_keys_of_this_file_are_what_they_say() -> None:
    assert (RSA.key_size, SHORT_RSA.key_size) == (2048, 1024)


async def test_all_of_it_leaves_time_to_tell_the_app(school_settings: Settings, school: Litestar, rogue: Rogue) -> None:
    own = school_settings.model_copy(update={"request_timeout_seconds": 1.0})
    async with running(create_app(own)) as app, Browser.open(app) as browser:
        rogue.silent = {DISCOVERY}
        response = await browser.start("rogue")
        assert response.headers["location"].endswith("#error=provider_unavailable&provider=rogue")
        rogue.silent = {TOKEN}
        assert await refused(browser, rogue, UNAVAILABLE) == "too slow"
