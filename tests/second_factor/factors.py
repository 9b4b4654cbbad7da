"""People with an authenticator app: what it shows, and the steps to have one."""

import base64
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import httpx

from lms.accounts.documents import User
from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.outbox.jobs import Outcome, run_job
from lms.second_factor.codes import code_of, step_at
from lms.settings import Settings
from tests.accounts.people import PASSWORD, Signed, sign_in
from tests.recovery.mailed import context_for
from tests.servers import SmtpSink


@dataclass
class App:
    """The authenticator app on somebody's phone, and what they were given to write down."""

    secret: bytes
    recovery_codes: list[str]

    def code(self, steps: int = 0) -> str:
        """Of now, or of some steps before or after."""
        return code_of(self.secret, step_at(utc_now()) + steps)

    def wrong(self) -> str:
        """Six digits that are none of those that count now."""
        right = {self.code(steps) for steps in range(-3, 4)}
        return next(text for number in range(10) if (text := f"{number:06}") not in right)


async def begin(client: httpx.AsyncClient, signed: Signed, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/auth/mfa/totp", json={"current_password": password}, headers=signed.header)


async def confirm(client: httpx.AsyncClient, signed: Signed, code: str) -> Signed:
    return Signed(await client.post("/auth/mfa/totp/confirm", json={"code": code}, headers=signed.header))


async def enrol(client: httpx.AsyncClient, signed: Signed) -> tuple[App, Signed]:
    """Set an app up in a session, which goes on with the tokens that come back."""
    begun = await begin(client, signed)
    assert begun.status_code == 200, begun.text
    app = App(secret_of(begun.json()), [])
    confirmed = await confirm(client, signed, app.code())
    app.recovery_codes = confirmed.body["recovery_codes"]
    return app, confirmed


def secret_of(begun: dict[str, Any]) -> bytes:
    return base64.b32decode(begun["secret"])


async def challenge(client: httpx.AsyncClient, user: User, password: str = PASSWORD) -> str:
    """The token of a sign-in whose password was right."""
    body = (await sign_in(client, user, password)).body
    assert set(body) == {"mfa_required", "challenge_token", "expires_in"}
    return body["challenge_token"]


async def finish(client: httpx.AsyncClient, token: str, code: str | None = None, **more: str) -> Signed:
    given = more if code is None else {"code": code, **more}
    return Signed(await client.post("/auth/login/mfa", json={"challenge_token": token, **given}))


async def prove(client: httpx.AsyncClient, signed: Signed, password: str = PASSWORD, **more: str) -> httpx.Response:
    return await client.post("/auth/prove", json={"password": password, **more}, headers=signed.header)


async def remove(client: httpx.AsyncClient, signed: Signed) -> httpx.Response:
    return await client.delete("/auth/mfa/totp", headers=signed.header)


async def renew(client: httpx.AsyncClient, signed: Signed) -> httpx.Response:
    return await client.post("/auth/mfa/recovery-codes", headers=signed.header)


async def state(client: httpx.AsyncClient, signed: Signed) -> tuple[bool, int, bool]:
    body = (await client.get("/auth/mfa", headers=signed.header)).json()
    return body["totp"], body["recovery_codes_left"], body["required"]


async def acts(*names: str) -> list[dict[str, Any]]:
    """What was written down of these acts."""
    events = await Event.find({"kind": "audit", "data.act": {"$in": names}}).sort("_id").to_list()
    return [{name: event.data[name] for name in ("act", "actor", "target_id", "facts")} for event in events]


async def mails(settings: Settings, sink: SmtpSink) -> list[EmailMessage]:
    """What has arrived, once every mail that the outbox asks for is sent."""
    context = context_for(settings, sink)
    for event in await Event.find({"kind": {"$ne": "audit"}}).sort("_id").to_list():
        for name in event.todo:
            assert await run_job(name, event.id, context) is Outcome.DONE
    return sink.messages
