"""What `lms dev` fills a new installation with: people to sign in as, and the demo courses."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lms.accounts.documents import Role, User
from lms.accounts.people import create_user
from lms.accounts.rules import EmailTaken
from lms.courses.documents import Course
from lms.database import connect
from lms.loading.load import LoadOptions, load
from lms.passwords import Passwords
from lms.settings import Settings

COURSES = Path(__file__).parent / "courses"
PASSWORD = "correct horse battery"  # noqa: S105 - shown on the screen, and made in development only


@dataclass(frozen=True, slots=True)
class DemoSignIn:
    email: str
    full_name: str
    role: Role
    password: str = PASSWORD


PEOPLE = (
    DemoSignIn("ada@school.example", "Ada Okafor", Role.ADMIN),
    DemoSignIn("ivy@school.example", "Ivy Lindqvist", Role.INSTRUCTOR),
    DemoSignIn("sam@school.example", "Sam Ñandú", Role.STUDENT),
)


async def seed_demo(settings: Settings) -> tuple[DemoSignIn, ...]:
    """Create the demo people and courses that are not there yet. Raises ValueError outside of development."""
    if settings.environment != "development":
        raise ValueError("Demo people have a known password; they are for development only.")
    async with connect(settings):
        if await User.find_one({"email": PEOPLE[0].email}) is None:
            await _create_people(settings)
        if await Course.find_one({"source": "demo"}) is None:
            await load([COURSES], LoadOptions(instructor_email=PEOPLE[1].email, publish=True, source="demo"))
    return PEOPLE


async def _create_people(settings: Settings) -> None:
    with closing(Passwords(settings)) as passwords:
        hashes = [await passwords.hash(one.password) for one in PEOPLE]
    for one, hashed in zip(PEOPLE, hashes, strict=True):
        user = User(email=one.email, full_name=one.full_name, role=one.role, password_hash=hashed, verified=True)
        try:
            await create_user(user)
        except EmailTaken:
            # Another start made this one; its password is its own.
            continue
