"""A person's way with their account, through the processes that operators run and a real mail server."""

from pathlib import Path

import httpx
from litestar import Litestar

from tests.promises.system import a_system
from tests.recovery.mailed import token_in
from tests.servers import SmtpSink

SAM, SAMUEL = "sam@school.example", "samuel@school.example"
FIRST, SECOND, THIRD = "correct horse battery", "a fresh new start", "the third one of mine"


class Person:
    """Somebody with a client and mailboxes."""

    def __init__(self, client: httpx.AsyncClient, sink: SmtpSink) -> None:
        self.client = client
        self.sink = sink
        self.read = 0

    async def post(self, path: str, status: int = 200, **body: str) -> dict[str, str]:
        response = await self.client.post(f"/api/v1/auth/{path}", json=body)
        assert response.status_code == status, response.text
        if "access_token" in response.text:
            self.client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        return response.json()

    async def mails(self, count: int = 1) -> dict[str, tuple[str, str]]:
        """Of the mails that come next, by recipient: the subject, and the token if there is one."""
        mails = (await self.sink.wait_for(self.read + count))[self.read :]
        self.read += count
        return {one["To"]: (one["Subject"], token_in(one) if "token" in one.as_string() else "") for one in mails}


async def test_a_person_goes_all_the_ways_that_there_are(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path, smtp_sink: SmtpSink
) -> None:
    more = {"LMS_SMTP_URL": smtp_sink.url, "LMS_REQUIRE_VERIFIED": "true"}
    async with a_system(tmp_path, mongodb_url, redis_url, **more) as (system, _):
        api, _ = await system.start("serve"), await system.start("worker")
        async with httpx.AsyncClient(base_url=api.health) as client:
            sam = Person(client, smtp_sink)
            await sam.post("register", 202, email=SAM, password=FIRST, full_name="Sam Okafor")
            subject, welcome = (await sam.mails())[SAM]
            assert subject == "Welcome to Open School"
            assert (await sam.post("login", 403, email=SAM, password=FIRST))["code"] == "not_verified"
            await sam.post("verify-email/confirm", token=welcome)
            await sam.post("login", email=SAM, password=FIRST)

            await sam.post("forgot-password", 202, email=SAM)
            await sam.post("reset-password", token=(await sam.mails())[SAM][1], password=SECOND)
            assert (await sam.mails())[SAM] == ("Your password at Open School was changed", "")
            await sam.post("login", 401, email=SAM, password=FIRST)
            await sam.post("login", email=SAM, password=SECOND)

            await sam.post("change-password", current_password=SECOND, new_password=THIRD)
            assert (await sam.mails())[SAM] == ("Your password at Open School was changed", "")
            assert (await client.get("/api/v1/users/me")).json()["email"] == SAM

            await sam.post("change-email", 202, new_email=SAMUEL, current_password=THIRD)
            asked = await sam.mails(2)
            assert (await sam.post("change-email/confirm", token=asked[SAM][1]))["status"] == "waiting"
            assert (await sam.post("change-email/confirm", token=asked[SAMUEL][1]))["status"] == "changed"
            assert (await sam.mails())[SAMUEL] == ("Your address at Open School was changed", "")
            await sam.post("login", email=SAMUEL, password=THIRD)
            assert (await client.get("/api/v1/users/me")).json()["email"] == SAMUEL
