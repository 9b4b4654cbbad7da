import json
from pathlib import Path
from typing import Any

import pytest

from lms.settings import SettingsError, load_settings
from lms.settings_table import rows

pytestmark = pytest.mark.quick

GOOD = {"name": "school", "title": "School", "issuer": "https://id.school.example", "client_id": "lms"}
ADDRESS = {"LMS_PUBLIC_URL": "https://lms.example.org", "LMS_ENVIRONMENT": "development"}


def problems_of(tmp_path: Path, value: str, **more: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(ADDRESS | {"LMS_DATA_DIR": str(tmp_path), "LMS_OIDC_PROVIDERS": value} | more)
    return caught.value.problems


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "School"}, "0.name: "),
        ({"name": "a/b"}, "0.name: "),
        ({"title": ""}, "0.title: "),
        ({"client_id": ""}, "0.client_id: "),
        ({"client_sceret": "hidden"}, "0.client_sceret: "),
        ({"client_secret": ["hidden"]}, "0.client_secret: "),
        ({"scopes": ["email"]}, "0.scopes: "),
        ({"trusts_mfa": "perhaps"}, "0.trusts_mfa: "),
        ({"scopes": ["openid", "a b"]}, "0.scopes.1: "),
        *(
            ({"issuer": issuer}, "0.issuer: ")
            for issuer in (
                *(
                    "id.school.example",
                    "http://id.school.example",
                    "https://",
                    "ftp://127.0.0.1",
                    "https://a@b.example",
                ),
                *("https://id.school.example?x=1", "https://id.school.example#x", "https://id.school.example/?"),
            )
        ),
    ],
)
def test_a_wrong_provider_is_named_with_its_place(tmp_path: Path, fields: dict[str, Any], place: str) -> None:
    (problem,) = problems_of(tmp_path, json.dumps([GOOD | fields]))
    assert problem.startswith(f"LMS_OIDC_PROVIDERS: {place}")
    assert "hidden" not in problem


@pytest.mark.parametrize("value", ["school", "{}", "[1]", "[" * 100_000, '[{"client_secret": "hidden"'])
def test_what_is_no_list_of_providers_is_refused(tmp_path: Path, value: str) -> None:
    (problem,) = problems_of(tmp_path, value)
    assert problem.startswith("LMS_OIDC_PROVIDERS: ")
    assert "hidden" not in problem


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, json.dumps([GOOD | {"title": ""}, {"name": "b"}]))
    assert [place for place in ("0.title", "1.title", "1.issuer", "1.client_id") if place not in problem] == []


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path, json.dumps([GOOD, GOOD])) == ["LMS_OIDC_PROVIDERS: two providers have the same name"]


def test_people_have_to_come_back_somewhere(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, json.dumps([GOOD]), LMS_PUBLIC_URL="")
    assert problem.startswith("LMS_OIDC_PROVIDERS: needs LMS_PUBLIC_URL")


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1:8080/o", "http://localhost:1", "http://[::1]/", "https://x.example/"]
)
def test_an_issuer_stays_as_it_is_written(tmp_path: Path, issuer: str) -> None:
    providers = json.dumps([GOOD | {"issuer": issuer, "client_secret": "hidden"}])
    settings = load_settings(ADDRESS | {"LMS_DATA_DIR": str(tmp_path), "LMS_OIDC_PROVIDERS": providers})
    (found,) = settings.oidc_providers
    assert (found.issuer, found.scopes) == (issuer, ["openid", "email", "profile"])
    assert found.trusts_mfa is False
    assert found.client_secret.get_secret_value() == "hidden"
    (shown,) = [row["value"] for row in rows(settings) if row["name"] == "LMS_OIDC_PROVIDERS"]
    assert shown == f"school={issuer}"
    assert "hidden" not in repr(settings) + repr(found)


def test_they_may_be_in_a_file_and_there_may_be_none(tmp_path: Path) -> None:
    (tmp_path / "providers.json").write_text(json.dumps([GOOD]))
    environ = ADDRESS | {"LMS_DATA_DIR": str(tmp_path)}
    from_file = environ | {"LMS_OIDC_PROVIDERS_FILE": str(tmp_path / "providers.json")}
    assert [one.name for one in load_settings(from_file).oidc_providers] == ["school"]
    assert load_settings(environ).oidc_providers == load_settings(environ | {"LMS_OIDC_PROVIDERS": " "}).oidc_providers
