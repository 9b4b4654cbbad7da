import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import SignIn, User
from lms.clock import utc_now
from lms.database import bind
from lms.passwords import Passwords
from lms.recovery.documents import Purpose
from lms.settings import Settings
from tests.cli.conftest import Command, plain
from tests.recovery.mailed import newest_token

Database = AsyncDatabase[dict[str, Any]]
PASSWORD = "correct horse battery"
ADA = ("--email", "Ada@School.example", "--full-name", " Ada Okafor ", "--password-stdin")


async def test_an_administrator_is_made_with_a_password_from_standard_input(
    lms: Command, database: Database, settings: Settings
) -> None:
    result = await lms("users", "create-admin", *ADA, stdin=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    stored = await database["users"].find_one({})
    assert stored is not None
    assert result.stdout == f"Created admin Ada@School.example ({stored['_id']}).\n"
    assert (stored["email"], stored["full_name"], stored["role"]) == ("ada@school.example", "Ada Okafor", "admin")
    assert stored["verified"] is True
    assert stored["active"] is True
    passwords = Passwords(settings)
    assert await passwords.check(PASSWORD, stored["password_hash"])
    passwords.close()
    assert PASSWORD not in result.output


async def test_the_password_is_asked_for_twice_and_not_shown(lms: Command, database: Database) -> None:
    who = ("--email", "ivy@school.example", "--full-name", "Ivy Lindqvist", "--role", "instructor")
    different = await lms("users", "create", *who, stdin=f"{PASSWORD}\nanother one\n{PASSWORD}\n{PASSWORD}\n")
    assert different.exit_code == 0
    assert "do not match" in different.output
    assert PASSWORD not in different.output
    stored = await database["users"].find_one({})
    assert stored is not None
    assert stored["role"] == "instructor"


async def test_nobody_is_made_when_the_question_is_not_answered(lms: Command, database: Database) -> None:
    who = ("--email", "ivy@school.example", "--full-name", "Ivy Lindqvist", "--role", "student")
    assert (await lms("users", "create", *who)).exit_code == 1
    assert await database["users"].count_documents({}) == 0


async def test_a_common_password_is_refused_with_the_reason(lms: Command, database: Database) -> None:
    result = await lms("users", "create", *ADA, "--role", "student", stdin="iloveyou")
    assert result.stderr == "password: One of the commonest passwords.\n"
    assert await database["users"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("email", "name", "password", "said"),
    [
        ("ada@school.example", "Ada", "short", ["password"]),
        ("ada@school.example", "Ada", "", ["password"]),
        ("ada", "Ada", PASSWORD, ["email"]),
        ("ada@school.example", "   ", PASSWORD, ["full-name"]),
        ("ada@school.example", "Ada", "Password1", ["password"]),
        ("ada.okafor@school.example", "Ada", "Ada.Okafor", ["password"]),
        ("ada@school.example", "Ada", "x" * 129, ["password"]),
        ("ada", "", "", ["email", "full-name", "password"]),
    ],
)
async def test_every_field_that_cannot_be_used_is_named(
    lms: Command, database: Database, email: str, name: str, password: str, said: list[str]
) -> None:
    who = ("--email", email, "--full-name", name, "--password-stdin")
    result = await lms("users", "create-admin", *who, stdin=password)
    assert result.exit_code == 1
    assert sorted(line.split(":")[0] for line in result.stderr.splitlines()) == said
    assert await database["users"].count_documents({}) == 0


async def test_an_address_has_one_account(lms: Command, database: Database, ada: User) -> None:
    result = await lms("users", "create-admin", *ADA, stdin=PASSWORD)
    assert result.exit_code == 1
    assert "There is an account for ada@school.example already" in plain(result.stderr)
    assert await database["users"].count_documents({}) == 1


async def test_somebody_is_invited_by_an_operator(
    lms: Command, database: Database, client: httpx.AsyncClient, settings: Settings
) -> None:
    who = ("Ivy@School.example", "--role", "instructor", "--full-name", "Ivy Lindqvist")
    result = await lms("users", "invite", *who)
    stored = await database["invitations"].find_one({})
    assert stored is not None
    until = f"{stored['expires_at']:%Y-%m-%d %H:%M} UTC"
    assert result.stdout == f"Invited instructor Ivy@School.example; the mail's link works until {until}.\n"
    assert (stored["email"], stored["full_name"], stored["invited_by"]) == ("ivy@school.example", "Ivy Lindqvist", None)
    audited = await database["outbox"].find_one({"kind": "audit"})
    assert audited is not None
    assert (audited["data"]["act"], audited["data"]["actor"]) == ("user.invited", "operator")
    await bind(database)
    body = {"token": await newest_token(settings, "user.invited", Purpose.INVITATION), "password": PASSWORD}
    assert (await client.post("/auth/invitations/accept", json=body)).status_code == 200
    again = await lms("users", "invite", *who)
    assert again.exit_code == 1
    assert "There is an account for Ivy@School.example already" in plain(again.stderr)


async def test_nobody_is_invited_to_what_is_no_address(lms: Command, database: Database) -> None:
    result = await lms("users", "invite", "ivy", "--role", "instructor")
    assert (result.exit_code, result.stderr.split(":")[0]) == (1, "email")
    assert (await lms("users", "invite", "ivy@school.example")).exit_code == 2
    assert await database["invitations"].count_documents({}) == 0


@pytest.mark.parametrize("missing", ["--email", "--full-name"])
async def test_what_is_missing_is_named(lms: Command, missing: str) -> None:
    given = {"--email": "a@school.example", "--full-name": "Ada"}
    del given[missing]
    result = await lms("users", "create-admin", *(part for pair in given.items() for part in pair))
    assert result.exit_code == 2
    assert missing in result.stderr


async def test_a_role_is_one_of_three(lms: Command, sam: User) -> None:
    result = await lms("users", "set-role", sam.email, "teacher")
    assert result.exit_code == 2
    for role in ("student", "instructor", "admin"):
        assert role in plain(result.stderr)


async def test_people_are_listed_newest_first(lms: Command, ada: User, sam: User) -> None:
    await lms("users", "deactivate", sam.email)
    result = await lms("users", "list")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["student", "sam@school.example", "Sam", "Okafor", "(kept", "out)"],
        ["admin", "ada@school.example", "Ada", "Okafor"],
    ]


