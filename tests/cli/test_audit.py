import json
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.clock import utc_now
from lms.settings import Settings
from tests.audit.acts import act, append_all
from tests.cli.conftest import Command

Database = AsyncDatabase[dict[str, Any]]


async def head(settings: Settings, acts: int) -> str:
    for _ in range(acts):
        await act()
    last = (await append_all(settings))[-1]
    return f"{last.id}:{last.hash}"


async def test_a_log_that_is_whole_tells_its_head(lms: Command, database: Database, settings: Settings) -> None:
    expected = await head(settings, 3)
    result = await lms("audit", "verify")
    assert (result.exit_code, result.output) == (0, f"The audit log is whole. Its head is {expected}\n")
    assert (await lms("audit", "verify", "--expect", expected)).exit_code == 0
    as_json = await lms("audit", "verify", "--json")
    assert json.loads(as_json.output) == {"head": expected, "faults": 0, "first_faults": [], "waiting": 0}


async def test_tampering_is_told_entry_by_entry(lms: Command, database: Database, settings: Settings) -> None:
    expected = await head(settings, 30)
    await database["audit"].delete_one({"_id": 30})
    await database["audit"].update_many({"_id": {"$gt": 5}}, {"$set": {"actor": "nobody"}})
    result = await lms("audit", "verify", "--expect", expected)
    lines = result.stderr.splitlines()
    assert (result.exit_code, lines[0], lines[-1]) == (1, "entry 6 was changed", "and 5 more")
    assert len(lines) == 21
    as_json = json.loads((await lms("audit", "verify", "--expect", expected, "--json")).output)
    assert (as_json["faults"], as_json["first_faults"][0]) == (25, {"sequence": 6, "problem": "was changed"})


async def test_what_no_worker_has_written_down_is_told(lms: Command, database: Database, settings: Settings) -> None:
    await head(settings, 1)
    await act()
    assert (await lms("audit", "verify")).exit_code == 0
    await database["outbox"].update_one({}, {"$set": {"created_at": utc_now() - timedelta(minutes=2)}})
    result = await lms("audit", "verify")
    assert result.exit_code == 1
    assert result.stderr == "1 acts wait to be written down for more than a minute; is a worker running?\n"
    assert json.loads((await lms("audit", "verify", "--json")).output)["waiting"] == 1


@pytest.mark.parametrize("text", ["5", "5:", "x:" + "0" * 64, f"5:{'0' * 63}"])
async def test_what_is_no_head_is_refused(lms: Command, database: Database, text: str) -> None:
    result = await lms("audit", "verify", "--expect", text)
    assert result.exit_code == 2
    assert "is a number, a colon, and 64 hexadecimal digits" in " ".join(result.output.replace("│", "").split())
