"""The floor: the same server and framework, bare handlers, the same answers by the fewest database commands that can.

No sign-in, no limits, no logs, no metrics, no errors: who asks stands in the address. `COMMANDS` says how many database
commands each answer takes, and the run compares that with what MongoDB counted.
"""

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, get, post, put
from litestar.params import FromPath
from pymongo import AsyncMongoClient, ReturnDocument

from lms.courses.rules import in_order
from lms.enrollments.merging import merge_pipeline
from lms.enrollments.rules import STATES, Report, pins_of
from lms.ids import new_id
from lms.passwords import Passwords
from lms.serving import server_options
from lms.settings import Settings, load_settings
from lms.tokens import KeyRing, RefreshToken

COMMANDS = {
    "null": 0,
    "list": 1,
    "course": 1,
    "enrollments": 1,
    "progress": 1,
    "enroll": 2,
    "login": 2,
}
JSON = "application/json"
Call = Request[Any, Any, Any]
encode = msgspec.json.Encoder().encode


class Floor:
    """What the handlers share."""

    settings: Settings
    passwords: Passwords
    keys: KeyRing
    db: Any


@asynccontextmanager
async def opened(_: Litestar) -> AsyncGenerator[None]:
    Floor.settings = load_settings()
    Floor.passwords, Floor.keys = Passwords(Floor.settings), KeyRing(Floor.settings)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        Floor.settings.mongodb_url, w="majority", tz_aware=True, uuidRepresentation="standard"
    )
    Floor.db = client[Floor.settings.mongodb_database]
    yield
    Floor.passwords.close()
    await client.close()


def answer(body: object, status: int = 200) -> Response[bytes]:
    return Response(encode(body), status_code=status, media_type=JSON)


def moment(time: datetime | None) -> str | None:
    return None if time is None else f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


@get("/null")
async def null() -> Response[bytes]:
    return Response(b'{"status":"ok"}', media_type=JSON)


STATS = {"$lookup": {"from": "course_stats", "localField": "_id", "foreignField": "_id", "as": "stats"}}
HEAD = {"modules": 0, "lessons": 0, "loaded": 0}


def course_head(row: dict[str, Any]) -> dict[str, Any]:
    stats = row["stats"][0] if row["stats"] else {"enrolled": 0, "rating_sum": 0, "rating_count": 0}
    count = stats["rating_count"]
    names = ("title", "slug", "description", "category", "tags", "difficulty_level", "status")
    return {
        "id": row["_id"],
        **{name: row[name] for name in names},
        "is_published": row["status"] == "published",
        "thumbnail_url": row["thumbnail_url"],
        "estimated_duration_minutes": row["estimated_duration_minutes"],
        "instructor_id": row["instructor_id"],
        "co_instructor_ids": row["co_instructor_ids"],
        "metadata": row["metadata"],
        "enrollment_count": stats["enrolled"],
        "average_rating": round(stats["rating_sum"] / count, 2) if count else None,
        "review_count": count,
        "source": row["source"],
        "managed": row["source_id"] is not None,
        "created_at": moment(row["created_at"]),
        "updated_at": moment(row["updated_at"]),
    }