async def test_people_are_listed_as_data(lms: Command, sam: User) -> None:
    result = await lms("users", "list", "--json")
    assert json.loads(result.stdout) == [
        {
            "id": str(sam.id),
            "email": "sam@school.example",
            "full_name": "Sam Okafor",
            "role": "student",
            "active": True,
        }
    ]


async def test_the_list_is_narrowed_down(lms: Command, ada: User, sam: User, stella: User) -> None:
    await lms("users", "deactivate", sam.email)

    async def listed(*options: str) -> list[str]:
        result = await lms("users", "list", "--json", *options)
        assert result.exit_code == 0, result.output
        return [one["email"].partition("@")[0] for one in json.loads(result.stdout)]

    assert await listed("--role", "student") == ["stella", "sam"]
    assert await listed("--inactive") == ["sam"]
    assert await listed("--search", "STÉ") == ["stella"]
    assert await listed("--search", "oka", "--role", "student", "--inactive") == ["sam"]
    assert await listed("--search", "oka", "--role", "instructor") == []


async def test_without_people_the_list_is_empty(lms: Command, database: Database) -> None:
    assert (await lms("users", "list")).stdout == ""
    assert json.loads((await lms("users", "list", "--json")).stdout) == []


async def test_another_role_ends_what_the_old_one_gave(lms: Command, database: Database, sam: User) -> None:
    result = await lms("users", "set-role", "SAM@school.example", "instructor")
    assert (result.exit_code, result.stdout) == (0, "SAM@school.example is now instructor.\n")
    stored = await database["users"].find_one({"_id": sam.id})
    assert stored is not None
    assert (stored["role"], stored["auth_epoch"]) == ("instructor", sam.auth_epoch + 1)
    again = await lms("users", "set-role", sam.email, "instructor")
    assert (again.exit_code, again.stdout) == (0, "Nothing to change.\n")


async def test_a_person_is_kept_out_and_let_in_again(lms: Command, database: Database, sam: User) -> None:
    async def state() -> tuple[bool, int]:
        stored = await database["users"].find_one({"_id": sam.id})
        assert stored is not None
        return stored["active"], stored["auth_epoch"] - sam.auth_epoch

    assert (await lms("users", "deactivate", sam.email)).stdout == "sam@school.example is kept out.\n"
    assert await state() == (False, 1)
    assert (await lms("users", "deactivate", sam.email)).stdout == "Nothing to change.\n"
    assert (await lms("users", "activate", sam.email)).stdout == "sam@school.example may sign in again.\n"
    assert await state() == (True, 2)


async def test_who_has_lost_the_second_factor_does_without(lms: Command, database: Database, sam: User) -> None:
    now = utc_now()
    tries = {"count": 9, "not_before": now}
    totp = {"secret": b"sealed", "last_step": 1, "recovery_codes": ["digest"], "enabled_at": now}
    await database["users"].update_one({"_id": sam.id}, {"$set": {"totp": totp, "code_tries": tries}})
    await SignIn(user_id=sam.id, nonce="nonce", rotated_at=now, expires_at=now + timedelta(days=1)).insert()
    result = await lms("users", "reset-mfa", "SAM@school.example")
    assert (result.exit_code, result.stdout) == (0, "SAM@school.example signs in with the password alone.\n")
    stored = await database["users"].find_one({"_id": sam.id})
    assert stored is not None
    assert (stored["totp"], stored["code_tries"], stored["auth_epoch"]) == (None, None, sam.auth_epoch + 1)
    assert await database["sessions"].count_documents({"ended_at": None}) == 0
    told, noted = await database["outbox"].find({}).sort("kind", -1).to_list()
    assert (told["kind"], told["todo"]) == ("user.second_factor_off", ["send_second_factor_off_email"])
    assert (noted["data"]["act"], noted["data"]["actor"]) == ("mfa.disabled", "operator")
    assert (await lms("users", "reset-mfa", sam.email)).stdout == "Nothing to change.\n"


@pytest.mark.parametrize("command", [("deactivate",), ("activate",), ("reset-mfa",), ("set-role", "admin")])
async def test_somebody_unknown_is_an_error(lms: Command, database: Database, command: tuple[str, ...]) -> None:
    result = await lms("users", command[0], "nobody@school.example", *command[1:])
    assert result.exit_code == 1
    assert "There is no account for nobody@school.example." in plain(result.stderr)
