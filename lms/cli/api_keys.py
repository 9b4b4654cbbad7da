"""The commands for API keys, for operators: they work on the database."""

import sys
from typing import Any

import rich_click as click

from lms.cli import EXIT_FAILED, AsJson, cli, print_json, run
from lms.cli.operating import SHOWN, as_id, open_database
from lms.cli.remote import shown

OPTIONS = {"scopes": "scope", "expires_in_days": "days"}


@cli.group("api-keys")
def api_keys() -> None:
    """API keys: what programs sign in with. Create, list, revoke."""


@api_keys.command("create")
@click.argument("email")
@click.option("--name", required=True, help="By which its owner knows it again.")
@click.option("--scope", "scopes", multiple=True, required=True, help="What it may be used for; may be repeated.")
@click.option("--days", type=int, default=90, show_default=True, help="Days until it expires; 365 at most.")
def create(email: str, name: str, scopes: tuple[str, ...], days: int) -> None:
    """Make a key for an instructor or an administrator, as whom it will act. They are told by mail.

    The key is printed to standard output, and can never be shown again.
    """
    import msgspec

    from lms.api_keys.documents import Scope
    from lms.api_keys.schemas import ApiKeyCreate
    from lms.web.bodies import find_errors

    given = {"name": name, "scopes": list(scopes), "expires_in_days": days}
    if errors := list(find_errors(given, ApiKeyCreate)):
        for error in errors:
            field = (error.pointer or "").split("/")[1]
            known = f" There are: {', '.join(Scope)}." if field == "scopes" else ""
            click.echo(f"{OPTIONS.get(field, field)}: {error.message}{known}", err=True)
        sys.exit(EXIT_FAILED)
    text, key = run(_made(email, msgspec.convert(given, ApiKeyCreate)))
    click.echo(text)
    told = f"{key['prefix']} acts as {email} until {key['expires_at']:%Y-%m-%d}. Keep it now: it is not shown again."
    click.echo(told, err=True)


async def _made(email: str, data: Any) -> tuple[str, dict[str, Any]]:
    from lms.accounts.documents import User
    from lms.accounts.rules import normal_email
    from lms.api_keys.rules import MOST_KEYS, TooManyApiKeys, prefix_of
    from lms.api_keys.service import create_key
    from lms.auth import WrongRole

    async with open_database():
        user = await User.by_email(normal_email(email))
        if user is None:
            raise click.ClickException(f"There is no account for {email}.")
        try:
            key, text = await create_key(user.id, data, by="operator")
        except WrongRole:
            raise click.ClickException("Only instructors and administrators who may sign in can have keys.") from None
        except TooManyApiKeys:
            raise click.ClickException(f"{email} has {MOST_KEYS} keys that still work; revoke one first.") from None
    return text, {"prefix": prefix_of(key.id), "expires_at": key.expires_at}


@api_keys.command("list")
@click.argument("email")
@AsJson
def list_keys(email: str, as_json: bool) -> None:
    """List a person's keys, newest first, without their secret parts."""
    import msgspec

    from lms.schemas import encode

    async def found() -> list[Any] | None:
        from lms.accounts.documents import User
        from lms.accounts.rules import normal_email
        from lms.api_keys.documents import ApiKey
        from lms.api_keys.queries import SHOWN as FIELDS
        from lms.api_keys.queries import shown_key

        async with open_database():
            user = await User.by_email(normal_email(email))
            if user is None:
                return None
            rows = ApiKey.get_pymongo_collection().find({"owner_id": user.id}, FIELDS)
            return [shown_key(row) for row in await rows.sort([("created_at", -1), ("_id", -1)]).to_list(SHOWN)]

    keys = run(found())
    if keys is None:
        raise click.ClickException(f"There is no account for {email}.")
    if as_json:
        print_json(msgspec.json.decode(encode(keys)))
        return
    for one in keys:
        used = f"used {one.last_used_at[:16]}" if one.last_used_at else "never used"
        click.echo(f"{one.prefix}  {one.state:<7}  until {one.expires_at[:10]}  {used}  {shown(one.name)}")
        click.echo(f"    {', '.join(one.scopes)}")


@api_keys.command("revoke")
@click.argument("key", metavar="ID_OR_PREFIX")
def revoke(key: str) -> None:
    """Revoke a key by its id or by what it starts with (`lms_` and 22 characters); it is out within a second."""

    async def revoked() -> str | None:
        from lms.api_keys.rules import ApiKeyNotFound, id_of, prefix_of
        from lms.api_keys.service import revoke_key

        key_id = id_of(key) or as_id(key)
        if key_id is None:
            return None
        async with open_database():
            try:
                return prefix_of((await revoke_key({"_id": key_id}, by="operator")).id)
            except ApiKeyNotFound:
                return None

    prefix = run(revoked())
    if prefix is None:
        raise click.ClickException("There is no such key; `lms api-keys list EMAIL` shows a person's.")
    click.echo(f"{prefix} is revoked.")
