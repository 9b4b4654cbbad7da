"""What a list of courses may be asked for, and the lists that are the same for everybody."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from lms.accounts.documents import Role
from lms.auth import Caller
from lms.courses import queries
from lms.courses.documents import CourseStatus, Difficulty
from lms.errors import FieldError, Invalid
from lms.web.kept import KeptAnswers
from lms.web.lists import Paging
from lms.web.requests import check_request

STAFF = (Role.INSTRUCTOR, Role.ADMIN)

TagFilter = Annotated[
    list[str] | None, QueryParameter(name="tag", max_items=10, description="Repeat it for courses that have all.")
]
SortName = Annotated[Literal["-created_at", "title"], QueryParameter(name="sort", description="The order.")]
SearchText = Annotated[str | None, QueryParameter(name="search", min_length=1, max_length=200)]
MinutesFilter = Annotated[int | None, QueryParameter(ge=0, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class Listing:
    """What is asked for: a filter within what the viewer may see, and which page of it."""

    wanted: dict[str, Any]
    paging: Paging


async def provide_listing(
    request: Request[Caller | None, Any, Any],
    paging: NamedDependency[Paging],
    category: FromQuery[str | None] = None,
    tag: TagFilter = None,
    difficulty_level: FromQuery[Difficulty | None] = None,
    instructor_id: FromQuery[UUID | None] = None,
    min_minutes: MinutesFilter = None,
    max_minutes: MinutesFilter = None,
    mine: FromQuery[bool] = False,
    status: FromQuery[CourseStatus | None] = None,
) -> Listing:
    """The dependency `listing`. It asks for `paging` itself: two dependencies side by side cost a task each."""
    viewer = request.user
    role = viewer.role if viewer else None
    wanted = queries.visible_filter(viewer_id=viewer.id if viewer else None, role=role, status=status, mine=mine)
    given = {
        "category": category,
        "tags": {"$all": tag} if tag else None,
        "difficulty_level": difficulty_level.value if difficulty_level else None,
        "instructor_id": instructor_id,
        "estimated_duration_minutes": _between(min_minutes, max_minutes),
    }
    asked = {name: value for name, value in given.items() if value is not None}
    return Listing({"$and": [wanted, asked]} if asked else wanted, paging)


PERSONAL = frozenset({"mine", "status"})


def kept_lists(request: Request[Caller | None, Any, Any]) -> KeptAnswers | None:
    """The kept lists, where the answer to this query is the same for everybody who is not staff."""
    is_personal = not PERSONAL.isdisjoint(request.query_params)
    return None if is_personal or _is_staff(request) else request.app.state.catalogue


def _is_staff(request: Request[Caller | None, Any, Any]) -> bool:
    """Staff see at once what they just did."""
    caller = request.scope["user"]
    return caller is not None and caller.role in STAFF


async def answer_from_memory(request: Request[Any, Any, Any]) -> Response[Any] | None:
    """Before anything else of the route is done. A query that has been answered needs no second check."""
    kept: KeptAnswers = request.app.state.catalogue
    found = None if _is_staff(request) else kept.find(request.scope["query_string"])
    if found is None:
        await check_request(request)
    return found


def _between(least: int | None, most: int | None) -> dict[str, int] | None:
    if least is not None and most is not None and least > most:
        message = "min_minutes is greater than max_minutes."
        raise Invalid(errors=[FieldError(code="invalid", message=message, parameter="min_minutes")])
    limits = {"$gte": least, "$lte": most}
    return {name: value for name, value in limits.items() if value is not None} or None
