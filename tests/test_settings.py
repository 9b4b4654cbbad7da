import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lms.keys import new_seed
from lms.settings import SECRETS, Settings, SettingsError, load_settings

LONG = "x" * 32
GIVEN = {"LMS_SECRET_KEY": LONG, "LMS_PASSWORD_PEPPER": LONG, "LMS_JWT_KEYS": new_seed()}
PRODUCTION = GIVEN | {"LMS_ENVIRONMENT": "production", "LMS_PUBLIC_URL": "https://lms.example.org"}

WRONG = [
    ("LMS_ENVIRONMENT", "staging"),
    ("LMS_ENVIRONMENT", ""),
    ("LMS_MONGODB_URL", "localhost:27017"),
    ("LMS_MONGODB_DATABASE", "a b"),
    ("LMS_MONGODB_DATABASE", "x" * 39),
    ("LMS_MONGODB_TIMEOUT_SECONDS", "0"),
    ("LMS_MONGODB_TIMEOUT_SECONDS", "soon"),
    ("LMS_REDIS_URL", "http://localhost:6379"),
    ("LMS_REDIS_PREFIX", "has space"),
    ("LMS_REDIS_PREFIX", ""),
    ("LMS_PUBLIC_URL", "lms.example.org"),
    ("LMS_PUBLIC_URL", "ftp://lms.example.org"),
    ("LMS_PUBLIC_URL", "https://lms.example.org/?a=b"),
    ("LMS_APP_URL", "https://"),
    ("LMS_APP_URL", "https://[::1"),
    ("LMS_LINK_COURSE", "courses/{slug}"),
    ("LMS_SCHOOL_NAME", ""),
    ("LMS_SCHOOL_NAME", "x" * 121),
    ("LMS_JWT_KEYS", "too-short"),
    ("LMS_JWT_KEYS", "x"),
    ("LMS_JWT_KEYS", ","),
    ("LMS_JWT_KEYS", ",".join(base64.urlsafe_b64encode(b"k" * length).decode() for length in (32, 33))),
    ("LMS_JWT_ISSUER", ""),
    ("LMS_JWT_AUDIENCE", ""),
    ("LMS_ACCESS_TOKEN_SECONDS", "59"),
    ("LMS_ACCESS_TOKEN_SECONDS", "15 min"),
    ("LMS_REFRESH_TOKEN_DAYS", "366"),
    ("LMS_REFRESH_GRACE_SECONDS", "-1"),
    ("LMS_BCRYPT_COST", "3"),
    ("LMS_BCRYPT_COST", "17"),
    ("LMS_RESET_LINK_MINUTES", "4"),
    ("LMS_EMAIL_LINK_HOURS", "721"),
    ("LMS_LINK_VERIFY", "/verify-email"),
    ("LMS_REQUIRE_VERIFIED", "perhaps"),
    ("LMS_LINK_RESET", "/reset-password"),
    ("LMS_LINK_INVITE", "/invitation"),
    ("LMS_INVITE_DAYS", "0"),
    ("LMS_INVITE_DAYS", "91"),
    ("LMS_LINK_RESET", "https://school.example/{token}"),
    ("LMS_LINK_CHANGE_EMAIL", "{token}"),
    ("LMS_CORS_ORIGINS", "*"),
    ("LMS_CORS_ORIGINS", "https://app.example.org/"),
    ("LMS_CORS_ORIGINS", "https://app.example.org,app.example.com"),
    ("LMS_TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
    ("LMS_MFA_REQUIRED_FOR", "admin,teacher"),
    ("LMS_PROOF_MINUTES", "0"),
    ("LMS_RATE_AUTH", "20"),
    ("LMS_RATE_MAIL", "5/hour"),
    ("LMS_RATE_WRITES", "0/60"),
    ("LMS_RATE_READS", "20/-1"),
    ("LMS_MAX_BODY_BYTES", "9999"),
    ("LMS_REQUEST_TIMEOUT_SECONDS", "nan"),
    ("LMS_MAIL_FROM", "school"),
    ("LMS_JOB_TIMEOUT_SECONDS", "601"),
    ("LMS_WORKER_CONCURRENCY", "0"),
    ("LMS_GRACE_SECONDS", "-0.1"),
    ("LMS_LOG_LEVEL", "loud"),
    ("LMS_LOG_FORMAT", "xml"),
    ("LMS_METRICS_PORT", "65536"),
]


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_stops_with_its_name(name: str, value: str) -> None:
    (problem,) = problems_of(GIVEN | {name: value})
    assert problem.startswith(f"{name}: ")
    assert len(problem) > len(name) + 10


def test_every_wrong_value_is_named_at_once() -> None:
    problems = problems_of(GIVEN | {"LMS_BCRYPT_COST": "1", "LMS_LOG_LEVEL": "loud", "LMS_RATE_AUTH": "x"})
    assert {line.split(":")[0] for line in problems} == {"LMS_BCRYPT_COST", "LMS_LOG_LEVEL", "LMS_RATE_AUTH"}


def test_good_values_are_read_as_what_they_mean() -> None:
    settings = load_settings(
        GIVEN
        | {
            "LMS_CORS_ORIGINS": "https://app.example.org, http://localhost:5173,",
            "LMS_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "LMS_PUBLIC_URL": "https://lms.example.org/",
            "LMS_REDIS_URL": "",
            "LMS_MFA_REQUIRED_FOR": "admin, instructor,",
            "LMS_BCRYPT_COST": "4",
        }
    )
    assert settings.cors_origins == ["https://app.example.org", "http://localhost:5173"]
    assert settings.mfa_required_for == ["admin", "instructor"]
    assert settings.trusted_proxies == ["10.0.0.0/8", "::1"]
    assert (settings.public_url, settings.redis_url, settings.bcrypt_cost) == ("https://lms.example.org", "", 4)


def test_links_lead_to_the_app_or_else_to_this_api() -> None:
    address = {"LMS_PUBLIC_URL": "https://lms.example.org"}
    assert load_settings(GIVEN | address).links_to == "https://lms.example.org"
    both = address | {"LMS_APP_URL": "https://school.example.org/"}
    settings = load_settings(GIVEN | both | {"LMS_LINK_RESET": "/new-password/{token}"})
    assert settings.links_to == "https://school.example.org"
    assert settings.link(settings.link_reset, token="a/b") == "https://school.example.org/new-password/a%2Fb"


def test_several_signing_keys_keep_their_order() -> None:
    seeds = [new_seed(), new_seed()]
    settings = load_settings(GIVEN | {"LMS_JWT_KEYS": f" {seeds[0]} , {seeds[1]}=,"})
    assert settings.signing_seeds == [base64.urlsafe_b64decode(f"{seed}=") for seed in seeds]


def test_settings_do_not_change() -> None:
    settings = load_settings(GIVEN)
    with pytest.raises(ValueError, match="frozen"):
        settings.bcrypt_cost = 4


def test_without_an_argument_the_processs_own_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (GIVEN | {"LMS_SCHOOL_NAME": "Harbour School"}).items():
        monkeypatch.setenv(name, value)
    assert load_settings().school_name == "Harbour School"


def test_given_variables_are_all_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMS_SCHOOL_NAME", "Harbour School")
    monkeypatch.setenv("lms_jwt_issuer", "somebody")
    settings = load_settings(GIVEN)
    assert (settings.school_name, settings.jwt_issuer) == ("Open School", "lms")


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert load_settings(GIVEN | {"LMS_TEST_MONGODB_URL": "x", "LMS_NO_SUCH_THING": "1"}) == load_settings(GIVEN)


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"  {'k' * 40}\n")
    settings = load_settings(without(GIVEN, "LMS_SECRET_KEY") | {"LMS_SECRET_KEY_FILE": str(file)})
    assert settings.secret_key.get_secret_value() == "k" * 40


