"""Every setting: one frozen model, read once from LMS_* variables.

A value may come from a file instead: `LMS_SECRET_KEY_FILE=/run/secrets/key` is read where `LMS_SECRET_KEY` is not set.
"""

import json
import os
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lms.keys import new_seed
from lms.setting_types import (
    Keys,
    MongodbUrl,
    Networks,
    Origins,
    Providers,
    Rate,
    RedisUrl,
    Roles,
    TokenPath,
    Url,
    decode_seeds,
)

SECRETS = ("secret_key", "password_pepper", "jwt_keys")
"""What production must be given and development makes for itself, once, in the data directory."""

MIN_SECRET_LENGTH = 32


class SettingsError(Exception):
    """The environment cannot be used as it is. `problems` has one line for each variable, with its name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LMS_", frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses development secrets and a database that is no replica set."
    )
    data_dir: Path = Field(Path(".lms"), description="Where development keeps its databases, secrets and mails.")

    # What may hold a password is left out of the model's own text.
    mongodb_url: MongodbUrl = Field(
        "mongodb://127.0.0.1:27017", description="MongoDB, always a replica set.", repr=False
    )
    mongodb_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,38}$")] = Field(
        "lms", description="The database's name."
    )
    mongodb_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        4.0, description="What one database operation may take, choosing a server included."
    )
    redis_url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey: queue and limits. Empty: none.",
        repr=False,
    )
    redis_prefix: Annotated[str, Field(pattern=r"^[a-z0-9_:-]{1,40}$")] = Field(
        "lms", description="Put before every key, so that installations can share a server."
    )

    public_url: Url = Field(
        "", description="This API as people reach it; in mails and QR codes. Required in production."
    )
    app_url: Url = Field("", description="The school's front end, for links in mails. Empty: the public URL.")
    link_course: Annotated[str, Field(pattern=r"^/")] = Field(
        "/courses/{slug}", description="Path of a course in the front end; `{slug}` and `{id}` are filled in."
    )
    link_verify: TokenPath = Field(
        "/verify-email#token={token}",
        description="Path in the front end that verifies an address; what stands behind `#` reaches no server's log.",
    )
    link_reset: TokenPath = Field(
        "/reset-password#token={token}", description="Path in the front end that takes a new password."
    )
    link_change_email: TokenPath = Field(
        "/change-email#token={token}", description="Path in the front end that confirms a new address."
    )
    link_invite: TokenPath = Field(
        "/invitation#token={token}", description="Path in the front end that accepts an invitation."
    )
    school_name: Annotated[str, Field(min_length=1, max_length=120)] = Field(
        "Open School", description="Who issues certificates and signs mails."
    )

    secret_key: SecretStr = Field(
        SecretStr(""), description="Signs refresh tokens, seals authenticator apps' secrets; 32 characters or more."
    )
    password_pepper: SecretStr = Field(
        SecretStr(""), description="Mixed into every password hash; can never change. 32 characters or more."
    )
    jwt_keys: Keys = Field(
        SecretStr(""), description="Ed25519 seeds, comma separated: the first signs, all verify. `lms keys` makes one."
    )
    jwt_issuer: Annotated[str, Field(min_length=1)] = Field("lms", description="`iss` of access tokens.")
    jwt_audience: Annotated[str, Field(min_length=1)] = Field("lms-api", description="`aud` of access tokens.")
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400)] = Field(900, description="Life of an access token.")
    refresh_token_days: Annotated[int, Field(ge=1, le=365)] = Field(30, description="Life of a sign-in without use.")
    session_days: Annotated[int, Field(ge=1, le=3650)] = Field(90, description="Life of a sign-in, however much used.")
    refresh_grace_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        60, description="How long the refresh token before the current one still gives its successor."
    )
    require_verified: bool = Field(default=False, description="Whether signing in needs a verified address.")
    mfa_required_for: Roles = Field([], description="Roles that must have a second factor; a school names `admin`.")
    proof_minutes: Annotated[int, Field(ge=1, le=1440)] = Field(
        10, description="How long after proving who one is dangerous actions are allowed."
    )
    oidc_providers: Providers = Field(
        [],
        description="OpenID providers, a JSON list: `name`, `title`, `issuer`, `client_id`, `client_secret`, `scopes`, "
        "`trusts_mfa`.",
        repr=False,
    )
    bcrypt_cost: Annotated[int, Field(ge=4, le=16)] = Field(12, description="log2 of bcrypt's rounds.")
    reset_link_minutes: Annotated[int, Field(ge=5, le=1440)] = Field(
        30, description="Life of a link that resets a password."
    )
    email_link_hours: Annotated[int, Field(ge=1, le=720)] = Field(
        48, description="Life of a link that confirms an address."
    )
    invite_days: Annotated[int, Field(ge=1, le=90)] = Field(
        7, description="Life of an invitation, and of the link to a new account's first password."
    )

    cors_origins: Origins = Field([], description="Exact origins of browser apps, comma separated.")
    trusted_proxies: Networks = Field([], description="Networks whose X-Forwarded-For is believed, comma separated.")
    rate_auth: Rate = Field("60/60", description="Sign-ups, links and codes: COUNT/SECONDS for one address.")
    rate_sign_in: Rate = Field(
        "300/60", description="Sign-ins: COUNT/SECONDS for one address. Wrong passwords are braked much sooner."
    )
    rate_mail: Rate = Field(
        "5/3600", description="Mails that anybody can cause, such as resets: COUNT/SECONDS for one recipient."
    )
    rate_writes: Rate = Field(
        "240/60", description="Writes: COUNT/SECONDS for one caller, leased to processes in blocks."
    )
    rate_reads: Rate = Field(
        "1200/60", description="Reads: COUNT/SECONDS for one caller, leased to processes in blocks."
    )
    rate_exports: Rate = Field("10/3600", description="Exports of a person's data: COUNT/SECONDS for one caller.")
    catalogue_seconds: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.5, description="How old a list of courses may be that a process answers from memory; 0: never."
    )
    max_body_bytes: Annotated[int, Field(ge=10_000, le=20_000_000)] = Field(
        1_500_000, description="Largest request body; more is a 413."
    )
    request_timeout_seconds: Annotated[float, Field(gt=0, le=120)] = Field(
        10.0, description="What a request may take before it is a 503."
    )

    smtp_url: str = Field(
        "smtp://127.0.0.1:1025",
        description="`smtp://`, `smtp+starttls://` or `smtps://`, with user and password if any.",
        repr=False,
    )
    mail_from: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] = Field(
        "school@lms.example", description="Sender of all mail."
    )
    job_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        30.0, description="What a job may take; one that is lost is sent again after twice this."
    )
    worker_concurrency: Annotated[int, Field(ge=1, le=200)] = Field(10, description="Jobs at once in a worker.")
    grace_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        20.0, description="What a stopping process gives to the requests or jobs that run."
    )
    certificate_fonts: Path | None = Field(None, description="A folder with further fonts for certificates.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe line to write.")
    log_format: Literal["json", "console"] = Field("json", description="`console` is for people.")
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        0, description="Serves /metrics on 127.0.0.1 at this port; 0: on the API's port, with the token only."
    )
    metrics_token: SecretStr = Field(SecretStr(""), description="Bearer token for /metrics on the API's port.")

    @classmethod
    def settings_customise_sources(cls, *_: Any, init_settings: Any, **__: Any) -> tuple[Any, ...]:
        """Only what `load_settings` hands in: the process's own variables must not fill what it was not given."""
        return (init_settings,)

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.environment == "production":
            problems = [
                f"LMS_{name.upper()}: production needs one of its own" for name in SECRETS if not self._strong(name)
            ]
            if not self.has_https:
                problems.append("LMS_PUBLIC_URL: production needs the https address that people reach this API at")
            if problems:
                raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        if self.oidc_providers and not self.public_url:
            raise ValueError("LMS_OIDC_PROVIDERS: needs LMS_PUBLIC_URL, which providers send people back to")
        return self

    def _strong(self, name: str) -> bool:
        value: str = getattr(self, name).get_secret_value()
        return len(value) >= MIN_SECRET_LENGTH and not value.startswith("development")

    @property
    def has_https(self) -> bool:
        """Always in production."""
        return self.public_url.startswith("https://")

    @cached_property
    def signing_seeds(self) -> list[bytes]:
        """Ed25519 seeds of 32 bytes; the first one signs."""
        return decode_seeds(self.jwt_keys.get_secret_value())

    @property
    def links_to(self) -> str:
        """The address that links in mails start with."""
        return self.app_url or self.public_url

    def link(self, template: str, **values: str) -> str:
        """An address in the front end, from one of the `link_...` templates."""
        for name, value in values.items():
            template = template.replace(f"{{{name}}}", quote(value, safe=""))
        return self.links_to + template


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.

    Raises `SettingsError` that names each variable which cannot be used.
    """
    environ = dict(os.environ if environ is None else environ)
    try:
        values = {name: value for name in Settings.model_fields if (value := _given(name, environ)) is not None}
        if values.get("environment", "development") == "development":
            values = _development_secrets(Path(values.get("data_dir", ".lms")), values) | values
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_problems(error)) from None


def _given(name: str, environ: Mapping[str, str]) -> str | None:
    """What the variable says, or else the file that its `_FILE` names. An empty secret is one that was not given."""
    variable = f"LMS_{name.upper()}"
    value = environ.get(variable)
    if value is None and (path := environ.get(f"{variable}_FILE")):
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise SettingsError([f"{variable}_FILE: {path}: {reason}"]) from None
    return None if name in SECRETS and not value else value


def _development_secrets(data_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Secrets made on the first start and kept, so that a restart signs nobody out."""
    if all(name in given for name in SECRETS):
        return {}
    path = data_dir / "secrets.json"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            made = {name: f"development-{secrets.token_urlsafe(32)}" for name in SECRETS} | {"jwt_keys": new_seed()}
            _create_once(path, json.dumps(made))
        stored: dict[str, Any] = json.loads(path.read_text())
        return {name: str(stored[name]) for name in SECRETS}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError([f"LMS_DATA_DIR: {path} cannot be used: {error!r}"]) from None


def _create_once(path: Path, text: str) -> None:
    """Several processes start at once; the first one's secrets count."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _problems(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for item in error.errors():
        message = str(item["msg"]).removeprefix("Value error, ")
        name = "".join(str(part) for part in item["loc"][:1]).upper()
        lines.extend([f"LMS_{name}: {message}"] if name else message.split("\n"))
    return lines
