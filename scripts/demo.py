"""A learner's whole journey against a throw-away system: real servers, real processes, real HTTP, real SMTP.

Every step checks its outcome; the first one that is not right ends the demo with exit code 1. The certificates stay in
`.lms/demo/`.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pypdfium2
import zxingcpp
from aiosmtpd.smtp import SMTP, Envelope, Session

from lms.embedded import free_port, start_mongod, start_valkey

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".lms" / "demo"
COURSES = ROOT / "lms" / "demo" / "courses"
PASSWORD = "correct horse battery"  # noqa: S105 - of people who exist for a minute
LEARNERS = {
    "latin": "José Ñandú Łukasiewicz",
    "arabic": "محمد عبد الله",
    "chinese": "王小明",
    "devanagari": "अनुष्का शर्मा",
    "seventy": "Wolfeschlegelsteinhausenbergerdorff Maximiliana Featherstone-Haughton",
}
WAIT_SECONDS = 30.0


class DemoFailed(Exception):
    """A step's outcome is not what it must be."""


def check(condition: object, what: str) -> None:
    if not condition:
        raise DemoFailed(what)


class Inbox:
    """The SMTP server of the demo, with everything it was sent."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._arrived = asyncio.Condition()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        _ = server, session
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self.mails.append(message_from_bytes(content, policy=policy.default))
        async with self._arrived:
            self._arrived.notify_all()
        return "250 Message accepted"

    async def wait_for(self, recipient: str, subject: str) -> EmailMessage:
        def found() -> EmailMessage | None:
            return next((m for m in self.mails if m["To"] == recipient and subject in str(m["Subject"])), None)

        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: found() is not None)
        mail = found()
        check(mail, f"no mail {subject!r} for {recipient}")
        return mail or EmailMessage()


class Demo:
    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self.stack = stack
        self.directory = directory
        self.inbox = Inbox()
        self.environ: dict[str, str] = {}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.http = httpx.AsyncClient()
        self.base = ""
        self.course: dict[str, Any] = {}

    async def start_servers(self) -> str:
        mongod = await start_mongod(self.directory / "mongodb")
        self.stack.push_async_callback(mongod.stop)
        valkey = await start_valkey(self.directory / "valkey")
        self.stack.push_async_callback(valkey.stop)
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(lambda: SMTP(self.inbox, loop=loop), "127.0.0.1", 0)
        self.stack.callback(smtp.close)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "LMS_DATA_DIR": str(self.directory),
            "LMS_MONGODB_URL": mongod.url,
            "LMS_REDIS_URL": valkey.url,
            "LMS_SMTP_URL": f"smtp://127.0.0.1:{smtp.sockets[0].getsockname()[1]}",
            "LMS_PUBLIC_URL": self.base,
            "LMS_RATE_AUTH": "1000/60",
            "LMS_RATE_SIGN_IN": "1000/60",
            "LMS_RATE_WRITES": "10000/60",
        }
        return f"MongoDB, Valkey and SMTP run on the loopback address, data in {self.directory}"

    async def migrate(self) -> str:
        first, again = await self.lms("migrate"), await self.lms("migrate")
        check(again.strip() == "Nothing to do.", f"a second migration did something: {again}")
        return f"{len(first.splitlines())} indexes; a second run has nothing to do"

    async def start_processes(self) -> str:
        port = self.base.rpartition(":")[2]
        for name, arguments in {
            "api": ("serve", "--port", port, "--workers", "2"),
            "worker": ("worker",),
            "scheduler": ("scheduler",),
        }.items():
            self.processes[name] = await self.spawn(*arguments, log=self.directory / f"{name}.log")
            self.stack.push_async_callback(self.kill, self.processes[name])
        self.http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.base, timeout=15))
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.is_ready():  # noqa: ASYNC110 - another process, which sets no event here
                await asyncio.sleep(0.05)
        return f"API (2 processes), worker and scheduler are ready at {self.base}"

    async def is_ready(self) -> bool:
        try:
            return (await self.http.get("/health/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def create_admin(self) -> str:
        arguments = ("--email", "ada@school.example", "--full-name", "Ada Okafor", "--password-stdin")
        await self.lms("users", "create-admin", *arguments, stdin=PASSWORD)
        return "the first administrator comes from the command line"

    async def load_courses(self) -> str:
        shown = await self.lms("load", str(COURSES), "--dry-run")
        check(shown.count("would be created") == 3, shown)  # noqa: PLR2004
        check((await self.api("GET", "/courses")).json()["total"] == 0, "a dry run wrote something")
        first = await self.lms("load", str(COURSES), "--publish")
        check("3 courses, 3 written" in first, first)
        again = await self.lms("load", str(COURSES), "--publish")
        check("3 courses, 0 written" in again, again)
        listed = (await self.api("GET", "/courses", params={"sort": "title"})).json()["items"]
        check(len(listed) == 3, f"{len(listed)} courses are listed")  # noqa: PLR2004
        found = [(await self.api("GET", f"/courses/{one['id']}")).json() for one in listed]
        self.course = min(found, key=lambda course: len(course["lessons"]))
        return f"3 courses with {sum(len(one['lessons']) for one in found)} lessons; loading again writes nothing"

    async def visit(self) -> str:
        lessons = self.course["lessons"]
        preview = next(lesson for lesson in lessons if lesson["preview"])
        closed = next(lesson for lesson in lessons if not lesson["preview"])
        path = f"/courses/{self.course['id']}/lessons"
        opened = await self.api("GET", f"{path}/{preview['id']}")
        check(opened.status_code == httpx.codes.OK and opened.json()["content"], "the preview lesson cannot be read")
        refused = await self.api("GET", f"{path}/{closed['id']}")
        check(refused.status_code == httpx.codes.UNAUTHORIZED, "a visitor reads what is for students")
        again = await self.api("GET", f"/courses/{self.course['id']}")
        fresh = await self.api("GET", f"/courses/{self.course['id']}", headers={"If-None-Match": again.headers["etag"]})
        check(fresh.status_code == httpx.codes.NOT_MODIFIED, "an unchanged course is sent again")
        return "the preview lesson is open, the others are not, an unchanged course is 304"

    async def learn(self, script: str, name: str) -> str:
        email = f"{script}@school.example"
        token = await self.sign_up(email, name)
        signed_in = {"Authorization": f"Bearer {token}"}
        enrollment = await self.enroll(signed_in)
        await self.study(enrollment, signed_in)
        mail = await self.inbox.wait_for(email, "Your certificate")
        pdf = await self.check_certificate(mail, enrollment, name, signed_in)
        KEPT.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread((KEPT / f"{script}.pdf").write_bytes, pdf)
        await self.sign_out(signed_in)
        return f"{name} signed up, finished, and has a certificate: {(KEPT / f'{script}.pdf').relative_to(ROOT)}"

    async def sign_up(self, email: str, name: str) -> str:
        data = {"email": email, "password": PASSWORD, "full_name": name}
        for _ in range(2):
            answer = await self.api("POST", "/auth/register", json=data)
            check(answer.status_code == httpx.codes.ACCEPTED, f"register: {answer.text}")
        await self.inbox.wait_for(email, "Welcome")
        await self.inbox.wait_for(email, "already have an account")
        answer = await self.api("POST", "/auth/login", json={"email": email, "password": PASSWORD})
        check(answer.status_code == httpx.codes.OK, f"login: {answer.text}")
        refreshed = await self.api("POST", "/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]})
        check(refreshed.status_code == httpx.codes.OK, f"refresh: {refreshed.text}")
        return str(refreshed.json()["access_token"])

    async def enroll(self, signed_in: dict[str, str]) -> dict[str, Any]:
        body = {"course_id": self.course["id"]}
        key = signed_in | {"Idempotency-Key": "demo-enrolment"}
        first = await self.api("POST", "/enrollments", json=body, headers=key)
        check(first.status_code == httpx.codes.CREATED, f"enrol: {first.text}")
        repeated = await self.api("POST", "/enrollments", json=body, headers=key)
        check(repeated.json() == first.json(), "a repeated request is not answered as the first one")
        second = await self.api("POST", "/enrollments", json=body, headers=signed_in)
        check(second.status_code == httpx.codes.CONFLICT, "somebody is enrolled twice")
        check(second.json()["enrollment_id"] == first.json()["id"], "the 409 names another enrolment")
        return first.json()

    async def study(self, enrollment: dict[str, Any], signed_in: dict[str, str]) -> None:
        required = [lesson["id"] for lesson in self.course["lessons"] if lesson["required"]]
        path = f"/enrollments/{enrollment['id']}/lessons"
        for position, device in ((60, "laptop"), (20, "phone")):
            report = {"position_seconds": position, "watched": [[0, position]], "device_id": device}
            answer = await self.api("PUT", f"{path}/{required[0]}/progress", json=report, headers=signed_in)
        check(answer.json()["progress"]["furthest_seconds"] == 60, "progress went backwards")  # noqa: PLR2004
        for lesson in required[:-1]:
            answer = await self.api("POST", f"{path}/{lesson}/complete", headers=signed_in)
            check(answer.json()["status"] == "active", f"complete: {answer.text}")
        last = [self.api("POST", f"{path}/{required[-1]}/complete", headers=signed_in) for _ in range(5)]
        answers = await asyncio.gather(*last)
        check({one.json()["status"] for one in answers} == {"completed"}, "the course does not complete")

    async def check_certificate(
        self, mail: EmailMessage, enrollment: dict[str, Any], name: str, signed_in: dict[str, str]
    ) -> bytes:
        attachment = next(iter(mail.iter_attachments()))
        pdf: bytes = attachment.get_content()
        url = await asyncio.to_thread(read_certificate, pdf, self.course["title"])
        check(url.startswith(f"{self.base}/verify/"), f"the QR code says {url}")
        verified = await self.http.get(url, headers={"Accept": "application/json"})
        facts = verified.json()
        check((facts["status"], facts["name"]) == ("valid", name), f"verify: {verified.text}")
        check(facts["course_title"] == self.course["title"], f"verify: {verified.text}")
        page = await self.http.get(url, headers={"Accept": "text/html"})
        check(name in page.text and "is valid" in page.text, "the page does not say that the certificate is valid")
        listed = (await self.api("GET", "/certificates", headers=signed_in)).json()["items"]
        check([one["id"] for one in listed] == [enrollment["id"]], "not exactly one certificate")
        stored = await self.api("GET", f"/certificates/{enrollment['id']}/pdf", headers=signed_in)
        check(stored.content == pdf, "the stored PDF is not the mailed one")
        sent = [one for one in self.inbox.mails if one["To"] == mail["To"] and "certificate" in str(one["Subject"])]
        check(len({one["Message-ID"] for one in sent}) == 1, "the certificate went out under several Message-IDs")
        return pdf

    async def sign_out(self, signed_in: dict[str, str]) -> None:
        await self.api("POST", "/auth/logout", headers=signed_in)
        ends = time.monotonic() + 1.0
        while (await self.api("GET", "/users/me", headers=signed_in)).status_code != httpx.codes.UNAUTHORIZED:
            check(time.monotonic() < ends, "a signed-out token still works after a second")
            await asyncio.sleep(0.02)

    async def examine(self) -> str:
        await self.lms("doctor")
        return "lms doctor finds nothing wrong"

    async def stop_processes(self) -> str:
        for name, process in self.processes.items():
            process.terminate()
            code = await asyncio.wait_for(process.wait(), WAIT_SECONDS)
            check(code == 0, f"{name} ended with exit code {code}")
        return "API, worker and scheduler ended with exit code 0"

    def show_logs(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a failure, what the processes said last."""
        for log in sorted(self.directory.glob("*.log")) if kind else []:
            print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-10:], sep="\n", file=sys.stderr)

    async def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, f"/api/v1{path}", **options)
        check(answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR, f"{method} {path}: {answer.text}")
        return answer

    async def lms(self, *arguments: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lms",
            *arguments,
            env=self.environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(f"{stdin}\n".encode())
        text = output.decode(errors="replace")
        check(process.returncode == 0, f"lms {' '.join(arguments)}: exit code {process.returncode}\n{text}")
        return text

    async def spawn(self, *arguments: str, log: Path) -> asyncio.subprocess.Process:
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lms", *arguments, env=self.environ, stdout=output, stderr=output
            )

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()


