"""The harness itself: the mail sink takes, holds and refuses as it is told; the quick tier starts no server."""

import asyncio
import os
import socket
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.servers import SmtpSink


def a_mail(subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "school@lms.example", "sam@lms.example", subject
    mail.set_content("Hello Sam")
    return mail


async def send(sink: SmtpSink, subject: str) -> None:
    await aiosmtplib.send(a_mail(subject), hostname="127.0.0.1", port=sink.port, start_tls=False, timeout=5)


async def test_the_sink_keeps_mails_in_order(smtp_sink: SmtpSink) -> None:
    waiting = asyncio.create_task(smtp_sink.wait_for(2))
    await send(smtp_sink, "First")
    await send(smtp_sink, "Second")
    assert [mail["Subject"] for mail in await waiting] == ["First", "Second"]
    assert smtp_sink.messages[0].get_content().strip() == "Hello Sam"
    assert smtp_sink.url == f"smtp://127.0.0.1:{smtp_sink.port}"


async def test_waiting_for_a_mail_that_does_not_come_ends(smtp_sink: SmtpSink) -> None:
    with pytest.raises(TimeoutError):
        await smtp_sink.wait_for(1, timeout=0.05)


async def test_a_stalled_sink_answers_when_it_is_released(smtp_sink: SmtpSink) -> None:
    smtp_sink.stall_before_reply()
    sending = asyncio.create_task(send(smtp_sink, "Held"))
    assert [mail["Subject"] for mail in await smtp_sink.wait_for_held(1)] == ["Held"]
    assert smtp_sink.messages == []
    assert not sending.done()
    smtp_sink.release()
    await sending
    assert len(smtp_sink.messages) == 1
    assert smtp_sink.held == []


async def test_a_stalled_sink_forgets_the_mail_of_a_sender_who_went_away(smtp_sink: SmtpSink) -> None:
    smtp_sink.stall_before_reply()
    sending = asyncio.create_task(send(smtp_sink, "Lost"))
    await smtp_sink.wait_for_held(1)
    sending.cancel()
    await asyncio.wait({sending})
    async with asyncio.timeout(5):
        while smtp_sink.held:  # noqa: ASYNC110 - the connection's end is the server's to notice
            await asyncio.sleep(0.01)
    smtp_sink.release()
    assert smtp_sink.messages == []


@pytest.mark.parametrize("reply", ["451 4.3.0 Try again later", "550 5.7.1 Not this one"])
async def test_a_sink_refuses_what_comes_until_it_accepts_again(smtp_sink: SmtpSink, reply: str) -> None:
    smtp_sink.refuse(reply)
    with pytest.raises(aiosmtplib.SMTPDataError) as refused:
        await send(smtp_sink, "Refused")
    assert f"{refused.value.code} {refused.value.message}" == reply
    smtp_sink.accept()
    await send(smtp_sink, "Taken")
    assert [mail["Subject"] for mail in smtp_sink.messages] == ["Taken"]


async def test_a_sink_refuses_recipients(smtp_sink: SmtpSink) -> None:
    smtp_sink.refuse("550 5.1.1 Nobody here", at="RCPT")
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await send(smtp_sink, "Refused")


SUITE = """
import os, pathlib, uuid, pytest

def note(text):
    pathlib.Path(os.environ["SEEN"], uuid.uuid4().hex).write_text(text)

@pytest.mark.quick
@pytest.mark.parametrize("n", range(4))
def test_without(n):
    note(" ".join(name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("lms-tests-")))

@pytest.mark.parametrize("n", range(4))
def test_with(mongodb_url, redis_url, n):
    note(f"{mongodb_url} {redis_url}")
"""


def run_suite(folder: Path, *arguments: str) -> tuple[set[str], list[str]]:
    """What the tests of `SUITE` noted, and what the session left in its folder for temporary files."""
    seen, temporary = folder / "seen", folder / "temporary"
    for one in (seen, temporary):
        one.mkdir()
    (folder / "test_suite.py").write_text(SUITE)
    options = ["-p", "tests.servers", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(temporary), "SEEN": str(seen)}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "LMS_"))} | paths
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments, str(folder / "test_suite.py")],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = [one.name for one in temporary.iterdir() if not one.name.startswith("pytest-of-")]
    return {one.read_text() for one in seen.iterdir()}, left


def test_the_quick_tier_starts_no_server(tmp_path: Path) -> None:
    noted, left = run_suite(tmp_path, "-n", "2", "-m", "quick")
    assert noted == {""}
    assert left == []


def test_all_workers_share_servers_that_end_with_the_session(tmp_path: Path) -> None:
    noted, left = run_suite(tmp_path, "-n", "2", "-k", "test_with and not without")
    [urls] = noted
    assert left == []
    for url in urls.split():
        host, port = url.partition("//")[2].partition("/")[0].split(":")
        with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
            pytest.fail(f"{url} still answers")
