"""The cases over HTTP: what is asked of the product, and what of the floor for the same answer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from lms.tokens import KeyRing
from scripts.measure.floor import COMMANDS
from scripts.measure.seed import PASSWORD, World, free_courses
from scripts.measure.world import System
from scripts.measure.wrk import Call

API = "/api/v1"
PAGES = 5
EXHAUSTED = "There are no free places left to enrol in; take fewer --rounds or --seconds."

Calls = tuple[list[Call], list[Call]]


@dataclass(frozen=True, slots=True)
class Case:
    """`calls(number)` gives the requests of round `number` to the product and to the floor.

    `aim` is the ratio to the floor that is promised. `changing` names what differs between two equal answers. Without
    `cache` it is asked of an API process that keeps no lists. A round takes at least `least_seconds`.
    """

    name: str
    title: str
    floor: str
    aim: float | None
    calls: Callable[[int], Calls]
    changing: frozenset[str] = frozenset()
    cache: bool = True
    least_seconds: float = 0

    @property
    def floor_commands(self) -> int:
        return COMMANDS[self.floor]


class Callers:
    """The active students: each with an address behind the proxy and a token."""

    def __init__(self, system: System) -> None:
        self.world: World = system.world
        self.addresses = [f"10.{n // 250}.{n % 250}.7" for n in range(len(self.world.students))]
        self._keys = KeyRing(system.settings)
        self._tokens: list[str] = []

    def tokens(self) -> list[str]:
        """Fresh once a case, since a whole run lasts longer than an access token."""
        now = datetime.now(UTC)
        pairs = zip(self.world.students, self.world.sessions, strict=True)
        return [self._keys.issue(student, session, "student", 0, now) for student, session in pairs]

    def pairs(self) -> list[tuple[int, str, str]]:
        return list(zip(range(len(self.addresses)), self.addresses, self.tokens(), strict=True))


def cases(system: System, slots: int) -> list[Case]:
    """`slots` is how many enrolments a round may make."""
    callers = Callers(system)
    return [
        Case("null", "nothing: the way through the server", "null", None, _null(callers)),
        Case("list-kept", "list of courses, page of 20, visitor, kept", "list", 3.0, _list(callers)),
        Case("list", "list of courses, pages 1 to 5, nothing kept", "list", 0.8, _lists(callers), cache=False),
        Case("course", "one course with its 20 lessons", "course", 0.8, _course(callers)),
        Case("enrollments", "my enrolments", "enrollments", 0.8, _enrollments(callers)),
        Case("progress", "progress report", "progress", 0.7, _progress(callers), frozenset({"changed_at"})),
        Case("enroll", "enrol", "enroll", 0.7, _enroll(callers, slots), frozenset({"id", "enrolled_at", "course"})),
        Case(
            "login",
            "sign in",
            "login",
            0.9,
            _login(callers),
            frozenset({"access_token", "refresh_token"}),
            least_seconds=8,
        ),
    ]


def _null(callers: Callers) -> Callable[[int], Calls]:
    return lambda _: ([Call("/health/live", address=one) for one in callers.addresses], [Call("/null")])


def _list(callers: Callers) -> Callable[[int], Calls]:
    return lambda _: ([Call(f"{API}/courses", address=one) for one in callers.addresses], [Call("/list/1")])


def _lists(callers: Callers) -> Callable[[int], Calls]:
    """Several pages, so that not everybody asks for the same."""
    pages = [(1 + n % PAGES, address) for n, address in enumerate(callers.addresses)]
    product = [Call(f"{API}/courses?page={page}", address=address) for page, address in pages]
    return lambda _: (product, [Call(f"/list/{page}") for page, _ in pages])


def _course(callers: Callers) -> Callable[[int], Calls]:
    ids = [course["_id"] for course in callers.world.courses]

    def calls(_: int) -> Calls:
        chosen = [(ids[n * 7 % len(ids)], address) for n, address in enumerate(callers.addresses)]
        product = [Call(f"{API}/courses/{course_id}", address=address) for course_id, address in chosen]
        return product, [Call(f"/course/{course_id}") for course_id, _ in chosen]

    return calls


def _enrollments(callers: Callers) -> Callable[[int], Calls]:
    product = [Call(f"{API}/enrollments", address=address, token=token) for _, address, token in callers.pairs()]
    return lambda _: (product, [Call(f"/enrollments/{one}") for one in callers.world.students])


def _progress(callers: Callers) -> Callable[[int], Calls]:
    """Every student watches on in every course; positions grow so that each report changes something."""
    world = callers.world
    pairs = callers.pairs()

    def calls(number: int) -> Calls:
        product: list[Call] = []
        floor: list[Call] = []
        for n, address, token in pairs:
            for step in range(8):
                enrollment_id, course = world.enrollments[n][step % 3]
                lesson = world.courses[course]["lessons"][step]["id"]
                at = 10 * number + step
                body = {"position_seconds": at, "watched": [[at, at + 5]], "device_id": "phone", "sequence": at}
                path = f"{API}/enrollments/{enrollment_id}/lessons/{lesson}/progress"
                product.append(Call(path, "PUT", address, token, body))
                floor.append(Call(f"/progress/{world.students[n]}/{enrollment_id}/{lesson}", "PUT", body=body))
        return _mixed(product), _mixed(floor)

    return calls


def _mixed(calls: list[Call]) -> list[Call]:
    """In an order in which neighbours have nothing to do with each other."""
    step = next(one for one in (2503, 2521) if len(calls) % one)
    return [calls[position * step % len(calls)] for position in range(len(calls))]


def _enroll(callers: Callers, slots: int) -> Callable[[int], Calls]:
    """Each round has places of its own, the product's and the floor's apart."""
    world, pairs = callers.world, callers.pairs()
    # All first places, then all second ones: neighbours are different students.
    places = [(n, free_courses(world.numbers[n])[depth]) for depth in range(150) for n in range(len(pairs))]

    def calls(number: int) -> Calls:
        mine = places[2 * number * slots : 2 * (number + 1) * slots]
        if len(mine) < 2 * slots:
            raise SystemExit(EXHAUSTED)
        product = [
            Call(f"{API}/enrollments", "POST", *pairs[n][1:], {"course_id": str(_course_id(world, index))})
            for n, index in mine[:slots]
        ]
        floor = [
            Call(f"/enroll/{world.students[n]}", "POST", body={"course_id": str(_course_id(world, index))})
            for n, index in mine[slots:]
        ]
        return product, floor

    return calls


def _course_id(world: World, index: int) -> UUID:
    return world.courses[index]["_id"]


def _login(callers: Callers) -> Callable[[int], Calls]:
    def calls(_: int) -> Calls:
        bodies: list[Any] = [{"email": email, "password": PASSWORD} for email in callers.world.emails]
        pairs = zip(callers.addresses, bodies, strict=True)
        product = [Call(f"{API}/auth/login", "POST", address, body=body) for address, body in pairs]
        return product, [Call("/login", "POST", body=body) for body in bodies]

    return calls
