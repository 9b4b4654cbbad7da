"""Promise 3, over HTTP: the same reports of three devices in any order, however often, end in the same state.

The law itself is a property test in `tests/enrollments/test_rules.py`, also against MongoDB in `test_merging.py` there.
"""

import asyncio
import random
from typing import Any

from lms.accounts.documents import Role, User
from lms.clock import utc_now
from lms.courses.documents import Course
from tests.build import a_user
from tests.conftest import ClientFor

NOW = utc_now().isoformat()
REPORTS: list[dict[str, Any]] = [
    {"position_seconds": 40, "watched": [[0, 40]], "device_id": "phone", "sequence": 1, "occurred_at": NOW},
    {"position_seconds": 10, "device_id": "phone", "sequence": 2, "occurred_at": NOW},
    {"watched": [[30, 90], [100, 120]], "device_id": "tablet", "sequence": 1, "occurred_at": NOW},
    {"state": "completed", "device_id": "tablet", "sequence": 2, "occurred_at": NOW},
    {"state": "in_progress", "data": {"page": 3}, "device_id": "laptop", "sequence": 1, "occurred_at": NOW},
]


async def test_any_order_and_any_repetition_end_the_same(client_for: ClientFor, course: Course) -> None:
    ends: list[dict[str, Any]] = []
    for seed in range(6):
        student: User = await a_user(f"Student {seed}", Role.STUDENT).insert()
        client = await client_for(student)
        enrollment = (await client.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
        path = f"/enrollments/{enrollment}/lessons/{course.lessons[0].id}/progress"
        chance = random.Random(seed)  # noqa: S311 - the same order in every run
        sent = chance.choices(REPORTS, k=5) + chance.sample(REPORTS, k=5)
        if seed % 2:
            await asyncio.gather(*(client.put(path, json=report) for report in sent))
        else:
            for report in sent:
                await client.put(path, json=report)
        ends.append((await client.get(f"/enrollments/{enrollment}")).json()["progress"][course.lessons[0].id])
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["state"], ends[0]["furthest_seconds"]) == ("completed", 120)
    assert ends[0]["watched"] == [[0, 90], [100, 120]]