def read_certificate(pdf: bytes, course_title: str) -> str:
    """The address in the QR code of a PDF that opens, has one page and shows the title."""
    document = pypdfium2.PdfDocument(pdf)
    check(len(document) == 1, f"the certificate has {len(document)} pages")
    text = document[0].get_textpage().get_text_range()
    check(course_title.split(maxsplit=1)[0] in text, "the certificate does not show the course's title")
    codes = zxingcpp.read_barcodes(document[0].render(scale=3).to_pil())
    check(len(codes) == 1, f"{len(codes)} QR codes can be read")
    return codes[0].text


@asynccontextmanager
async def scratch() -> AsyncGenerator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="lms-demo-"))
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def play() -> None:
    async with scratch() as directory, AsyncExitStack() as stack:
        demo = Demo(stack, directory)
        stack.push(demo.show_logs)
        steps: dict[str, Callable[[], Awaitable[str]]] = {
            "start servers": demo.start_servers,
            "migrate": demo.migrate,
            "start the system": demo.start_processes,
            "administrator": demo.create_admin,
            "load courses": demo.load_courses,
            "visit": demo.visit,
        }
        for name, step in steps.items():
            await timed(name, step())
        for script, person in LEARNERS.items():
            await timed(f"learn ({script})", demo.learn(script, person))
        await timed("doctor", demo.examine())
        await timed("stop", demo.stop_processes())


async def timed(name: str, step: Awaitable[str]) -> None:
    started = time.perf_counter()
    outcome = await step
    print(f"{time.perf_counter() - started:6.2f} s  {name:<18} {outcome}", flush=True)


def main() -> int:
    started = time.perf_counter()
    try:
        asyncio.run(play())
    except (DemoFailed, TimeoutError, httpx.HTTPError) as error:
        print(f"FAILED: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    print(f"{time.perf_counter() - started:6.2f} s  done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
