"""The commands for courses, on the database or through a server elsewhere; and who one is there."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

import rich_click as click

from lms.cli import AsJson, cli, print_json, run
from lms.cli.operating import SHOWN, as_id, open_database
from lms.cli.remote import Remote, is_remote, refuse, shown, why

STATUSES = ("published", "draft", "archived")
FIELDS = ("id", "slug", "title", "status")
CourseName = click.argument("course", metavar="SLUG_OR_ID")


@cli.command()
@AsJson
def whoami(as_json: bool) -> None:
    """Show who LMS_API_KEY acts as at LMS_API_URL. The key needs the scope `profile:read`."""
    if not is_remote():
        refuse(["LMS_API_URL: is missing; this asks a server elsewhere, with LMS_API_KEY"])
    remote = Remote()
    me = remote.get("/users/me")
    if as_json:
        print_json({name: me[name] for name in ("id", "email", "full_name", "role")})
    else:
        click.echo(f"{shown(me['full_name'])} <{shown(me['email'])}>, {shown(me['role'])}, at {remote.address}")


@cli.group()
def courses() -> None:
    """Courses: list, publish, unpublish, archive.

    They work on the database; with LMS_API_URL and LMS_API_KEY through that server, as the key's owner, with the scopes
    `courses:read` and `courses:write`.
    """


@courses.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only courses of this status.")
@AsJson
def list_courses(status: str | None, as_json: bool) -> None:
    """List courses, newest first, at most a thousand of each status.

    Through a server elsewhere: what is published, and of the rest what the key's owner is staff of.
    """
    wanted = (status,) if status else STATUSES
    found = _listed_there(wanted) if is_remote() else run(_listed_here(wanted))
    if as_json:
        print_json([{name: str(one[name]) for name in FIELDS} for one in found])
        return
    for one in found:
        click.echo(f"{shown(one['status']):<9}  {shown(one['slug']):<40}  {shown(one['title'])}")


def _listed_there(statuses: tuple[str, ...]) -> list[dict[str, Any]]:
    remote = Remote()
    found: list[dict[str, Any]] = []
    for status in statuses:
        rows = remote.items("/courses", status=status)
        found += [row for _, row in zip(range(SHOWN), rows, strict=False)]
    return found


async def _listed_here(statuses: tuple[str, ...]) -> list[dict[str, Any]]:
    from lms.courses.documents import Course

    async with open_database():
        rows = [
            row
            for status in statuses
            for row in await Course.get_pymongo_collection()
            .find({"status": status}, dict.fromkeys(FIELDS[1:], 1))
            .sort([("created_at", -1), ("_id", -1)])
            .to_list(SHOWN)
        ]
    return [{**row, "id": row["_id"]} for row in rows]


@courses.command("publish")
@CourseName
def publish(course: str) -> None:
    """Open a course to everyone. Says what is missing where it cannot be."""
    _change(course, "publish", "published")


@courses.command("unpublish")
@CourseName
def unpublish(course: str) -> None:
    """Hide a course from newcomers; whoever is enrolled goes on."""
    _change(course, "unpublish", "draft")


@courses.command("archive")
@CourseName
def archive(course: str) -> None:
    """Retire a course; whoever is enrolled goes on."""
    _change(course, "archive", "archived")


def _change(course: str, act: str, status: str) -> None:
    if is_remote():
        remote = Remote()
        course_id = course if as_id(course) else remote.get(f"/courses/slug/{quote(course, safe='')}")["id"]
        changed = remote.post(f"/courses/{course_id}/{act}")
    else:
        changed = run(_changed_here(course, status))
    click.echo(f"{shown(changed['slug'])} is now {shown(changed['status'])}.")


async def _changed_here(course: str, status: str) -> dict[str, Any]:
    from lms.accounts.documents import Role
    from lms.auth import Caller
    from lms.courses import service
    from lms.courses.documents import Course, CourseStatus
    from lms.errors import LMSError
    from lms.transactions import Session, in_transaction

    nobody = UUID(int=0)
    # Whoever has the database may do what an administrator may.
    operator = Caller(nobody, Role.ADMIN, nobody)

    async with open_database():
        wanted = {"_id": found} if (found := as_id(course)) else {"slug": course}
        raw = await Course.get_pymongo_collection().find_one(wanted, {"_id": 1})
        if raw is None:
            raise click.ClickException("There is no such course; `lms courses list` shows those that there are.")

        async def change(session: Session) -> dict[str, Any]:
            return await service.set_status(operator, raw["_id"], CourseStatus(status), None, session)

        try:
            return await in_transaction(change)
        except LMSError as error:
            raise click.ClickException(why(error.message, error.members)) from None
