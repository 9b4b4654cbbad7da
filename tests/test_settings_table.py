import re

import pytest

from lms.keys import new_seed
from lms.settings import Settings, load_settings
from lms.settings_table import as_markdown, rows

GIVEN = {
    "LMS_SECRET_KEY": "hidden-key-of-thirty-two-characters",
    "LMS_PASSWORD_PEPPER": "hidden-pepper-of-thirty-two-characters",
    "LMS_JWT_KEYS": new_seed(),
}
ALL = [f"LMS_{name.upper()}" for name in Settings.model_fields]


def shown(name: str, **environ: str) -> str:
    (value,) = (row["value"] for row in rows(load_settings(GIVEN | environ)) if row["name"] == name)
    return value


def test_the_table_has_every_setting_with_its_meaning() -> None:
    lines = as_markdown().splitlines()
    assert lines[:2] == ["| variable | default | what it does |", "|---|---|---|"]
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[2:]]
    assert [name for name, _, _ in cells] == [f"`{name}`" for name in ALL]
    for name, default, meaning in cells:
        assert default, name
        assert re.fullmatch(r"\S.{10,}[.]", meaning), name


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("LMS_BCRYPT_COST", "`12`"),
        ("LMS_MONGODB_URL", "`mongodb://127.0.0.1:27017`"),
        ("LMS_LINK_RESET", "`/reset-password#token={token}`"),
        ("LMS_CORS_ORIGINS", "none"),
        ("LMS_CERTIFICATE_FONTS", "none"),
        ("LMS_METRICS_TOKEN", "none"),
        ("LMS_JWT_KEYS", "made in development"),
    ],
)
def test_the_table_shows_defaults(name: str, default: str) -> None:
    assert f"| `{name}` | {default} | " in as_markdown()


def test_rows_show_the_values_here() -> None:
    assert [row["name"] for row in rows(load_settings(GIVEN))] == ALL
    assert shown("LMS_SCHOOL_NAME", LMS_SCHOOL_NAME="Harbour School") == "Harbour School"
    assert shown("LMS_TRUSTED_PROXIES", LMS_TRUSTED_PROXIES="10.0.0.0/8, ::1") == "10.0.0.0/8,::1"
    assert shown("LMS_CERTIFICATE_FONTS") == ""
    assert shown("LMS_REDIS_URL", LMS_REDIS_URL="redis://cache.internal:6379/3") == "redis://cache.internal:6379/3"


def test_of_a_secret_rows_show_only_whether_it_is_set() -> None:
    assert shown("LMS_SECRET_KEY") == "(set)"
    assert shown("LMS_METRICS_TOKEN") == "(not set)"
    everything = str(rows(load_settings(GIVEN)))
    assert "hidden" not in everything
    assert GIVEN["LMS_JWT_KEYS"] not in everything


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LMS_MONGODB_URL", "mongodb+srv://lms:hidden@db.internal/?replicaSet=rs0"),
        ("LMS_REDIS_URL", "rediss://:hidden@cache.internal:6379/0"),
        ("LMS_SMTP_URL", "smtp+starttls://lms:hidden@mail.internal:587"),
    ],
)
def test_the_password_inside_an_address_is_not_shown(name: str, value: str) -> None:
    text = shown(name, **{name: value})
    assert "hidden" not in text
    assert text.startswith(value.split("//", maxsplit=1)[0])
    assert text.endswith(value.split("@")[1])
