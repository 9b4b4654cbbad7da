"""What the value of a setting may be."""

import base64
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
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
