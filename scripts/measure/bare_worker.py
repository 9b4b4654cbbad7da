"""The floor of jobs: stock taskiq on stock Redis streams, the same certificate and mail, nothing guaranteed."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uvloop
from pymongo import AsyncMongoClient
from taskiq.receiver import Receiver
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisStreamBroker

from lms import letters
from lms.certificates.numbers import number_of
from lms.certificates.pdf import CertificateText, load_fonts, render_pdf
from lms.mail import Attachment, Mail, Mailer
from lms.settings import load_settings

COMMANDS = 4
"""For one certificate and its mail: read all that it says, store it and its PDF, read both for the mail."""

settings = load_settings()
broker = RedisStreamBroker(
    settings.redis_url, queue_name="bare", consumer_group_name="bare", consumer_id="0", socket_timeout=None
).with_serializer(JSONSerializer())
fonts = load_fonts()
mailer = Mailer(settings)
client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
    settings.mongodb_url, w="majority", tz_aware=True, uuidRepresentation="standard"
)
db = client[settings.mongodb_database]


def joined(collection: str, field: str, name: str) -> dict[str, Any]:
    shown = [{"$project": {"lessons": 0, "modules": 0}}]
    return {"$lookup": {"from": collection, "localField": field, "foreignField": "_id", "as": name, "pipeline": shown}}


@broker.task("certificate")
async def certificate(enrollment_id: str) -> None:
    pipeline = [
        {"$match": {"_id": UUID(enrollment_id)}},
        {"$project": {"progress": 0}},
        joined("users", "student_id", "student"),
        joined("courses", "course_id", "course"),
        joined("users", "course.instructor_id", "instructor"),
    ]
    row = (await (await db["enrollments"].aggregate(pipeline)).to_list(1))[0]
    number, now = number_of(row["_id"]), datetime.now(UTC)
    facts = {
        "name": row["student"][0]["full_name"],
        "course_title": row["course"][0]["title"],
        "number": number,
        "issuer": settings.school_name,
    }
    text = CertificateText(
        **facts,
        issued_on=now,
        verify_url=f"{settings.public_url}/verify/{number}",
        instructor=row["instructor"][0]["full_name"],
    )
    pdf = await asyncio.to_thread(render_pdf, text, fonts)
    await db["bare_certificates"].insert_one({"_id": row["_id"], "student_id": row["student_id"], **facts})
    await db["bare_pdfs"].insert_one({"_id": row["_id"], "content": pdf})
    await mail.kiq(enrollment_id)


@broker.task("mail")
async def mail(certificate_id: str) -> None:
    pipeline = [
        {"$match": {"_id": UUID(certificate_id)}},
        joined("bare_pdfs", "_id", "pdf"),
        joined("users", "student_id", "student"),
    ]
    row = (await (await db["bare_certificates"].aggregate(pipeline)).to_list(1))[0]
    url = f"{settings.public_url}/verify/{row['number']}"
    letter = letters.certificate_issued(row["name"], row["issuer"], row["course_title"], row["number"], url)
    attachment = Attachment("certificate.pdf", "application/pdf", row["pdf"][0]["content"])
    await mailer.send(
        Mail(
            to=row["student"][0]["email"],
            subject=letter.subject,
            text=letter.as_text(),
            html=letter.as_html(),
            attachments=(attachment,),
            message_id=f"<{certificate_id}@bare.example>",
        )
    )


async def work() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker.is_worker_process = True
    await broker.startup()
    with ThreadPoolExecutor(1) as executor:
        receiver = Receiver(broker, executor=executor, max_async_tasks=settings.worker_concurrency, run_startup=False)
        await receiver.listen(stop)
    await broker.shutdown()


if __name__ == "__main__":
    # As taskiq's own command does where it is installed.
    uvloop.run(work())
