"""The hot list: what is asked thousands of times a second, and what each may cost the database.

Every command that such a request causes is explained and judged by `hot_rules`. What breaks a rule is excused here, by
name and with its reason, or it is wrong.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from lms.audit.documents import Act
from lms.audit.tasks import append_to_audit
from lms.outbox.documents import BUCKETS
from lms.outbox.jobs import run_job
from lms.outbox.relay import BATCH, Relay
from lms.scheduler import lead
from scripts.measure.explaining import Explained
from scripts.measure.hot_rules import CANDIDATES, Breach, Rule
from scripts.measure.hot_world import DRAFTS, SHELF, Cast, event_of
from scripts.measure.seed import COURSES, PASSWORD

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as a client makes it. `{course}` and the like in path, query and body are ids of the cast.

    With `later` a page far behind the first one is asked for, by its cursor.
    """

    name: str
    who: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: dict[str, Any] | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    later: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What workers and the scheduler do all the time: `begin` prepares it and gives back what counts."""

    name: str
    begin: Callable[[Cast], Awaitable[Awaitable[object]]]


Hot = Ask | Work


def _list(name: str, who: str, path: str, size: int, *query: tuple[str, str]) -> Iterator[Ask]:
    """A list is asked for by page and by cursor, the first page and a later one."""
    path, sized = f"{API}{path}", (("page_size", str(size)), *query)
    yield Ask(f"{name}, page 1", who, "GET", path, sized)
    yield Ask(f"{name}, page 2", who, "GET", path, (("page", "2"), *sized))
    yield Ask(f"{name}, by cursor", who, "GET", path, (("cursor", ""), *sized))
    yield Ask(f"{name}, later by cursor", who, "GET", path, sized, later=True)


FILTERED: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("category", (("category", "walks"),)),
    ("a rare category", (("category", "biology"),)),
    ("tag", (("tag", "outdoors"),)),
    ("a rare tag", (("tag", "maps"),)),
    ("two tags", (("tag", "outdoors"), ("tag", "plants"))),
    ("difficulty_level", (("difficulty_level", "advanced"),)),
    ("instructor_id", (("instructor_id", "{oscar}"),)),
    ("min_minutes", (("min_minutes", "290"),)),
    ("max_minutes", (("max_minutes", "109"),)),
    ("search", (("search", "tidal"),)),
    ("search, a common word", (("search", "limpet"),)),
)
"""Filters of the catalogue with values of which a few courses have some and thousands have others."""


def _catalogue() -> Iterator[Ask]:
    yield from _list("courses", "visitor", "/courses", 20)
    yield from _list("courses, titles", "visitor", "/courses", 20, ("sort", "title"))
    for name, query in FILTERED:
        for order, sort in (("", ()), (", titles", (("sort", "title"),))):
            yield from _list(f"courses by {name}{order}", "visitor", "/courses", 5, *query, *sort)
    yield from _list("courses of mine", "instructor", "/courses", 20, ("mine", "true"))
    yield from _list("drafts of mine", "instructor", "/courses", 5, ("status", "draft"))
    course = f"{API}/courses/{{course}}"
    yield Ask("a course", "visitor", "GET", course)
    yield Ask("a course, signed in", "student", "GET", course)
    yield Ask("a course by slug", "visitor", "GET", f"{API}/courses/slug/{{slug}}")
    yield Ask("an outline", "visitor", "GET", f"{course}/outline")
    yield from _list("lessons", "visitor", "/courses/{course}/lessons", 5)
    yield Ask("a preview lesson", "visitor", "GET", f"{course}/lessons/{{preview}}")
    yield Ask("a lesson", "student", "GET", f"{course}/lessons/{{lesson}}")


def _people() -> Iterator[Ask]:
    auth = f"{API}/auth"
    right = {"email": "{email}", "password": PASSWORD}
    unknown = {"email": "nobody@school.example", "password": PASSWORD}
    yield Ask("me", "student", "GET", f"{API}/users/me")
    yield Ask("sign in", "visitor", "POST", f"{auth}/login", body=right)
    yield Ask("sign in, unknown", "visitor", "POST", f"{auth}/login", body=unknown, status=401)
    yield Ask("refresh", "visitor", "POST", f"{auth}/refresh", body={"refresh_token": "{refresh_token}"})
    new = {"email": "new@school.example", "password": PASSWORD, "full_name": "Nia New"}
    yield Ask("sign up", "visitor", "POST", f"{auth}/register", body=new, status=202)
    yield Ask("sign up, known", "visitor", "POST", f"{auth}/register", body=new, status=202)


def _studying() -> Iterator[Ask]:
    one = f"{API}/enrollments/{{enrollment}}"
    report = {"position_seconds": 40, "watched": [[0, 40]], "device_id": "phone"}
    yield from _list("my enrolments", "student", "/enrollments", 20)
    yield from _list("my active enrolments", "student", "/enrollments", 20, ("status", "active"))
    yield Ask("my enrolment in a course", "student", "GET", f"{API}/enrollments", (("course_id", "{course}"),))
    both = (("course_id", "{course}"), ("status", "active"))
    yield Ask("my active enrolment in a course", "student", "GET", f"{API}/enrollments", both)
    yield Ask("my enrolment", "student", "GET", one)
    yield Ask("report", "student", "PUT", f"{one}/lessons/{{lesson}}/progress", body=report)
    yield Ask(
        "first report on an optional lesson", "student", "PUT", f"{one}/lessons/{{optional}}/progress", body=report
    )
    yield Ask("complete a lesson", "student", "POST", f"{one}/lessons/{{another_lesson}}/complete")
    last = f"{API}/enrollments/{{nearly_done}}/lessons/{{last_lesson}}/complete"
    yield Ask("complete the last lesson", "student", "POST", last)
    path, free, keyed = f"{API}/enrollments", {"course_id": "{free}"}, {"course_id": "{another_free}"}
    yield Ask("enrol", "student", "POST", path, body=free, status=201)
    yield Ask("enrol again", "student", "POST", path, body=free, status=409)
    key = {"Idempotency-Key": "hot"}
    yield Ask("enrol with a key", "student", "POST", path, body=keyed, status=201, headers=key)
    yield Ask("enrol with the same key", "student", "POST", path, body=keyed, status=201, headers=key)
    yield Ask("drop", "student", "DELETE", f"{API}/enrollments/{{dropped}}", status=204)
    yield Ask("enrol after a drop", "student", "POST", path, body={"course_id": "{dropped_course}"}, status=201)


def _certificates() -> Iterator[Ask]:
    one = f"{API}/certificates/{{certificate}}"
    yield from _list("my certificates", "student", "/certificates", 1)
    yield Ask("my certificate", "student", "GET", one)
    yield Ask("my certificate's PDF", "student", "GET", f"{one}/pdf")
    yield Ask("verify", "visitor", "GET", "/verify/{number}")


async def _relay(cast: Cast) -> Awaitable[object]:
    async def send(_job: str, _event_id: str) -> None:
        """The queue takes it; no worker runs."""

    return Relay(cast.context, send).pass_on()


async def _generate(cast: Cast) -> Awaitable[object]:
    event = await event_of(cast, "enrollment.completed", cast.ids["nearly_done"])
    return run_job("generate_certificate", event, cast.context)


async def _mail(cast: Cast) -> Awaitable[object]:
    """The mail server is away, so that the failure is recorded too."""
    event = await event_of(cast, "certificate.issued", cast.ids["certificate"])
    return run_job("send_certificate_email", event, cast.context)


async def _append(cast: Cast) -> Awaitable[object]:
    event = await event_of(cast, "audit", Act.SIGNED_IN)
    return run_job(append_to_audit.name, event, cast.context)


async def _lead(_: Cast) -> Awaitable[object]:
    return lead("hot")


def hot_list() -> list[Hot]:
    """In an order in which one may build on another."""
    work = [
        Work("the relay's round", _relay),
        Work("issuing a certificate", _generate),
        Work("mailing a certificate", _mail),
        Work("the scheduler's lease", _lead),
        Work("writing to the audit log", _append),
    ]
    last = Ask("sign out", "student", "POST", f"{API}/auth/logout")
    return [*_catalogue(), *_people(), *_studying(), *work, *_certificates(), last]


NOT_HOT = {
    "POST /api/v1/auth/logout-all": "a person's session list is scatter-gather, as DESIGN declares",
    "GET /api/v1/auth/sessions": "a person's session list is scatter-gather, as DESIGN declares",
    "DELETE /api/v1/auth/sessions/{}": "ends what the session list shows, now and then",
    **dict.fromkeys(
        (
            "POST /api/v1/auth/forgot-password",
            "POST /api/v1/auth/reset-password",
            "POST /api/v1/auth/change-password",
            "POST /api/v1/auth/change-email",
            "POST /api/v1/auth/change-email/confirm",
            "POST /api/v1/auth/verify-email/request",
            "POST /api/v1/auth/verify-email/confirm",
            "GET /api/v1/auth/mfa",
            "POST /api/v1/auth/mfa/totp",
            "POST /api/v1/auth/mfa/totp/confirm",
            "DELETE /api/v1/auth/mfa/totp",
            "POST /api/v1/auth/mfa/recovery-codes",
            "PATCH /api/v1/users/me",
            "POST /api/v1/auth/api-keys",
            "GET /api/v1/auth/api-keys",
            "GET /api/v1/auth/api-keys/{}",
            "DELETE /api/v1/auth/api-keys/{}",
            "GET /api/v1/users/me/export",
            "GET /api/v1/users/{}/export",
            "DELETE /api/v1/users/me",
            "DELETE /api/v1/users/{}",
            "GET /api/v1/users/me/identities",
            "DELETE /api/v1/users/me/identities/{}",
        ),
        "a few times in the life of an account",
    ),
    "GET /api/v1/audit": "administrators look things up there",
    **dict.fromkeys(
        (
            "GET /api/v1/users",
            "POST /api/v1/users",
            "GET /api/v1/users/{}",
            "PATCH /api/v1/users/{}",
            "POST /api/v1/users/{}/logout-all",
            "GET /api/v1/users/{}/enrollments",
            "GET /api/v1/users/invitations",
            "POST /api/v1/users/invitations",
            "GET /api/v1/users/invitations/{}",
            "DELETE /api/v1/users/invitations/{}",
        ),
        "a few administrators; bounded and index-served all the same, as tests/users/test_listing.py shows",
    ),
    "POST /api/v1/auth/invitations/accept": "once in the life of an account",
    "POST /api/v1/auth/login/mfa": "of the few who have a second factor; a challenge and a person by id",
    "POST /api/v1/auth/prove": "before what is dangerous, which is seldom",
    "GET /api/v1/auth/oidc": "asks nothing of the database",
    **dict.fromkeys(
        (
            "GET /api/v1/auth/oidc/{}/start",
            "GET /api/v1/auth/oidc/{}/callback",
            "POST /api/v1/auth/oidc/{}/exchange",
        ),
        "a sign-in waits for the provider; of ours it is point reads and a few single writes",
    ),
    "GET /.well-known/jwks.json": "asks nothing of the database",
    "POST /api/v1/courses": "authoring",
    "PATCH /api/v1/courses/{}": "authoring",
    "POST /api/v1/courses/{}/publish": "authoring",
    "POST /api/v1/courses/{}/unpublish": "authoring",
    "POST /api/v1/courses/{}/archive": "authoring",
    "POST /api/v1/courses/{}/duplicate": "authoring",
    "DELETE /api/v1/courses/{}": "authoring",
    "PUT /api/v1/courses/{}/outline": "authoring",
    "POST /api/v1/courses/{}/modules": "authoring",
    "PATCH /api/v1/courses/{}/modules/{}": "authoring",
    "DELETE /api/v1/courses/{}/modules/{}": "authoring",
    "DELETE /api/v1/courses/{}/lessons/{}": "authoring",
    "POST /api/v1/courses/{}/lessons": "authoring",
    "PATCH /api/v1/courses/{}/lessons/{}": "authoring",
    "GET /health/live": "asks nothing of the database",
    "GET /health/ready": "a load balancer's probe, a few times a second at any number of learners",
    "GET /metrics": "asks nothing of the database",
    "GET /docs": "asks nothing of the database",
    "GET /docs/assets/{}": "asks nothing of the database",
    "GET /api/v1/openapi.json": "asks nothing of the database",
}
"""Routes that are not on the list, each with the reason. `{}` stands for what is in the path."""


@dataclass(frozen=True, slots=True)
class Excused:
    """Rules that the commands of an ask (a pattern) break on one collection, and why that is right.

    `at_most` keys and documents may still be examined.
    """

    ask: str
    collection: str
    rules: frozenset[Rule]
    at_most: int
    reason: str

    def covers(self, hot: Hot, one: Explained, breach: Breach) -> bool:
        about = fnmatchcase(hot.name, self.ask) and one.collection == self.collection
        return about and breach.rule in self.rules and breach.examined <= self.at_most


CATALOGUE = SHELF + COURSES + DRAFTS
ANY_ORDER = frozenset({Rule.SORT, Rule.EXAMINED})
NO_KEY = frozenset({Rule.SHARD_KEY})

EXCUSED: tuple[Excused, ...] = (
    *(
        Excused(
            f"courses by *{name}, titles, *",
            "courses",
            ANY_ORDER,
            CATALOGUE,
            f"no index has the titles of one {name} in order; it would be ({field}, status, title, _id)",
        )
        for name, field in (("category", "category"), ("tag", "tags"), ("instructor_id", "instructor_id"))
    ),
    Excused(
        "courses by two tags, *",
        "courses",
        ANY_ORDER,
        CATALOGUE,
        "an index finds the courses of one tag, and no index those of every pair",
    ),
    Excused(
        "courses by difficulty_level, *",
        "courses",
        ANY_ORDER,
        CATALOGUE,
        "about a third of all courses has each of its three values; a rare one would need (status, difficulty_level, "
        "created_at, _id) and the same with title",
    ),
    Excused(
        "courses by m??_minutes, *",
        "courses",
        ANY_ORDER,
        CATALOGUE,
        "a range and an order cannot both come from one index; (status, estimated_duration_minutes) would help where "
        "few match",
    ),
    Excused(
        "courses by search*",
        "courses",
        frozenset({Rule.SORT}),
        CANDIDATES,
        "a text index has no order: what is found, at most 5,000 candidates, is sorted",
    ),
    Excused(
        "my *enrolment in a course",
        "enrollments",
        frozenset({Rule.SORT}),
        1,
        "by its unique index there is at most one row to sort",
    ),
    Excused(
        "the relay's round",
        "outbox",
        NO_KEY,
        2 * BATCH + BUCKETS + 1,
        "not a request: each worker looks after all buckets, four times a second at most; where the outbox is sharded "
        "its workers are given buckets",
    ),
)
