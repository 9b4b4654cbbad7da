"""A provider that says whatever a test wants, on the loopback address: for what no real one would do."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lms.oidc.id_tokens import hash_of

Json = dict[str, Any]

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - one to be refused
STRANGERS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"RS256": RSA, "PS256": RSA, "ES256": CURVE, "EdDSA": ED25519}


def jwk_of(private: Any, algorithm: str, kid: str) -> Json:
    family = jwt.get_algorithm_by_name(algorithm)
    return {**json.loads(family.to_jwk(private.public_key())), "kid": kid, "use": "sig"}


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class Rogue:
    """Honest until a test changes something. `asked` is what came in."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list[Asked])
    metadata: Json = field(default_factory=dict[str, Any])
    keys: list[Json] = field(default_factory=list[Json])
    claims: Json = field(default_factory=dict[str, Any])
    seconds: dict[str, int] = field(default_factory=dict[str, int])
    """Claims that are times, in seconds from now."""
    tokens: Json = field(default_factory=dict[str, Any])
    userinfo: Json = field(default_factory=dict[str, Any])
    algorithm: str = "RS256"
    key: Any = RSA
    headers: Json = field(default_factory=dict[str, Any])
    raw: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Whole answers in place of honest ones, by path."""
    silent: set[str] = field(default_factory=set[str])
    nonce: str = ""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/rogue"

    def reset(self) -> None:
        fresh = Rogue(self.port)
        vars(self).update(vars(fresh))
        self.keys = [jwk_of(RSA, "RS256", "rsa"), jwk_of(CURVE, "ES256", "ec"), jwk_of(ED25519, "EdDSA", "ed")]
        self.headers = {"kid": "rsa"}

    def paths(self) -> list[str]:
        return [one.path.removeprefix("/rogue") for one in self.asked]

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "lms",
            "sub": "sam-at-rogue",
            "exp": now + 300,
            "iat": now,
            "nonce": self.nonce,
            "at_hash": hash_of("an-access-token", self.algorithm if self.algorithm in KEYS else "RS256"),
            "email": "sam@school.example",
            "email_verified": True,
            "name": "Sam Rogue",
            **self.claims,
            **{name: now + later for name, later in self.seconds.items()},
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.key, self.algorithm, headers=self.headers)

    def answer(self, path: str) -> Json:
        if path == "/.well-known/openid-configuration":
            honest: Json = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
            }
            return {**honest, **self.metadata}
        if path == "/keys":
            return {"keys": self.keys}
        if path == "/userinfo":
            return self.userinfo
        return {"access_token": "an-access-token", "token_type": "Bearer", "id_token": self.id_token(), **self.tokens}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
            path = first.split(" ")[1]
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.asked.append(Asked(path, headers, form))
            path = path.removeprefix("/rogue")
            if path in self.silent:
                await reader.read()
                return
            writer.write(self.raw.get(path) or http(json.dumps(self.answer(path)).encode()))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            """The other side went away, as some tests have it."""
        finally:
            writer.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def running_rogue() -> AsyncGenerator[Rogue]:
    found = Rogue()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    found.reset()
    yield found
    server.close()
    await server.wait_closed()
