"""Promise 10, and clean 503s: what the API says and does while MongoDB is stopped or frozen."""

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from lms.embedded import start_mongod
from tests.promises.journey import a_school, ask_everything
from tests.promises.system import a_system, eventually
from tests.servers import SmtpSink
from tests.web.shape import check_shape

SECONDS = 1.0


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_without_mongodb_answers_are_clean_503s_in_time_and_all_of_it_recovers(
    app: Litestar, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path, fault: str
) -> None:
    mongod = await start_mongod(tmp_path / "mongodb")
    more = {"LMS_SMTP_URL": smtp_sink.url, "LMS_MONGODB_TIMEOUT_SECONDS": str(SECONDS), "LMS_JOB_TIMEOUT_SECONDS": "1"}
    async with a_system(tmp_path, mongod.url, redis_url, **more) as (system, database):
        school = await a_school(system, database)
        api, worker = await asyncio.gather(system.start("serve"), system.start("worker"))
        async with httpx.AsyncClient(base_url=api.health, timeout=20) as client:
            assert {answer.is_success for answer in await ask_everything(client, school)} == {True}
            await smtp_sink.wait_for(2)
            if fault == "stopped":
                await mongod.stop()
            else:
                mongod.process.send_signal(signal.SIGSTOP)
            answers = await ask_everything(client, school)
            refused = [answer for answer in answers if not answer.is_success]
            assert len(refused) >= 6
            for answer in refused:
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
                assert answer.elapsed.total_seconds() < 2 * SECONDS + 1
                check_shape(answer)
            for process in (api, worker):
                assert not await process.is_ready()
            for path, status in (("/health/live", 200), ("/health/ready", 503)):
                asked = time.monotonic()
                told = await client.get(path)
                assert (told.status_code, time.monotonic() - asked < 1.0) == (status, True), told.text
            assert told.json()["parts"]["mongodb"]["status"] == "down"
            if fault == "stopped":
                mongod = await start_mongod(tmp_path / "mongodb", port=mongod.port)
            else:
                mongod.process.send_signal(signal.SIGCONT)
            for process in (api, worker):
                await eventually(process.is_ready)
            mails = len(smtp_sink.messages)
            assert {answer.is_success for answer in await ask_everything(client, school)} == {True}
            await smtp_sink.wait_for(mails + 2)
        assert await api.terminate() == 0
        assert await worker.terminate() == 0
    await mongod.stop()
