"""Documents for tests with sensible fields. Those that need a database are stored by who asks for them."""

from typing import Any
from uuid import UUID

from lms.accounts.documents import Role, User
from lms.courses.documents import ContentType, Course, CourseStatus, Lesson, Module
from lms.courses.slugs import slug_of

# bcrypt (cost 4) of "correct horse battery" under the test pepper is made once by conftest; most tests never sign in.
NO_PASSWORD = "v1$not-a-hash"


def a_user(name: str, role: Role = Role.STUDENT, **fields: Any) -> User:
    """`name` is a first name such as Sam; the address is made from it."""
    values: dict[str, Any] = {
        "email": f"{slug_of(name)}@school.example",
        "full_name": f"{name} Okafor",
        "role": role,
        "password_hash": NO_PASSWORD,
    }
    return User(**(values | fields))


def a_lesson(title: str, module_id: str, order: int = 0, **fields: Any) -> Lesson:
    values: dict[str, Any] = {
        "module_id": module_id,
        "slug": slug_of(title),
        "title": title,
        "content_type": ContentType.TEXT,
        "content": f"# {title}\n\nRead this.",
        "duration_minutes": 5,
        "order": order,
    }
    return Lesson(**(values | fields))


def a_course(instructor_id: UUID, title: str = "Plants of the tidal zone", lessons: int = 2, **fields: Any) -> Course:
    """A published course with one module and `lessons` required lessons, the first one a preview."""
    module = Module(title="First steps")
    made = [a_lesson(f"Lesson {n + 1}", module.id, n, preview=n == 0) for n in range(lessons)]
    values: dict[str, Any] = {
        "title": title,
        "slug": slug_of(title),
        "status": CourseStatus.PUBLISHED,
        "instructor_id": instructor_id,
        "modules": [module],
        "lessons": made,
    }
    return Course(**(values | fields))
