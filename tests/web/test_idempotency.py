import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.settings import Settings
from lms.tokens import hidden_digest
from lms.web.idempotency import MAX_KEPT_BODY, IdempotencyRecord
from tests.build import a_course
from tests.commands import Commands
from tests.conftest import ClientFor

Database = AsyncDatabase[dict[str, Any]]
KEY = {"Idempotency-Key": "key-1"}


async def test_a_repetition_gets_the_first_answer_to_the_byte(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    first = await client.post("/courses", json={"title": "Tides"}, headers=KEY)
    again = await client.post("/courses", json={"title": "Tides"}, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await Course.count() == 1


async def test_of_parallel_repetitions_one_is_done_and_all_others_say_so(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    sending = (client.post("/courses", json={"title": "Tides"}, headers=KEY) for _ in range(20))
    answers = await asyncio.gather(*sending)
    assert await Course.count() == 1
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    others = {answer.json()["code"] for answer in answers if answer.status_code != 201}
    assert others <= {"idempotency_key_in_use"}


async def test_another_body_is_refused_and_changes_nothing(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    await client.post("/courses", json={"title": "Tides"}, headers=KEY)
    other = await client.post("/courses", json={"title": "Waves"}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["errors"][0]["header"] == "Idempotency-Key"
    assert await Course.count() == 1


async def test_a_key_belongs_to_one_caller_and_one_path(client_for: ClientFor, ivy: User, oscar: User) -> None:
    clients = [await client_for(ivy), await client_for(oscar)]
    made = [await client.post("/courses", json={"title": "Tides"}, headers=KEY) for client in clients]
    module = await clients[0].post(f"/courses/{made[0].json()['id']}/modules", json={"title": "Tides"}, headers=KEY)
    assert [answer.status_code for answer in (*made, module)] == [201, 201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]


async def test_a_refusal_is_kept_as_it_was(client_for: ClientFor, sam: User, ivy: User, course: Course) -> None:
    client = await client_for(sam)
    gone = {"course_id": "0190a3e4-7b1c-7d2e-8f3a-4b5c6d7e8f90"}
    first = await client.post("/enrollments", json=gone, headers=KEY)
    await a_course(ivy.id, "Another").insert()
    again = await client.post("/enrollments", json=gone, headers=KEY)
    assert (first.status_code, again.status_code) == (404, 404)
    assert again.content == first.content
    assert again.headers["content-type"] == "application/problem+json"


async def test_a_forbidden_or_broken_request_is_not_kept(client_for: ClientFor, sam: User, database: Database) -> None:
    client = await client_for(sam)
    assert (await client.post("/courses", json={"title": "Mine"}, headers=KEY)).status_code == 403
    assert (await client.post("/enrollments", json={}, headers=KEY)).status_code == 422
    assert await IdempotencyRecord.count() == 0


async def test_the_record_is_written_with_the_effect_and_kept_for_a_day(
    client_for: ClientFor, ivy: User, commands: Commands
) -> None:
    client = await client_for(ivy)
    commands.seen.clear()
    await client.post("/courses", json={"title": "Tides"}, headers=KEY)
    inserts = [command for name, command in commands.seen if name == "insert"]
    assert {"courses", "idempotency"} <= {command["insert"] for command in inserts}
    assert len({(command["lsid"]["id"], command["txnNumber"]) for command in inserts}) == 1
    assert all(command["autocommit"] is False for command in inserts)
    record = await IdempotencyRecord.find_one()
    assert record is not None
    assert timedelta(hours=23, minutes=59) < record.expires_at - utc_now() <= timedelta(hours=24)


async def test_while_the_first_request_runs_a_second_one_is_told_to_wait(
    client_for: ClientFor, ivy: User, database: Database
) -> None:
    """The first one's transaction is held open here, as a slow one would be."""
    client = await client_for(ivy)
    await client.post("/courses", json={"title": "Tides"}, headers=KEY)
    record = await database["idempotency"].find_one_and_delete({})
    assert record is not None
    async with database.client.start_session() as session:
        await session.start_transaction()
        await database["idempotency"].insert_one(record, session=session)
        waiting = await client.post("/courses", json={"title": "Tides"}, headers=KEY)
        await session.abort_transaction()
    assert (waiting.status_code, waiting.json()["code"]) == (409, "idempotency_key_in_use")
    assert waiting.headers["retry-after"] == "1"
    assert await Course.count() == 1


async def test_an_answer_too_large_to_keep_says_that_it_was_done(
    client_for: ClientFor, ivy: User, course: Course
) -> None:
    client = await client_for(ivy)
    body = {"title": "Long", "content": "x" * MAX_KEPT_BODY}
    first = await client.post(f"/courses/{course.id}/lessons", json=body, headers=KEY)
    again = await client.post(f"/courses/{course.id}/lessons", json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.json()["code"] == "answer_not_kept"
    assert again.json()["location"] == again.headers["location"] == first.headers["location"]
    assert len((await client.get(f"/courses/{course.id}")).json()["lessons"]) == 3


async def test_a_body_with_a_password_cannot_be_guessed_from_what_is_kept(
    client_for: ClientFor, ivy: User, settings: Settings
) -> None:
    body = b'{"title": "Tides"}'
    client = await client_for(ivy)
    json = {"Content-Type": "application/json"}
    assert (await client.post("/courses", content=body, headers=KEY | json)).status_code == 201
    (kept,) = await IdempotencyRecord.find_all().to_list()
    assert kept.body_hash == hidden_digest(settings, body)
    another = settings.model_copy(update={"secret_key": type(settings.secret_key)("another key " * 3)})
    assert kept.body_hash not in {hidden_digest(another, body), hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
async def test_a_key_that_is_none_is_refused(client_for: ClientFor, ivy: User, key: str) -> None:
    client = await client_for(ivy)
    answer = await client.post("/courses", json={"title": "T"}, headers=[(b"Idempotency-Key", key.encode())])
    assert (answer.status_code, answer.json()["errors"][0]["header"]) == (422, "Idempotency-Key")