def test_a_file_that_cannot_be_read_stops_with_its_variable(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert problems_of(GIVEN | {"LMS_SMTP_URL_FILE": str(missing)}) == [
        f"LMS_SMTP_URL_FILE: {missing}: No such file or directory"
    ]
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert problems_of(GIVEN | {"LMS_SMTP_URL_FILE": str(binary)}) == [f"LMS_SMTP_URL_FILE: {binary}: is not UTF-8"]


def test_where_both_are_set_the_variable_counts_and_the_file_is_not_read(tmp_path: Path) -> None:
    both = {"LMS_SCHOOL_NAME": "Harbour School", "LMS_SCHOOL_NAME_FILE": str(tmp_path / "missing")}
    assert load_settings(GIVEN | both).school_name == "Harbour School"


def test_production_starts_with_secrets_of_its_own_and_an_address() -> None:
    assert load_settings(PRODUCTION).environment == "production"


@pytest.mark.parametrize("name", [f"LMS_{name.upper()}" for name in SECRETS])
@pytest.mark.parametrize("value", [None, "", "short", f"development-{LONG}"])
def test_production_refuses_a_secret_that_is_missing_weak_or_of_development(name: str, value: str | None) -> None:
    environ = without(PRODUCTION, name) | ({} if value is None else {name: value})
    (problem,) = problems_of(environ)
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize("address", ["", "http://lms.example.org"])
def test_production_refuses_to_be_without_an_https_address(address: str) -> None:
    (problem,) = problems_of(PRODUCTION | {"LMS_PUBLIC_URL": address})
    assert problem.startswith("LMS_PUBLIC_URL: production needs")


def test_production_names_everything_that_is_missing(tmp_path: Path) -> None:
    problems = problems_of({"LMS_ENVIRONMENT": "production", "LMS_DATA_DIR": str(tmp_path / "data")})
    assert [line.split(":")[0] for line in problems] == [
        "LMS_SECRET_KEY",
        "LMS_PASSWORD_PEPPER",
        "LMS_JWT_KEYS",
        "LMS_PUBLIC_URL",
    ]
    assert not (tmp_path / "data").exists()


def without(environ: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key != name}


def secrets_of(settings: Settings) -> list[str]:
    return [getattr(settings, name).get_secret_value() for name in SECRETS]


def test_development_makes_its_secrets_once_and_for_its_owner_only(tmp_path: Path) -> None:
    environ = {"LMS_DATA_DIR": str(tmp_path / "new" / "data")}
    first = load_settings(environ)
    (stored,) = (tmp_path / "new" / "data").iterdir()
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert secrets_of(load_settings(environ)) == secrets_of(first)
    assert len(set(secrets_of(first))) == len(SECRETS)
    assert min(map(len, secrets_of(first))) >= 32
    assert len(first.signing_seeds[0]) == 32


def test_two_installations_have_different_secrets(tmp_path: Path) -> None:
    one, other = (secrets_of(load_settings({"LMS_DATA_DIR": str(tmp_path / name)})) for name in ("one", "other"))
    assert not set(one) & set(other)


def test_production_refuses_what_development_made(tmp_path: Path) -> None:
    key, pepper, jwt_keys = secrets_of(load_settings({"LMS_DATA_DIR": str(tmp_path)}))
    made = {"LMS_SECRET_KEY": key, "LMS_PASSWORD_PEPPER": pepper, "LMS_JWT_KEYS": jwt_keys}
    assert [line.split(":")[0] for line in problems_of(PRODUCTION | made)] == ["LMS_SECRET_KEY", "LMS_PASSWORD_PEPPER"]


def test_a_given_secret_counts_and_an_empty_one_is_made(tmp_path: Path) -> None:
    environ = {"LMS_DATA_DIR": str(tmp_path), "LMS_SECRET_KEY": LONG, "LMS_PASSWORD_PEPPER": "", "LMS_JWT_KEYS": ""}
    settings = load_settings(environ)
    key, pepper, _ = secrets_of(settings)
    assert key == LONG
    assert pepper.startswith("development-")
    assert len(settings.signing_seeds) == 1


def test_development_with_all_secrets_given_stores_none(tmp_path: Path) -> None:
    load_settings(GIVEN | {"LMS_DATA_DIR": str(tmp_path / "data")})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", ["not json", "[]", json.dumps({"secret_key": LONG})])
def test_secrets_that_were_damaged_stop_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "secrets.json").write_text(content)
    (problem,) = problems_of({"LMS_DATA_DIR": str(tmp_path)})
    assert problem.startswith("LMS_DATA_DIR: ")
    assert "secrets.json cannot be used" in problem
    assert LONG not in problem


