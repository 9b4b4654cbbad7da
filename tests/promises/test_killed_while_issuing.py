"""Promises 1 and 2: `kill -9` of the worker at every stage between a completed course and its mail."""

import sys
from pathlib import Path

import pytest
from litestar import Litestar

from lms.embedded import start_mongod
from tests.promises.faults import a_wire, blocked
from tests.promises.issuing import (
    SHORT_LEASES,
    check_issued_once,
    mail_event,
    nothing_held,
    row_of,
    somebody_is_done,
)
from tests.promises.system import a_system, eventually
from tests.servers import SmtpSink


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a test block a file")
async def test_while_it_prints_the_certificate(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url, "LMS_CERTIFICATE_FONTS": str(fonts)}
    async with a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database):
        done = await somebody_is_done(database)
        async with blocked(fonts / "stuck.ttf") as file:
            worker = await system.start("worker", wait=False)
            await file.somebody_waits()
            await worker.kill()
        assert (await row_of(database, done.event))["attempts"] == 1
        assert await database["certificates"].count_documents({}) == 0
        await system.start("worker")
        await check_issued_once(database, done, smtp_sink)


async def test_with_everything_written_but_the_commit(
    app: Litestar, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    mongod = await start_mongod(tmp_path / "mongodb")
    async with a_wire(mongod.url) as wire:
        more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
        async with a_system(tmp_path, mongod.url, redis_url, **more) as (system, database):
            # MongoDB keeps a dead client's transaction, with its locks, for a minute by itself.
            await database.client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": 3})
            done = await somebody_is_done(database)
            wire.hold("commitTransaction")
            worker = await system.start("worker", LMS_MONGODB_URL=wire.url)
            await wire.holds()
            await worker.kill()
            assert await database["certificates"].count_documents({}) == 0
            await system.start("worker")
            await check_issued_once(database, done, smtp_sink)
    await mongod.stop()


async def test_with_the_commit_on_its_way_back(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
    async with (
        a_wire(mongodb_url) as wire,
        a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database),
    ):
        done = await somebody_is_done(database)
        wire.hold("commitTransaction", answer=True)
        worker = await system.start("worker", LMS_MONGODB_URL=wire.url)
        await wire.holds()
        # The certificate is there and its own event is done, which the worker does not know yet.
        await mail_event(database)
        assert (await row_of(database, done.event))["kind"] == "certificate.issued"
        await worker.kill()
        await system.start("worker")
        await check_issued_once(database, done, smtp_sink)


async def test_while_the_mail_goes_out(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
    async with a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database):
        done = await somebody_is_done(database)
        smtp_sink.stall_before_reply()
        worker = await system.start("worker")
        (unanswered,) = await smtp_sink.wait_for_held(1)
        await worker.kill()
        await eventually(lambda: nothing_held(smtp_sink))
        smtp_sink.release()
        await system.start("worker")
        mails = await check_issued_once(database, done, smtp_sink)
        assert mails[0]["Message-ID"] == unanswered["Message-ID"]


async def test_between_the_delivery_and_its_record(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
    async with a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database):
        done = await somebody_is_done(database)
        smtp_sink.stall_before_reply()
        worker = await system.start("worker")
        await smtp_sink.wait_for_held(1)
        worker.freeze()
        smtp_sink.release()
        await smtp_sink.wait_for(1)
        await worker.kill()
        assert (await mail_event(database))["attempts"] == 1
        await system.start("worker")
        # Nobody can know whether the first one went out, so it goes out again, and whoever reads it can tell.
        assert len(await check_issued_once(database, done, smtp_sink)) >= 2


async def test_frozen_for_longer_than_its_lease_it_finds_the_work_done(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
    async with (
        a_wire(mongodb_url) as wire,
        a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database),
    ):
        done = await somebody_is_done(database)
        # The certificate is printed, and the first write of the transaction is on its way.
        wire.hold("insert")
        frozen = await system.start("worker", LMS_MONGODB_URL=wire.url)
        await wire.holds()
        frozen.freeze()
        other = await system.start("worker")
        await check_issued_once(database, done, smtp_sink)
        wire.release()
        frozen.go_on()
        assert await frozen.terminate() == 0
        assert await other.terminate() == 0
        await check_issued_once(database, done, smtp_sink)
