"""What inviting somebody, or making their account, leaves in other places than their own."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from lms.accounts.documents import User
from lms.audit.documents import AuditKey
from lms.clock import utc_now
from lms.erasure.service import erase
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from lms.users.documents import Invitation
from tests.accounts.people import PASSWORD, refusal
from tests.build import a_user
from tests.conftest import ClientFor
from tests.erasure.left import Database, traces, work, write_down
from tests.recovery.mailed import newest_token

EMAIL = "nia@school.example"
NIA = {"email": EMAIL, "full_name": "Nia Unheard", "role": "instructor"}
KEY = {"Idempotency-Key": "once"}
WORDS = (EMAIL, "Unheard")


@pytest.fixture
async def admin(client_for: ClientFor, ada: User) -> httpx.AsyncClient:
    return await client_for(ada)


async def invite(admin: httpx.AsyncClient, **headers: str) -> UUID:
    response = await admin.post("/users/invitations", json=NIA, headers=headers)
    assert response.status_code == 202, response.text
    return UUID(response.json()["id"])


async def key_of(person: UUID) -> dict[str, Any] | None:
    return await AuditKey.get_pymongo_collection().find_one({"_id": person})


async def test_who_signed_up_beside_an_invitation_is_erased_with_it(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    invited = await invite(admin, **KEY)
    own = {"email": EMAIL, "full_name": "Nia Unheard", "password": PASSWORD}
    assert (await client.post("/auth/register", json=own)).status_code == 202
    for path in ("forgot-password", "verify-email/request"):
        await client.post(f"/auth/{path}", json={"email": EMAIL})
    failed = {"failed_at": utc_now(), "due": None, "last_error": f"550 no such user {EMAIL}"}
    await database["outbox"].update_many({"data.invitation_id": str(invited)}, {"$set": failed})
    await write_down()
    user = await User.by_email(EMAIL)
    assert user is not None
    assert user.id != invited
    await erase(user.id)
    # Before any job has run.
    assert (await Invitation.count(), await MailedLink.count()) == (0, 0)
    assert await key_of(invited) is None
    await work(database, settings)
    assert await traces(database, *WORDS) == []
    assert await Event.find({"kind": "user.invited"}).count() == 0
    assert refusal(await admin.post("/users/invitations", json=NIA, headers=KEY)) == (409, "answer_not_kept")


async def test_a_link_that_was_asked_for_before_there_was_an_account_goes_with_it(
    client: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    """The row of an address is one for nobody, so that no search by person finds it."""
    for path in ("forgot-password", "verify-email/request"):
        await client.post(f"/auth/{path}", json={"email": EMAIL})
    assert await MailedLink.count() == 2
    person = await a_user("Nia").insert()
    await erase(person.id)
    assert await MailedLink.count() == 0
    assert await traces(database, EMAIL) == []


async def test_what_an_administrator_was_answered_is_forgotten_and_not_done_again(
    admin: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    made = await admin.post("/users", json=NIA, headers=KEY)
    person = UUID(made.json()["id"])
    await erase(person)
    again = await admin.post("/users", json=NIA, headers=KEY)
    assert refusal(again) == (409, "answer_not_kept")
    assert await User.by_email(EMAIL) is None
    await work(database, settings)
    assert await traces(database, *WORDS) == []


async def test_jobs_that_gave_up_on_an_accepted_invitation_go_with_the_person(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    invited = await invite(admin)
    token = await newest_token(settings, "user.invited", Purpose.INVITATION)
    failed = {"failed_at": utc_now(), "due": None, "last_error": f"550 no such user {EMAIL}"}
    await database["outbox"].update_many({"data.invitation_id": str(invited)}, {"$set": failed})
    accepted = await client.post("/auth/invitations/accept", json={"token": token, "password": PASSWORD})
    assert accepted.status_code == 200
    await erase(invited)
    await work(database, settings)
    assert await traces(database, EMAIL) == []


async def test_the_key_of_an_invitation_lives_as_long_as_it_or_its_person(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings
) -> None:
    invited = await invite(admin)
    key, invitation = await key_of(invited), await Invitation.get(invited)
    assert key is not None
    assert invitation is not None
    assert key["expires_at"] - invitation.expires_at == timedelta(days=1)
    token = await newest_token(settings, "user.invited", Purpose.INVITATION)
    accepted = await client.post("/auth/invitations/accept", json={"token": token, "password": PASSWORD})
    assert accepted.status_code == 200
    kept = await key_of(invited)
    assert kept is not None
    assert kept["key"] == key["key"]
    assert "expires_at" not in kept


@pytest.mark.parametrize("how", ["withdrawn", "made an account"])
async def test_an_invitation_that_is_over_takes_its_key_and_its_kept_answer_along(
    admin: httpx.AsyncClient, database: Database, how: str
) -> None:
    invited = await invite(admin, **KEY)
    if how == "withdrawn":
        assert (await admin.delete(f"/users/invitations/{invited}")).status_code == 204
    else:
        assert (await admin.post("/users", json=NIA)).status_code == 201
    assert await key_of(invited) is None
    [kept] = await database["idempotency"].find().to_list()
    assert (kept["subject_id"], kept["body"]) == (invited, None)
