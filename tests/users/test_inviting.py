import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.accounts.limits import MailLimit
from lms.accounts.people import change_role, set_active
from lms.accounts.service import Accounts
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.maintenance.tasks import cleanup_expired_tokens
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.redis_client import Accelerator
from lms.settings import Settings
from lms.tokens import mail_token
from lms.users.documents import Invitation
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, refusal, sign_in
from tests.commands import Commands
from tests.conftest import ClientFor, HeldClock
from tests.recovery.mailed import SCHOOL, context_for, deliver_all, newest_token, text_of, token_in
from tests.servers import SmtpSink

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

NIA = {"email": "Nia@School.example", "full_name": " Nia Okafor ", "role": "instructor"}
EMAIL = "nia@school.example"
REFUSED = (422, "link_refused")


@pytest.fixture
async def admin(client_for: ClientFor, ada: User) -> httpx.AsyncClient:
    return await client_for(ada)


async def invite(admin: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await admin.post("/users/invitations", json=NIA | fields)
    assert response.status_code == 202, response.text
    return response.json()


async def accept(client: httpx.AsyncClient, token: str, **fields: Any) -> httpx.Response:
    return await client.post("/auth/invitations/accept", json={"token": token, "password": PASSWORD} | fields)


async def token_of(settings: Settings) -> str:
    return await newest_token(settings, "user.invited", Purpose.INVITATION)


async def acts() -> list[tuple[str, str, str, dict[str, Any]]]:
    events = await Event.find({"kind": "audit"}).sort("_id").to_list()
    return [(one.data["act"], one.data["actor"], one.data["target_id"], one.data["facts"]) for one in events]


async def test_who_is_invited_gets_a_mail_and_with_its_link_an_account(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, ada: User, settings: Settings, smtp_sink: SmtpSink
) -> None:
    response = await admin.post("/users/invitations", json=NIA)
    made = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/users/invitations/{made['id']}"
    assert made == {
        "id": made["id"],
        "email": EMAIL,
        "full_name": "Nia Okafor",
        "role": "instructor",
        "invited_by": {"id": str(ada.id), "full_name": "Ada Okafor"},
        "void": False,
        "created_at": made["created_at"],
        "expires_at": made["expires_at"],
    }
    assert (await admin.get(f"/users/invitations/{made['id']}")).json() == made
    assert (await admin.get("/users/invitations")).json()["items"] == [made]
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == (EMAIL, "You are invited to Open School")
    assert f"Accept the invitation: {SCHOOL}/invitation#token={token_in(mail)}" in text_of(mail)
    assert "Hello Nia Okafor," in text_of(mail)
    assert "as an instructor" in text_of(mail)
    await Event.find_all().delete()
    answer = await accept(client, token_in(mail), full_name=" Nia O. Okafor ")
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted", "email": EMAIL})
    assert answer.headers["cache-control"] == "no-store"
    user = await User.by_email(EMAIL)
    assert user is not None
    assert str(user.id) == made["id"]
    assert (user.full_name, user.role, user.verified) == ("Nia O. Okafor", Role.INSTRUCTOR, True)
    assert user.search == [EMAIL, "nia", "o.", "okafor", "o"]
    assert (await sign_in(client, user)).body["user"]["role"] == "instructor"
    facts = {"role": "instructor", "invited_by": str(ada.id)}
    assert (await acts())[0] == (Act.INVITATION_ACCEPTED, "nobody", made["id"], facts)
    assert refusal(await accept(client, token_in(mail))) == REFUSED
    assert (await admin.get("/users/invitations")).json()["items"] == []
    assert (await Invitation.count(), await MailedLink.count()) == (0, 0)


async def test_inviting_is_written_down_without_the_address(admin: httpx.AsyncClient, ada: User) -> None:
    made = await invite(admin)
    assert await acts() == [(Act.USER_INVITED, str(ada.id), made["id"], {"role": "instructor"})]
    (event,) = await Event.find({"kind": "audit"}).to_list()
    assert set(event.data["sealed"]) == {made["id"], str(ada.id)}
    for one in await Event.find_all().to_list():
        assert EMAIL not in str(one.data)
        assert "Nia" not in str(one.data)


async def test_of_twenty_who_accept_at_once_one_makes_the_account(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    await invite(admin)
    token = await token_of(settings)
    answers = await asyncio.gather(*(accept(client, token, full_name=f"Nia {n}") for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 19
    assert {refusal(answer) for answer in answers if answer.status_code == 422} == {REFUSED}
    (won,) = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    (user,) = await User.find({"email": EMAIL}).to_list()
    assert user.full_name == f"Nia {won}"


async def test_an_address_that_is_known_is_not_invited(admin: httpx.AsyncClient, sam: User) -> None:
    response = await admin.post("/users/invitations", json={"email": "SAM@school.example", "role": "admin"})
    assert refusal(response) == (409, "address_taken")
    assert response.json()["user_id"] == str(sam.id)
    assert (await Invitation.count(), await MailedLink.count(), await Event.count()) == (0, 0, 0)


async def test_who_signed_up_meanwhile_keeps_role_and_password(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    await invite(admin)
    own = {"email": EMAIL, "full_name": "Nia", "password": "chosen meanwhile"}
    assert (await client.post("/auth/register", json=own)).status_code == 202
    response = await accept(client, await token_of(settings))
    assert refusal(response) == (409, "address_taken")
    assert "user_id" not in response.json()
    user = await User.by_email(EMAIL)
    assert user is not None
    assert (user.role, user.verified) == (Role.STUDENT, False)
    assert (await sign_in(client, user, "chosen meanwhile")).response.status_code == 200


async def test_signing_up_and_accepting_at_once_make_one_account(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    for n in range(5):
        email = f"nia{n}@school.example"
        await invite(admin, email=email)
        token = await token_of(settings)
        own = {"email": email, "full_name": "Nia", "password": "chosen meanwhile"}
        accepted, signed_up = await asyncio.gather(accept(client, token), client.post("/auth/register", json=own))
        assert (accepted.status_code, signed_up.status_code) in {(200, 202), (409, 202)}
        (user,) = await User.find({"email": email}).to_list()
        assert user.role is (Role.INSTRUCTOR if accepted.status_code == 200 else Role.STUDENT)


async def test_making_the_account_ends_the_invitation(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    await invite(admin)
    token = await token_of(settings)
    assert (await admin.post("/users", json=NIA | {"password": PASSWORD})).status_code == 201
    assert (await Invitation.count(), await MailedLink.count()) == (0, 0)
    assert refusal(await accept(client, token)) == REFUSED


async def test_another_invitation_takes_the_place_of_the_one_before(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    first = await invite(admin)
    old = await token_of(settings)
    second = await invite(admin, role="admin", full_name=None)
    assert (second["id"], second["role"], second["full_name"]) == (first["id"], "admin", "")
    assert (await admin.get("/users/invitations")).json()["items"] == [second]
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert "as an administrator" in text_of(mail)
    assert refusal(await accept(client, old, full_name="Nia")) == REFUSED
    assert (await accept(client, token_in(mail), full_name="Nia")).status_code == 200


async def test_of_ten_invitations_at_once_the_last_one_counts(admin: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(admin.post("/users/invitations", json=NIA) for _ in range(10)))
    assert [answer.status_code for answer in answers] == [202] * 10
    assert {answer.json()["id"] for answer in answers} == {str((await Invitation.find_all().to_list())[0].id)}
    assert (await Invitation.count(), await MailedLink.count()) == (1, 1)


async def test_the_same_key_invites_once(admin: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await admin.post("/users/invitations", json=NIA, headers=headers)
    again = await admin.post("/users/invitations", json=NIA, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert await Event.find({"kind": "user.invited"}).count() == 1


async def test_what_is_withdrawn_cannot_be_accepted_or_mailed(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, ada: User, settings: Settings, smtp_sink: SmtpSink
) -> None:
    made = await invite(admin)
    gone = await admin.delete(f"/users/invitations/{made['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert refusal(await admin.delete(f"/users/invitations/{made['id']}")) == (404, "invitation_not_found")
    assert (await acts())[-1] == (Act.INVITATION_WITHDRAWN, str(ada.id), made["id"], {})
    assert refusal(await accept(client, await token_of(settings))) == REFUSED
    await deliver_all(settings, smtp_sink)
    assert smtp_sink.messages == []
    assert await MailedLink.count() == 0


async def test_accepting_and_withdrawing_at_once_have_one_outcome(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    for n in range(5):
        made = await invite(admin, email=f"nia{n}@school.example")
        token = await token_of(settings)
        accepted, withdrawn = await asyncio.gather(
            accept(client, token), admin.delete(f"/users/invitations/{made['id']}")
        )
        assert (accepted.status_code, withdrawn.status_code) in {(200, 404), (422, 204)}
        assert await User.find({"email": made["email"]}).count() == (accepted.status_code == 200)


async def test_an_invitation_lives_for_a_week(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings, held_clock: HeldClock, smtp_sink: SmtpSink
) -> None:
    made = await invite(admin)
    held_clock.advance(days=7)
    # The caller's session is over by then as well.
    stored = await Invitation.get(made["id"])
    assert stored is not None
    assert stored.expires_at == held_clock.now
    assert refusal(await accept(client, await token_of(settings))) == REFUSED
    await cleanup_expired_tokens.handler(Event(kind="tick", data={}, todo=[]), context_for(settings, smtp_sink))
    assert await Invitation.count() == 1
    held_clock.advance(seconds=1)
    await cleanup_expired_tokens.handler(Event(kind="tick", data={}, todo=[]), context_for(settings, smtp_sink))
    assert (await Invitation.count(), await MailedLink.count()) == (0, 0)


async def test_one_that_has_expired_is_shown_nowhere(admin: httpx.AsyncClient) -> None:
    made = await invite(admin)
    past = {"$set": {"expires_at": utc_now() - timedelta(seconds=1)}}
    await Invitation.get_pymongo_collection().update_many({}, past)
    assert (await admin.get("/users/invitations")).json()["items"] == []
    for method in ("GET", "DELETE"):
        assert refusal(await admin.request(method, f"/users/invitations/{made['id']}"))[0] == 404
    assert (await invite(admin))["email"] == EMAIL


@pytest.mark.parametrize("what", ["demoted", "kept out", "erased"])
async def test_an_invitation_counts_no_more_than_who_made_it(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, client_for: ClientFor, ada: User, settings: Settings, what: str
) -> None:
    made = await invite(admin)
    if what == "demoted":
        await change_role(ada.id, Role.INSTRUCTOR)
    elif what == "kept out":
        await set_active(ada.id, active=False)
    else:
        await ada.delete()
    token = await token_of(settings)
    assert refusal(await accept(client, token)) == REFUSED
    assert await User.find({"email": EMAIL}).count() == 0
    oscar = await User(email="oscar@school.example", full_name="Oscar", role=Role.ADMIN, password_hash="none").insert()
    other = await client_for(oscar)
    shown = (await other.get(f"/users/invitations/{made['id']}")).json()
    assert shown["void"] is True
    assert (shown["invited_by"] is None) == (what == "erased")
    # Another administrator stands for it by inviting again.
    assert (await invite(other))["void"] is False
    assert (await accept(client, await token_of(settings))).status_code == 200


async def test_unknown_used_and_foreign_tokens_look_the_same_before_any_work(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, accounts: Accounts, settings: Settings, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Sam")
    assert (await client.post("/auth/forgot-password", json={"email": "sam@school.example"})).status_code == 202
    foreign = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    await invite(admin)
    event = await Event.find_one({"kind": "user.invited"})
    assert event is not None
    mistaken = mail_token(settings, Purpose.RESET_PASSWORD, str(event.data["nonce"]))
    bcrypts.clear()
    bodies: list[dict[str, Any]] = []
    for token in ("x", "é", foreign, mistaken, "A" * 43):
        response = await accept(client, token)
        assert refusal(response) == REFUSED
        bodies.append({name: value for name, value in response.json().items() if name != "request_id"})
    assert all(body == bodies[0] for body in bodies)
    assert bcrypts.calls == []
    # And an invitation's token is good for nothing else.
    own = await token_of(settings)
    reset = await client.post("/auth/reset-password", json={"token": own, "password": PASSWORD})
    assert refusal(reset) == REFUSED
    assert refusal(await client.post("/auth/verify-email/confirm", json={"token": own})) == REFUSED
    assert (await accept(client, own)).status_code == 200


async def test_a_name_and_a_good_password_are_needed(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    await invite(admin, full_name=None)
    token = await token_of(settings)
    for wrong, pointer, code in (
        ({}, "#/full_name", "required"),
        ({"full_name": " "}, "#/full_name", "invalid"),
        ({"full_name": "Nia", "password": "short"}, "#/password", "invalid"),
        ({"full_name": "Nia", "password": "password1"}, "#/password", "common_password"),
        ({"full_name": "Nia", "password": EMAIL}, "#/password", "common_password"),
        ({"full_name": "Nia", "role": "admin"}, "#/role", "unknown_field"),
    ):
        response = await accept(client, token, **wrong)
        assert response.status_code == 422
        assert [(one["pointer"], one["code"]) for one in response.json()["errors"]] == [(pointer, code)]
    assert await User.find({"email": EMAIL}).count() == 0
    assert (await accept(client, token, full_name="Nia")).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [({"email": "nia"}, "#/email"), ({"role": "owner"}, "#/role"), ({"full_name": "Nia\nBcc: x"}, "#/full_name")],
)
async def test_nobody_is_invited_by_bad_fields(admin: httpx.AsyncClient, wrong: dict[str, str], pointer: str) -> None:
    response = await admin.post("/users/invitations", json=NIA | wrong)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert await Invitation.count() == 0


async def test_nobodys_mailbox_is_flooded_and_strangers_hold_up_no_invitation(
    client: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    accounts: Accounts,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.model_copy(update={"rate_mail": "2/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    for _ in range(3):
        assert (await client.post("/auth/forgot-password", json={"email": EMAIL})).status_code == 202
    await invite(admin)
    await invite(admin, email=f" {EMAIL.upper()}")
    response = await admin.post("/users/invitations", json=NIA)
    assert refusal(response) == (429, "invited_too_often")
    assert int(response.headers["retry-after"]) > 0
    await invite(admin, email="tom@school.example")
    assert await Event.find({"kind": "user.invited"}).count() == 3


async def test_a_page_of_invitations_costs_the_same_at_any_size(
    admin: httpx.AsyncClient, commands: Commands, database: AsyncDatabase[dict[str, Any]]
) -> None:
    for n in range(12):
        await invite(admin, email=f"nia{n}@school.example")
    await admin.get("/users/me")
    commands.seen.clear()
    page = (await admin.get("/users/invitations", params={"page_size": "10"})).json()
    assert [one["email"][3:-15] for one in page["items"]] == [str(n) for n in range(11, 1, -1)]
    assert (page["total"], page["pages"]) == (12, 2)
    assert commands.names == ["find", "aggregate", "find"]
    wanted = {"expires_at": {"$gt": utc_now()}}
    plan = await database["invitations"].find(wanted).sort([("created_at", -1), ("_id", -1)]).limit(11).explain()
    assert "'stage': 'SORT'" not in str(plan["queryPlanner"]["winningPlan"])
