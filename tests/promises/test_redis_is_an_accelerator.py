"""DESIGN section 3: without Redis every route still answers, and nothing that waited for it is lost."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from lms.embedded import start_valkey
from tests.promises.journey import a_school, ask_everything
from tests.promises.system import a_system, eventually
from tests.servers import SmtpSink


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_without_redis_nothing_fails_and_all_of_it_recovers(
    app: Litestar, mongodb_url: str, smtp_sink: SmtpSink, tmp_path: Path, fault: str
) -> None:
    valkey = await start_valkey(tmp_path / "valkey")
    more = {"LMS_SMTP_URL": smtp_sink.url, "LMS_JOB_TIMEOUT_SECONDS": "1"}
    async with a_system(tmp_path, mongodb_url, valkey.url, **more) as (system, database):
        school = await a_school(system, database)
        api, worker = await asyncio.gather(system.start("serve"), system.start("worker"))
        async with httpx.AsyncClient(base_url=api.health, timeout=20) as client:
            assert {answer.is_success for answer in await ask_everything(client, school)} == {True}
            await smtp_sink.wait_for(2)
            if fault == "stopped":
                await valkey.stop()
            else:
                valkey.process.send_signal(signal.SIGSTOP)
            answers = await ask_everything(client, school)
            assert [(answer.url.path, answer.status_code) for answer in answers if not answer.is_success] == []
            told = await client.get("/health/ready")
            assert (told.status_code, told.json()["status"]) == (200, "degraded")
            assert told.json()["parts"]["redis"]["status"] == "down"
            waiting = len(smtp_sink.messages)
            if fault == "stopped":
                valkey = await start_valkey(tmp_path / "valkey", port=valkey.port)
            else:
                valkey.process.send_signal(signal.SIGCONT)
            # The welcome and the certificate of whoever came meanwhile.
            await smtp_sink.wait_for(waiting + 2, timeout=40)

            async def is_well() -> bool:
                return (await client.get("/health/ready")).json()["status"] == "ok"

            await eventually(is_well)
            assert {answer.is_success for answer in await ask_everything(client, school)} == {True}
            await smtp_sink.wait_for(waiting + 4)
        assert await database["certificates"].count_documents({}) == 3
        assert await worker.terminate() == 0
    await valkey.stop()
