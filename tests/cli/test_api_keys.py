import json
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.api_keys.documents import ApiKey, Scope
from lms.api_keys.rules import MOST_KEYS, parse_key, prefix_of
from lms.cli import api_keys, cli
from lms.database import bind
from tests.api_keys.keys import a_key, bearer
from tests.cli.conftest import Command, plain

Database = AsyncDatabase[dict[str, Any]]
assert api_keys.api_keys.name in cli.commands
NEW = ("--name", " nightly load ", "--scope", "courses:write", "--scope", "courses:read")


async def test_a_key_is_printed_once_and_works(
    lms: Command, client: httpx.AsyncClient, database: Database, ivy: User
) -> None:
    result = await lms("api-keys", "create", "IVY@school.example", *NEW, "--days", "7")
    assert result.exit_code == 0, result.output
    # Nothing but the key, for a pipe.
    text = result.stdout.removesuffix("\n")
    key_id, secret = parse_key(text)
    assert secret not in result.stderr
    assert prefix_of(key_id) in result.stderr
    # The command opened another connection in this process.
    await bind(database)
    stored = await ApiKey.get(key_id)
    assert stored is not None
    assert (stored.owner_id, stored.name) == (ivy.id, "nightly load")
    assert stored.scopes == [Scope.COURSES_READ, Scope.COURSES_WRITE]
    assert (stored.expires_at - stored.created_at).days == 7
    assert (await client.post("/courses", json={"title": "Tides"}, headers=bearer(text))).status_code == 201
    [entry] = await database["outbox"].find({"kind": "audit"}).to_list()
    assert (entry["data"]["act"], entry["data"]["actor"]) == ("api_key.created", "operator")
    assert entry["data"]["facts"]["owner_id"] == str(ivy.id)
    assert await database["outbox"].count_documents({"kind": "api_key.created"}) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--name", "", "--scope", "courses:read"), "name"),
        (("--name", "a\x1b[31m", "--scope", "courses:read"), "name"),
        (("--name", "a", "--scope", "courses:eat"), "scope"),
        (("--name", "a", "--scope", "courses:read", "--days", "0"), "days"),
        (("--name", "a", "--scope", "courses:read", "--days", "366"), "days"),
    ],
)
async def test_what_cannot_be_is_named(lms: Command, ivy: User, options: tuple[str, ...], field: str) -> None:
    result = await lms("api-keys", "create", ivy.email, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(f"{field}: ")
    assert ("courses:write" in line) == (field == "scope")
    assert await ApiKey.count() == 0


async def test_only_who_may_have_keys_gets_one(lms: Command, sam: User, ivy: User) -> None:
    for _ in range(MOST_KEYS):
        await a_key(ivy, Scope.COURSES_READ)
    refused = await lms("api-keys", "create", sam.email, *NEW)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Only instructors and administrators" in plain(refused.stderr)
    unknown = await lms("api-keys", "create", "nobody@school.example", *NEW)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "There is no account for nobody@school.example." in plain(unknown.stderr)
    full = await lms("api-keys", "create", ivy.email, *NEW)
    assert (full.exit_code, full.stdout) == (1, "")
    assert "has 20 keys" in plain(full.stderr)


async def test_keys_are_listed_without_what_is_secret(lms: Command, ivy: User, ada: User) -> None:
    key, text = await a_key(ivy, Scope.COURSES_READ, Scope.AUDIT_READ, name="run \x1b[31mme")
    await a_key(ada, Scope.COURSES_READ)
    result = await lms("api-keys", "list", ivy.email)
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{prefix_of(key.id)}  active   until ")
    assert first.endswith("never used  run \N{REPLACEMENT CHARACTER}[31mme")
    assert second.split(", ") == ["    courses:read", "audit:read"]
    data = json.loads((await lms("api-keys", "list", ivy.email, "--json")).stdout)
    assert [(one["id"], one["state"], one["last_used_at"]) for one in data] == [(str(key.id), "active", None)]
    assert parse_key(text)[1] not in result.stdout + str(data)
    assert key.digest not in result.stdout + str(data)
    assert (await lms("api-keys", "list", "nobody@school.example")).exit_code == 1


async def test_a_key_is_revoked_by_its_id_or_its_beginning(lms: Command, database: Database, ivy: User) -> None:
    keys = [(await a_key(ivy, Scope.COURSES_READ))[0] for _ in range(3)]
    for key, name in zip(keys, (str(keys[0].id), prefix_of(keys[1].id)), strict=False):
        result = await lms("api-keys", "revoke", name)
        assert (result.exit_code, result.stdout) == (0, f"{prefix_of(key.id)} is revoked.\n")
    stored = await database["api_keys"].find({"revoked_at": None}).to_list()
    assert [one["_id"] for one in stored] == [keys[2].id]
    acts = [row["data"]["act"] async for row in database["outbox"].find({"kind": "audit"})]
    assert acts == ["api_key.revoked"] * 2


@pytest.mark.parametrize("unknown", ["lms_0000000000000000000001", "0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03", "x", ""])
async def test_what_is_no_key_is_an_error(lms: Command, database: Database, unknown: str) -> None:
    result = await lms("api-keys", "revoke", unknown)
    assert result.exit_code == 1
    assert "There is no such key" in plain(result.stderr)
