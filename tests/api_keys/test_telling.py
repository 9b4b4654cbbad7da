"""What people and operators are told of keys and of what is done with them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.types import HTTPScope
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.api_keys.documents import Scope
from lms.audit import record
from lms.audit.documents import Act
from lms.logs import configure_logging
from lms.origin import answering
from lms.outbox.documents import Event
from lms.outbox.jobs import Outcome, run_job
from lms.settings import Settings
from lms.transactions import in_transaction
from lms.web.openapi_errors import signs_in
from tests.api_keys.keys import a_key, bearer, routes_of
from tests.conftest import ClientFor
from tests.recovery.mailed import context_for, text_of
from tests.servers import SmtpSink
from tests.web.openapi_checks import document_of, operations

Database = AsyncDatabase[dict[str, Any]]


async def mailed_for(signed_in: httpx.AsyncClient, settings: Settings, sink: SmtpSink, name: str) -> str:
    made = await signed_in.post("/auth/api-keys", json={"name": name, "scopes": ["courses:read", "courses:write"]})
    assert made.status_code == 201
    event = await Event.find_one({"kind": "api_key.created"})
    assert event is not None
    assert await run_job("send_api_key_created_email", event.id, context_for(settings, sink)) is Outcome.DONE
    mail = sink.messages[-1]
    assert mail["Subject"] == "A new API key for your account at Open School"
    text = text_of(mail)
    assert made.json()["key"] not in text
    assert made.json()["expires_at"][:10] in text
    return text


async def test_the_owner_is_told_by_mail(
    client_for: ClientFor, settings: Settings, smtp_sink: SmtpSink, ivy: User
) -> None:
    text = " ".join((await mailed_for(await client_for(ivy), settings, smtp_sink, "nightly <load>")).split())
    assert "Hello Ivy Okafor," in text
    assert "An API key, called nightly <load>, was made just now." in text
    assert "It may be used for: courses:read, courses:write." in text
    assert "If it was not you, revoke the key" in text
    assert smtp_sink.messages[-1]["To"] == ivy.email


async def test_whoever_made_it_puts_no_link_into_that_mail(
    client_for: ClientFor, settings: Settings, smtp_sink: SmtpSink, ivy: User
) -> None:
    text = await mailed_for(await client_for(ivy), settings, smtp_sink, "go to https://evil.example")
    assert "evil" not in text
    assert "An API key was made just now." in " ".join(text.split())


@pytest.fixture
def asked_with_a_key() -> Iterator[str]:
    """As though a request with this key was being answered."""
    key_id = "0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03"
    scope: Any = {"client": ("192.0.2.7", 5000), "headers": [], "state": {"request_id": "r", "api_key_id": key_id}}
    told: HTTPScope = scope
    before = answering(told)
    yield key_id
    before.var.reset(before)


async def test_what_is_done_with_a_key_names_it_in_the_audit_log(
    database: Database, ivy: User, asked_with_a_key: str
) -> None:
    facts = {"role": "admin"}
    await in_transaction(lambda session: record(session, Act.ROLE_CHANGED, actor=ivy.id, target=ivy.id, facts=facts))
    event = await database["outbox"].find_one({"kind": "audit"})
    assert event is not None
    assert event["data"]["facts"] == {"role": "admin", "api_key_id": asked_with_a_key}
    assert facts == {"role": "admin"}


async def test_what_is_done_without_one_names_none(client_for: ClientFor, database: Database, ivy: User) -> None:
    await (await client_for(ivy)).post("/auth/logout")
    event = await database["outbox"].find_one({"kind": "audit"})
    assert event is not None
    assert "api_key_id" not in event["data"]["facts"]


async def test_a_request_with_a_key_is_logged_with_it_and_without_its_text(
    client: httpx.AsyncClient, ivy: User, capfd: pytest.CaptureFixture[str], settings: Settings
) -> None:
    key, text = await a_key(ivy, Scope.PROFILE_READ)
    configure_logging(settings)
    assert (await client.get("/users/me", headers=bearer(text))).status_code == 200
    assert (await client.get("/audit", headers=bearer(text))).status_code == 403
    assert (await client.patch("/users/me", json={}, headers=bearer(text))).status_code == 403
    told = capfd.readouterr().err
    assert told.count(f'"api_key_id":"{key.id}"') == 2
    assert text[27:] not in told


def test_the_reference_tells_which_scope_a_route_needs(app: Litestar) -> None:
    document = document_of(app)
    scheme = document["components"]["securitySchemes"]["api_key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    told = {(method.upper(), path): operation for path, method, operation in operations(document)}
    seen = 0
    for method, path, handler in routes_of(app):
        scope = handler.opt.get("scope")
        operation = told.get((method, path))
        if operation is None:
            continue
        takers = [one["api_key"] for one in operation["security"] if "api_key" in one]
        assert takers == ([[scope.value]] if scope else []), (method, path)
        refused = operation["responses"].get("403", {}).get("content", {}).get("application/problem+json", {})
        codes = set(refused.get("examples", {})) & {"scope_missing", "api_key_not_allowed"}
        wanted = {"scope_missing"} if scope else {"api_key_not_allowed"} if signs_in(handler) == "always" else set()
        assert codes == wanted, (method, path)
        assert (f"An API key needs the scope `{scope}`." in operation.get("description", "")) == (scope is not None)
        seen += 1
    assert seen > 40
