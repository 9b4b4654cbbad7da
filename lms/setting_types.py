"""What the value of a setting may be."""

import base64
import json
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_settings import NoDecode

from lms.keys import SEED_BYTES


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_mongodb_url(value: str) -> str:
    if not value.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("must start with mongodb:// or mongodb+srv://")
    return value


def _check_redis_url(value: str) -> str:
    if value and not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be empty or start with redis://, rediss:// or unix://")
    return value


def _check_http_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment):
        raise ValueError("must be an http or https address without query, such as https://lms.example.org")
    return value.rstrip("/")


def _check_origins(origins: list[str]) -> list[str]:
    for origin in origins:
        parts = urlsplit(origin)
        if origin == "*" or parts.scheme not in {"http", "https"} or not parts.netloc or parts.path:
            raise ValueError(f"{origin!r} is not an exact origin such as https://app.example.org")
    return origins


def _check_networks(networks: list[str]) -> list[str]:
    for network in networks:
        ip_network(network, strict=False)
    return networks


def _check_rate(value: str) -> str:
    count, _, seconds = value.partition("/")
    if not (count.isdigit() and seconds.isdigit() and int(count) and int(seconds)):
        raise ValueError("must be COUNT/SECONDS, such as 120/60")
    return value


def _check_keys(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    seeds = decode_seeds(text)
    if text and (not seeds or any(len(seed) != SEED_BYTES for seed in seeds)):
        raise ValueError("must be a comma-separated list of 32-byte Ed25519 seeds in base64url (`lms keys` makes one)")
    return value


def decode_seeds(text: str) -> list[bytes]:
    return [_decode_seed(part.strip()) for part in text.split(",") if part.strip()]


def _decode_seed(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_issuer(value: str) -> str:
    """As it is written: a provider's own documents must name it in the same letters."""
    parts = urlsplit(value)
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts))
    if not secure or not parts.hostname or "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must be an https address such as https://id.school.example/realms/school")
    return value


def _check_scopes(scopes: list[str]) -> list[str]:
    if "openid" not in scopes:
        raise ValueError("must have openid among them")
    return scopes


class OidcProvider(BaseModel):
    """One of `LMS_OIDC_PROVIDERS`. Without a secret it is one for public clients, which have PKCE alone.

    `trusts_mfa`: a second factor that it says it has asked for takes the place of the one here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=40)]
    title: Annotated[str, Field(min_length=1, max_length=80)]
    issuer: Annotated[str, AfterValidator(_check_issuer)]
    client_id: Annotated[str, Field(min_length=1, max_length=255)]
    client_secret: SecretStr = SecretStr("")
    scopes: Annotated[
        list[Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]], AfterValidator(_check_scopes)
    ] = [
        "openid",
        "email",
        "profile",
    ]
    trusts_mfa: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.issuer}"


def _read_providers(value: object) -> object:
    """Every fault in one line, with its place; what was given may hold a secret, so it is in none."""
    if not isinstance(value, str):
        return value
    try:
        found = _PROVIDERS.validate_python(json.loads(value)) if value.strip() else []
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
        raise ValueError("; ".join(faults)) from None
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON list of providers") from None
    if len({one.name for one in found}) < len(found):
        raise ValueError("two providers have the same name")
    return found


_PROVIDERS = TypeAdapter(list[OidcProvider])

MongodbUrl = Annotated[str, AfterValidator(_check_mongodb_url)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
List = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Origins = Annotated[List, AfterValidator(_check_origins)]
Networks = Annotated[List, AfterValidator(_check_networks)]
Roles = Annotated[list[Literal["student", "instructor", "admin"]], NoDecode, BeforeValidator(_split)]
Keys = Annotated[SecretStr, AfterValidator(_check_keys)]
Url = Annotated[str, AfterValidator(_check_http_url)]
Rate = Annotated[str, AfterValidator(_check_rate)]
TokenPath = Annotated[str, Field(pattern=r"^/.*\{token\}")]
Providers = Annotated[list[OidcProvider], NoDecode, BeforeValidator(_read_providers)]
