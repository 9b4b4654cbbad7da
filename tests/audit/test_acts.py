"""What leaves which act behind, and what the act tells."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.accounts.people import change_role, create_user, set_active
from lms.accounts.service import Accounts
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.settings import Settings
from tests.accounts.people import PASSWORD, Signed, a_person, refresh, sign_in
from tests.audit.acts import append_all
from tests.build import a_user

DEVICE = "Phone/1.0 (of a test)"
FRESH = "a fresh new start"


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


@pytest.fixture
async def signed(client: httpx.AsyncClient, person: User) -> Signed:
    found = await sign_in(client, person, **{"User-Agent": DEVICE})
    await Event.find({"kind": "audit"}).delete()
    return found


Flow = Callable[[httpx.AsyncClient, Signed, User], Awaitable[Any]]


async def sign_in_again(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    await sign_in(client, person)


async def sign_out(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    await client.post("/auth/logout", headers=signed.header)


async def sign_out_everywhere(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    await client.post("/auth/logout-all", headers=signed.header)


async def end_one(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    await client.delete(f"/auth/sessions/{signed.family}", headers=signed.header)


async def change_password(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    body = {"current_password": PASSWORD, "new_password": FRESH}
    await client.post("/auth/change-password", json=body, headers=signed.header)


async def ask_for_another_address(client: httpx.AsyncClient, signed: Signed, person: User) -> None:
    body = {"current_password": PASSWORD, "new_email": "samuel@school.example"}
    await client.post("/auth/change-email", json=body, headers=signed.header)


@pytest.mark.parametrize(
    ("flow", "what"),
    [
        (sign_in_again, Act.SIGNED_IN),
        (sign_out, Act.SIGNED_OUT),
        (sign_out_everywhere, Act.ALL_SIGNED_OUT),
        (end_one, Act.SIGNED_OUT),
        (change_password, Act.PASSWORD_CHANGED),
        (ask_for_another_address, Act.EMAIL_CHANGE_ASKED),
    ],
)
async def test_one_act_by_and_to_the_person(
    client: httpx.AsyncClient, signed: Signed, person: User, settings: Settings, flow: Flow, what: Act
) -> None:
    await flow(client, signed, person)
    (entry,) = await append_all(settings)
    assert (entry.act, entry.actor, entry.target_kind, entry.target_id) == (
        what,
        str(person.id),
        "user",
        str(person.id),
    )
    assert len(entry.request_id) >= 8
    assert list(entry.sealed) == [str(person.id)]


async def test_a_replayed_refresh_token_is_nobody_s_act(
    client: httpx.AsyncClient, signed: Signed, person: User, settings: Settings
) -> None:
    first = signed.refresh_token
    second = await refresh(client, first)
    await refresh(client, second.refresh_token)
    assert (await refresh(client, first)).response.status_code == 401
    (entry,) = await append_all(settings)
    assert (entry.act, entry.actor, entry.target_id) == (Act.REFRESH_REPLAYED, "nobody", str(person.id))
    assert entry.facts == {"session_id": signed.family, "presented": 0, "current": 2}


async def test_what_changes_nothing_is_no_act(
    client: httpx.AsyncClient, signed: Signed, person: User, settings: Settings
) -> None:
    await sign_in(client, person, "a wrong guess")
    await client.delete(f"/auth/sessions/{person.id}", headers=signed.header)
    assert not await change_role(person.id, Role.STUDENT)
    assert not await set_active(person.id, active=True)
    assert await append_all(settings) == []


async def test_operators_leave_acts_too(client: httpx.AsyncClient, settings: Settings) -> None:
    ada = a_user("Ada", Role.ADMIN)
    await create_user(ada)
    await change_role(ada.id, Role.INSTRUCTOR)
    await set_active(ada.id, active=False)
    await set_active(ada.id, active=True)
    entries = await append_all(settings)
    assert [entry.act for entry in entries] == [Act.USER_CREATED, Act.ROLE_CHANGED, Act.DEACTIVATED, Act.ACTIVATED]
    assert {(entry.actor, entry.target_id, entry.request_id) for entry in entries} == {("operator", str(ada.id), "")}
    assert entries[1].facts == {"role_before": "admin", "role": "instructor"}


async def test_first_sign_ins_at_once_are_all_let_in_and_written_down(
    client: httpx.AsyncClient, person: User, settings: Settings
) -> None:
    answers = await asyncio.gather(*(sign_in(client, person) for _ in range(5)))
    assert {answer.response.status_code for answer in answers} == {200}
    entries = await append_all(settings)
    assert [entry.act for entry in entries] == [Act.SIGNED_IN] * 5


async def test_the_time_of_the_act_is_kept_and_not_that_of_writing_it_down(
    client: httpx.AsyncClient, person: User, settings: Settings
) -> None:
    before = utc_now()
    await sign_in(client, person)
    signed_in = utc_now()
    (entry,) = await append_all(settings)
    assert before <= entry.at <= signed_in
