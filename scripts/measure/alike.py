"""Whether the time of an answer tells if an address is known: pairs of requests, by turns, that differ in that only."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import rich_click as click

from lms.ids import new_person_id
from lms.passwords import Passwords
from scripts.measure.seed import PASSWORD
from scripts.measure.world import System, system

LARGEST_DIFFERENCE = 0.05
ENROLLMENTS = 1_500
CHEAP = {
    # At a cost of 12 bcrypt hides what differs; at 4 it takes a millisecond, and the rest shows.
    "LMS_BCRYPT_COST": "4",
    "LMS_RATE_AUTH": "1000000/1",
    "LMS_RATE_SIGN_IN": "1000000/1",
    "LMS_RATE_MAIL": "1000000/1",
    "LMS_RATE_WRITES": "1000000/1",
}
WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Question:
    """What an outsider asks with an address, and how it is answered whether somebody has it or not."""

    name: str
    path: str
    status: int
    body: Callable[[str], dict[str, Any]]


QUESTIONS = (
    Question("sign in", "auth/login", 401, lambda email: {"email": email, "password": "a wrong password"}),
    Question(
        "sign up",
        "auth/register",
        202,
        lambda email: {"email": email, "password": PASSWORD, "full_name": "Sam Okafor"},
    ),
    Question("forgot password", "auth/forgot-password", 202, lambda email: {"email": email}),
    Question("verify again", "auth/verify-email/request", 202, lambda email: {"email": email}),
)


@dataclass(frozen=True, slots=True)
class Alike:
    """Medians in milliseconds, and by how much the larger one is larger."""

    name: str
    pairs: int
    known_ms: float
    unknown_ms: float

    @property
    def difference(self) -> float:
        return max(self.known_ms, self.unknown_ms) / min(self.known_ms, self.unknown_ms) - 1


async def compare(pairs: int) -> list[Alike]:
    """Each address is asked for once in a question, so that no limit for one account shows."""
    async with system(ENROLLMENTS) as running:
        known = await _stored(running, pairs + WARM_UP)
        api = await running.start_api("alike", **CHEAP)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}/api/v1/", timeout=30) as client:
            return [await _compare(client, question, known, pairs) for question in QUESTIONS]


async def _stored(running: System, count: int) -> list[str]:
    """Addresses of so many more people, copies of one who is there, whose password is hashed at the cheap cost."""
    users = running.database["users"]
    one = await users.find_one({"role": "student"})
    if one is None:
        raise SystemExit("Nobody was seeded.")
    passwords = Passwords(running.settings.model_copy(update={"bcrypt_cost": int(CHEAP["LMS_BCRYPT_COST"])}))
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    emails = [f"known-{number}@school.example" for number in range(count)]
    rows = [one | {"_id": new_person_id(), "email": email, "password_hash": hashed} for email in emails]
    await users.insert_many(rows)
    return emails


async def _compare(client: httpx.AsyncClient, question: Question, known: list[str], pairs: int) -> Alike:
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(WARM_UP + pairs):
        emails = {True: known[number], False: f"{question.path[5:]}-{number}@nowhere.example"}
        for is_known in (True, False) if number % 2 else (False, True):
            took = await _ask(client, question, emails[is_known], number * 2 + is_known)
            if number >= WARM_UP:
                times[is_known].append(took * 1000)
    return Alike(question.name, pairs, statistics.median(times[True]), statistics.median(times[False]))


async def _ask(client: httpx.AsyncClient, question: Question, email: str, number: int) -> float:
    # Everybody asks from an address of their own, as far as the limits are concerned.
    headers = {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}
    started = time.perf_counter()
    answer = await client.post(question.path, json=question.body(email), headers=headers)
    took = time.perf_counter() - started
    if answer.status_code != question.status:
        raise SystemExit(f"{question.name}: {answer.status_code} {answer.text}")
    return took


def tell(found: list[Alike]) -> int:
    """Print the table; returns the exit code."""
    click.echo(f"{'question':<18}{'pairs':>7}{'known':>12}{'unknown':>12}{'difference':>13}")
    for one in found:
        times = f"{one.known_ms:>9.2f} ms{one.unknown_ms:>9.2f} ms"
        click.echo(f"{one.name:<18}{one.pairs:>7}{times}{one.difference:>12.1%}")
    return 1 if any(one.difference >= LARGEST_DIFFERENCE for one in found) else 0