def page(items: list[Any], total: int, number: int = 1) -> dict[str, Any]:
    pages = -(-total // 20)
    return {"items": items, "total": total, "page": number, "page_size": 20, "pages": pages, "total_is_exact": True}


def counted(collection: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The total as one more row of the same command."""
    return {"$unionWith": {"coll": collection, "pipeline": [{"$match": wanted}, {"$limit": 10_001}, {"$count": "n"}]}}


async def rows_of(collection: str, pipeline: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    found = await (await Floor.db[collection].aggregate(pipeline)).to_list()
    return found[:-1], found[-1]["n"]


@get("/list/{number:int}")
async def list_courses(number: FromPath[int]) -> Response[bytes]:
    wanted = {"status": "published"}
    order = {"$sort": {"created_at": -1, "_id": -1}}
    pipeline = [{"$match": wanted}, order, {"$skip": 20 * (number - 1)}, {"$limit": 20}, {"$project": HEAD}, STATS]
    rows, total = await rows_of("courses", [*pipeline, counted("courses", wanted)])
    return answer(page([course_head(row) for row in rows], total, number))


@get("/course/{course_id:uuid}")
async def course(course_id: FromPath[UUID]) -> Response[bytes]:
    shown = {"lessons.content": 0, "loaded": 0}
    pipeline = [{"$match": {"_id": course_id}}, {"$project": shown}, STATS]
    row = (await (await Floor.db["courses"].aggregate(pipeline)).to_list(1))[0]
    modules, lessons = in_order(row["modules"], row["lessons"])
    names = ("id", "module_id", "title", "slug", "content_type", "duration_minutes", "order", "preview", "required")
    outline = {
        "modules": [{name: one[name] for name in ("id", "title", "parent_id", "order")} for one in modules],
        "lessons": [{**{name: one[name] for name in names}, "metadata": one["metadata"]} for one in lessons],
    }
    return answer(course_head(row) | outline)


COURSE_OF = [
    {
        "$lookup": {
            "from": "courses",
            "localField": "course_id",
            "foreignField": "_id",
            "as": "course",
            "pipeline": [{"$project": {"title": 1, "slug": 1, "thumbnail_url": 1, "instructor_id": 1}}],
        }
    },
    {
        "$lookup": {
            "from": "users",
            "localField": "course.instructor_id",
            "foreignField": "_id",
            "as": "instructor",
            "pipeline": [{"$project": {"full_name": 1}}],
        }
    },
]


def enrollment(row: dict[str, Any], head: dict[str, Any], instructor: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["_id"],
        "student_id": row["student_id"],
        "course": {
            "id": head["_id"],
            "title": head["title"],
            "slug": head["slug"],
            "thumbnail_url": head["thumbnail_url"],
            "instructor": {"id": instructor["_id"], "full_name": instructor["full_name"]},
        },
        "status": row["status"],
        "percent": row["percent"],
        "enrolled_at": moment(row["enrolled_at"]),
        "last_activity_at": moment(row["last_activity_at"]),
        "completed_at": moment(row["completed_at"]),
        "grade": row["grade"],
    }


@get("/enrollments/{student_id:uuid}")
async def my_enrollments(student_id: FromPath[UUID]) -> Response[bytes]:
    wanted = {"student_id": student_id}
    order = {"$sort": {"created_at": -1, "_id": -1}}
    pipeline = [{"$match": wanted}, order, {"$limit": 20}, {"$project": {"progress": 0}}, *COURSE_OF]
    rows, total = await rows_of("enrollments", [*pipeline, counted("enrollments", wanted)])
    return answer(page([enrollment(row, row["course"][0], row["instructor"][0]) for row in rows], total))


def shown_progress(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": STATES[entry["state"]],
        "furthest_seconds": entry["furthest"],
        "position_seconds": entry["position"],
        "watched": entry["watched"],
        "data": entry["data"],
        "first_completed_at": moment(entry["first_completed_at"]),
        "required": entry["required"],
        "epoch": entry["epoch"],
    }


@put("/progress/{student_id:uuid}/{enrollment_id:uuid}/{lesson_id:str}")
async def report_progress(
    request: Call, student_id: FromPath[UUID], enrollment_id: FromPath[UUID], lesson_id: FromPath[str]
) -> Response[bytes]:
    told = msgspec.json.decode(await request.body())
    report = Report(
        state=1,
        at=datetime.now(UTC),
        device=told["device_id"],
        sequence=told["sequence"],
        position=told["position_seconds"],
        watched=tuple((start, end) for start, end in told["watched"]),
    )
    row = await Floor.db["enrollments"].find_one_and_update(
        {"_id": enrollment_id, "student_id": student_id},
        merge_pipeline(lesson_id, report),
        projection={f"progress.{lesson_id}": 1, "status": 1, "percent": 1, "completed_at": 1},
        return_document=ReturnDocument.AFTER,
    )
    result = {
        "result": "applied",
        "lesson_id": lesson_id,
        "progress": shown_progress(row["progress"][lesson_id]),
        "status": row["status"],
        "percent": row["percent"],
        "completed_at": moment(row["completed_at"]),
    }
    return answer(result)


@post("/enroll/{student_id:uuid}", status_code=201)
async def enroll(request: Call, student_id: FromPath[UUID]) -> Response[bytes]:
    """One read that knows everything, one insert that the unique index decides."""
    course_id = UUID(msgspec.json.decode(await request.body())["course_id"])
    shown = {"title": 1, "slug": 1, "thumbnail_url": 1, "instructor_id": 1, "lessons.id": 1, "lessons.required": 1}
    shown["lessons.duration_minutes"] = 1
    instructor: dict[str, Any] = {**COURSE_OF[1]["$lookup"], "localField": "instructor_id"}
    pipeline = [{"$match": {"_id": course_id}}, {"$project": shown}, {"$lookup": instructor}]
    head = (await (await Floor.db["courses"].aggregate(pipeline)).to_list(1))[0]
    now = datetime.now(UTC)
    empty = ("last_activity_at", "completed_at", "grade")
    row: dict[str, Any] = {
        "_id": new_id(),
        "student_id": student_id,
        "course_id": course_id,
        "status": "active",
        "percent": 0,
        "progress": pins_of(head["lessons"]),
        "enrolled_at": now,
        "created_at": now,
        "changed_at": now,
        "certificate_issued": False,
        "seq": 0,
        **dict.fromkeys(empty),
    }
    await Floor.db["enrollments"].insert_one(row)
    progress = {lesson_id: shown_progress(entry) for lesson_id, entry in row["progress"].items()}
    return answer(enrollment(row, head, head["instructor"][0]) | {"progress": progress}, 201)


@post("/login", status_code=200)
async def login(request: Call) -> Response[bytes]:
    told = msgspec.json.decode(await request.body())
    user = await Floor.db["users"].find_one({"email": told["email"]})
    if not await Floor.passwords.check(told["password"], user["password_hash"]):
        return answer({}, 401)
    now, family, nonce = datetime.now(UTC), new_id(), secrets.token_urlsafe(16)
    row = {"_id": family, "user_id": user["_id"], "nonce": nonce, "generation": 0, "rotated_at": now, "created_at": now}
    more = {"expires_at": now + timedelta(days=30), "ended_at": None, "user_agent": "", "address": ""}
    await Floor.db["sessions"].insert_one(row | more)
    names = ("email", "full_name", "role", "verified", "locale", "time_zone")
    body = {
        "access_token": Floor.keys.issue(user["_id"], family, user["role"], user["auth_epoch"], now),
        "token_type": "Bearer",
        "expires_in": 900,
        "refresh_token": str(RefreshToken.make(Floor.settings, family, 0, nonce)),
        "refresh_expires_in": 30 * 86_400,
        "user": {"id": user["_id"], **{n: user[n] for n in names}, "created_at": moment(user["created_at"])},
    }
    return answer(body)


def create() -> Litestar:
    handlers = [null, list_courses, course, my_enrollments, report_progress, enroll, login]
    return Litestar(handlers, lifespan=[opened], openapi_config=None, logging_config=None)


def main() -> None:
    options = server_options(load_settings(), host="127.0.0.1", port=int(os.environ["MEASURE_PORT"]))
    # Callers are not told apart here.
    options["proxy_headers"] = False
    uvicorn.run("scripts.measure.floor:create", **options)


if __name__ == "__main__":
    main()