def test_a_data_directory_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (problem,) = problems_of({"LMS_DATA_DIR": str(tmp_path / "file")})
    assert problem.startswith("LMS_DATA_DIR: ")


def test_a_secrets_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").symlink_to(tmp_path / "volume-that-is-not-mounted")
    (problem,) = problems_of({"LMS_DATA_DIR": str(tmp_path)})
    assert problem.startswith("LMS_DATA_DIR: ")
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


STARTED_AT_ONCE = """
import sys
from lms.settings import SECRETS, load_settings
print("ready", flush=True)
sys.stdin.readline()
settings = load_settings({"LMS_DATA_DIR": sys.argv[1]})
print(*[getattr(settings, name).get_secret_value() for name in SECRETS])
"""


def test_processes_that_start_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", STARTED_AT_ONCE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    # Each waits for its input to end, so all go on together.
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    outputs = {process.communicate(timeout=30)[0] for process in started}
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == len(SECRETS)
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_secrets_are_in_no_text_of_the_settings(tmp_path: Path) -> None:
    hidden = {
        "LMS_SECRET_KEY": "hidden-key-" + LONG,
        "LMS_PASSWORD_PEPPER": "hidden-pepper-" + LONG,
        "LMS_JWT_KEYS": new_seed(),
        "LMS_METRICS_TOKEN": "hidden-metrics",
        "LMS_MONGODB_URL": "mongodb://lms:hidden-mongodb@127.0.0.1",
        "LMS_REDIS_URL": "redis://:hidden-redis@127.0.0.1",
        "LMS_SMTP_URL": "smtp://lms:hidden-smtp@127.0.0.1",
    }
    settings = load_settings(hidden)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "hidden" not in text
        assert hidden["LMS_JWT_KEYS"] not in text
    wrong = {
        "LMS_JWT_KEYS": "hidden",
        "LMS_MONGODB_URL": "mongo://hidden",
        "LMS_REDIS_URL": "http://hidden",
        "LMS_ACCESS_TOKEN_SECONDS": "hidden",
        "LMS_PUBLIC_URL": "hidden",
    }
    problems = problems_of(hidden | wrong)
    assert len(problems) == len(wrong)
    assert "hidden" not in "\n".join(problems)
