"""The commands for people: create, invite, list, change roles, keep out."""

import sys
from contextlib import closing
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import rich_click as click

from lms.cli import EXIT_FAILED, AsJson, checked_settings, cli, print_json, run
from lms.cli.operating import SHOWN, open_database

ROLES = click.Choice(["student", "instructor", "admin"])
Email = click.option("--email", required=True, help="Address to sign in with.")
FullName = click.option("--full-name", required=True, help="Name as it will stand on certificates.")
PasswordStdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking."
)


@cli.group()
def users() -> None:
    """People: create, invite, list, change roles, keep out."""


@users.command("create-admin")
@Email
@FullName
@PasswordStdin
def create_admin(email: str, full_name: str, password_stdin: bool) -> None:
    """Create an administrator; a new installation starts with one."""
    _create(email, full_name, "admin", _ask_password(password_stdin))


@users.command("create")
@Email
@FullName
@click.option("--role", type=ROLES, required=True, help="What this person may do.")
@PasswordStdin
def create(email: str, full_name: str, role: str, password_stdin: bool) -> None:
    """Create a person with a role."""
    _create(email, full_name, role, _ask_password(password_stdin))


def _ask_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _create(email: str, full_name: str, role: str, password: str) -> None:
    import msgspec

    from lms.accounts.rules import EmailTaken
    from lms.accounts.schemas import Registration
    from lms.errors import Invalid
    from lms.web.bodies import find_errors

    given = {"email": email, "full_name": full_name, "password": password}
    errors = list(find_errors(given, Registration))
    if errors:
        _refuse(errors)
    try:
        user_id = run(_store(msgspec.convert(given, Registration), role))
    except Invalid as error:
        _refuse(error.errors)
    except EmailTaken as error:
        raise click.ClickException(f"There is an account for {error} already; `lms users list` shows it.") from None
    click.echo(f"Created {role} {email} ({user_id}).")


def _refuse(errors: list[Any]) -> NoReturn:
    for error in errors:
        name = (error.pointer or "").removeprefix("#/").replace("_", "-")
        click.echo(f"{name}: {error.message}", err=True)
    sys.exit(EXIT_FAILED)


async def _store(data: Any, role: str) -> UUID:
    from lms.accounts.documents import Role, User
    from lms.accounts.people import create_user, hash_new_password
    from lms.accounts.rules import normal_email
    from lms.passwords import Passwords

    async with open_database():
        with closing(Passwords(checked_settings())) as passwords:
            password_hash = await hash_new_password(passwords, data.password, "#/password", data.email, data.full_name)
        user = User(
            email=normal_email(data.email),
            full_name=data.full_name.strip(),
            role=Role(role),
            password_hash=password_hash,
            verified=True,
        )
        await create_user(user)
    return user.id


@users.command("invite")
@click.argument("email")
@click.option("--role", type=ROLES, required=True, help="What this person may do.")
@click.option("--full-name", help="Name to write to; who accepts may give another one.")
def invite(email: str, role: str, full_name: str | None) -> None:
    """Mail somebody a link that gives them an account, in the place of the one before."""
    import msgspec

    from lms.recovery.rules import AddressTaken
    from lms.users.schemas import InvitationCreate
    from lms.web.bodies import find_errors

    given = {"email": email, "role": role, **({"full_name": full_name} if full_name else {})}
    errors = list(find_errors(given, InvitationCreate))
    if errors:
        _refuse(errors)
    try:
        until = run(_invited(msgspec.convert(given, InvitationCreate)))
    except AddressTaken:
        raise click.ClickException(
            f"There is an account for {email} already; `lms users set-role` changes it."
        ) from None
    click.echo(f"Invited {role} {email}; the mail's link works until {until:%Y-%m-%d %H:%M} UTC.")


async def _invited(data: Any) -> datetime:
    from lms.transactions import in_transaction
    from lms.users.service import invite

    async with open_database():
        settings = checked_settings()
        return (await in_transaction(lambda session: invite(data, settings, None, session))).expires_at


@users.command("list")
@click.option("--search", help="Beginnings of words of the name, or of the address.")
@click.option("--role", type=ROLES, help="Only who has this role.")
@click.option("--inactive", is_flag=True, help="Only who is kept out.")
@AsJson
def list_users(search: str | None, role: str | None, inactive: bool, as_json: bool) -> None:
    """List people, newest first, at most a thousand."""

    async def found() -> list[dict[str, Any]]:
        from lms.accounts.documents import Role
        from lms.users.queries import list_people
        from lms.web.lists import Paging

        paging = Paging(page=1, size=SHOWN, cursor="")
        async with open_database():
            people, _, _ = await list_people(Role(role) if role else None, False if inactive else None, search, paging)
        return [
            {"id": str(one.id), "email": one.email, "full_name": one.full_name, "role": one.role, "active": one.active}
            for one in people
        ]

    people = run(found())
    if as_json:
        print_json(people)
        return
    for one in people:
        state = "" if one["active"] else "  (kept out)"
        click.echo(f"{one['role']:<11} {one['email']:<34} {one['full_name']}{state}")


@users.command("set-role")
@click.argument("email")
@click.argument("role", type=ROLES)
def set_role(email: str, role: str) -> None:
    """Give a person another role; what they hold of the old one ends within a second."""

    async def change(user_id: UUID) -> bool:
        from lms.accounts.documents import Role
        from lms.accounts.people import change_role

        return await change_role(user_id, Role(role))

    _change(email, change, f"{email} is now {role}.")


@users.command("deactivate")
@click.argument("email")
def deactivate(email: str) -> None:
    """Keep a person out; every session of theirs ends within a second."""

    async def change(user_id: UUID) -> bool:
        from lms.accounts.people import set_active

        return await set_active(user_id, active=False)

    _change(email, change, f"{email} is kept out.")


@users.command("activate")
@click.argument("email")
def activate(email: str) -> None:
    """Let a person in again."""

    async def change(user_id: UUID) -> bool:
        from lms.accounts.people import set_active

        return await set_active(user_id, active=True)

    _change(email, change, f"{email} may sign in again.")


@users.command("erase")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(email: str, yes: bool) -> None:
    """Erase a person and what is theirs, for good; certificates stay valid and name nobody."""
    from lms.accounts.rules import LastAdmin
    from lms.erasure.rules import OwnsCourses

    if not yes:
        click.confirm(f"Erase {email}? There is no way back", abort=True)

    async def change(user_id: UUID) -> bool:
        from lms.erasure.service import erase

        await erase(user_id)
        return True

    try:
        _change(email, change, f"{email} is erased; the workers remove what is left within minutes.")
    except OwnsCourses as error:
        named = ", ".join(error.members["course_ids"])
        raise click.ClickException(f"{error.message} There are {error.members['course_count']}: {named}") from None
    except LastAdmin as error:
        raise click.ClickException(error.message) from None


@users.command("reset-mfa")
@click.argument("email")
def reset_mfa(email: str) -> None:
    """Take a person's second factor away, who has lost it; every session of theirs ends within a second."""

    async def change(user_id: UUID) -> bool:
        from lms.second_factor.service import reset

        return await reset(user_id)

    _change(email, change, f"{email} signs in with the password alone.")


def _change(email: str, change: Any, done: str) -> None:
    async def changed() -> bool | None:
        from lms.accounts.documents import User
        from lms.accounts.rules import normal_email

        async with open_database():
            user = await User.by_email(normal_email(email))
            return None if user is None else await change(user.id)

    result = run(changed())
    if result is None:
        raise click.ClickException(f"There is no account for {email}.")
    click.echo(done if result else "Nothing to change.")
