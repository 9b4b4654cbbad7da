"""Who signs up somebody else's address, and what is left of that once its owner comes."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.accounts.service import Accounts
from lms.api_keys.documents import ApiKey, Scope
from lms.clock import utc_now
from lms.oidc.documents import Identity
from lms.recovery.documents import Purpose
from lms.recovery.tasks import NEW, OLD
from lms.second_factor.documents import CodeTries, PendingTotp, Totp
from lms.settings import Settings
from tests.accounts.people import PASSWORD, Signed, a_person, refusal, sign_in
from tests.api_keys.keys import a_key
from tests.conftest import ClientFor
from tests.recovery.mailed import newest_token

FRESH = "a fresh new start"
SAM = {"email": "sam@school.example", "password": PASSWORD, "full_name": "Sam Okafor"}
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def planted() -> dict[str, Any]:
    pending = PendingTotp(secret=b"x", session_id=uuid4(), expires_at=LATER)
    return {
        "role": Role.INSTRUCTOR,
        "totp": Totp(secret=b"x", last_step=1, recovery_codes=["x"], enabled_at=utc_now()),
        "pending_totp": pending,
        "code_tries": CodeTries(count=9, not_before=LATER),
    }


async def stored(user: User) -> User:
    found = await User.get(user.id)
    assert found is not None
    return found


async def reset(client: httpx.AsyncClient, settings: Settings, user: User) -> None:
    await client.post("/auth/forgot-password", json={"email": user.email})
    token = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    response = await client.post("/auth/reset-password", json={"token": token, "password": FRESH})
    assert response.status_code == 200, response.text


async def verify(client: httpx.AsyncClient, token: str, signed: Signed | None = None) -> None:
    header = signed.header if signed else {}
    response = await client.post("/auth/verify-email/confirm", json={"token": token}, headers=header)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("verified", "doubted", "stays"), [(False, False, False), (True, True, False), (True, False, True)]
)
async def test_a_reset_leaves_nothing_of_a_stranger_and_everything_of_the_owner(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, verified: bool, doubted: bool, stays: bool
) -> None:
    sam = await a_person(accounts, "Sam", verified=verified, password_doubted=doubted, **planted())
    key, _ = await a_key(sam, Scope.COURSES_READ)
    await Identity(issuer="https://id.example", subject="mallory", user_id=sam.id, provider="id").insert()
    await reset(client, settings, sam)
    after, kept_key = await stored(sam), await ApiKey.get(key.id)
    assert kept_key is not None
    assert after.owner_proved
    assert after.code_tries is None
    assert (after.totp is not None, kept_key.revoked_at is None, await Identity.count() == 1) == (stays,) * 3
    assert stays or after.pending_totp is None
    assert ("mfa_required" in (await sign_in(client, sam, FRESH)).body) is stays


async def test_who_is_stored_without_the_doubt_is_not_doubted(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings
) -> None:
    sam = await a_person(accounts, "Sam", verified=True, **planted())
    await User.get_pymongo_collection().update_one({"_id": sam.id}, {"$unset": {"password_doubted": 1}})
    assert (await stored(sam)).owner_proved
    await reset(client, settings, sam)
    assert (await stored(sam)).totp is not None


@pytest.mark.parametrize("who", ["nobody", "another", "own"])
async def test_a_link_outside_of_the_own_session_leaves_the_password_in_doubt(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, who: str
) -> None:
    assert (await client.post("/auth/register", json=SAM)).status_code == 202
    sam = await User.by_email(SAM["email"])
    assert sam is not None
    stella = await a_person(accounts, "Stella")
    signed = {"nobody": None, "another": await sign_in(client, stella), "own": await sign_in(client, sam)}[who]
    await verify(client, await newest_token(settings, "user.registered", Purpose.VERIFY_EMAIL), signed)
    after = await stored(sam)
    assert (after.verified, after.owner_proved, after.rev) == (True, who == "own", 1)


async def test_a_doubt_is_lifted_by_another_link_within_the_session(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings
) -> None:
    sam = await a_person(accounts, "Sam", verified=True, password_doubted=True)
    mallory, signed = await sign_in(client, sam), await sign_in(client, sam)
    for session, lifted in ((None, False), (signed, True)):
        await client.post("/auth/verify-email/request", json={"email": sam.email})
        await verify(client, await newest_token(settings, "user.verification_asked", Purpose.VERIFY_EMAIL), session)
        assert (await stored(sam)).owner_proved is lifted
    assert (await client.get("/users/me", headers=mallory.header)).status_code == 401
    assert (await client.get("/users/me", headers=signed.header)).status_code == 200


async def test_an_old_link_outside_brings_no_doubt_back(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings
) -> None:
    sam = await a_person(accounts, "Sam")
    await client.post("/auth/verify-email/request", json={"email": sam.email})
    await reset(client, settings, sam)
    await verify(client, await newest_token(settings, "user.verification_asked", Purpose.VERIFY_EMAIL))
    assert (await stored(sam)).owner_proved


@pytest.mark.parametrize("outside", [set(), {OLD}, {NEW}])
@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
async def test_an_address_that_is_confirmed_outside_leaves_the_password_in_doubt(
    client: httpx.AsyncClient, accounts: Accounts, settings: Settings, outside: set[str], order: tuple[str, ...]
) -> None:
    """Or else the squatter of an address would be one who moves to it."""
    mallory = await a_person(accounts, "Mallory", verified=True)
    signed = await sign_in(client, mallory)
    body = {"new_email": SAM["email"], "current_password": PASSWORD}
    assert (await client.post("/auth/change-email", json=body, headers=signed.header)).status_code == 202
    for which in order:
        token = await newest_token(settings, "user.email_change_asked", which)
        header = {} if which in outside else signed.header
        answer = await client.post("/auth/change-email/confirm", json={"token": token}, headers=header)
        assert answer.status_code == 200
    after = await stored(mallory)
    assert (after.email, after.owner_proved) == (SAM["email"], not outside)


async def test_before_the_address_is_verified_there_is_neither_second_factor_nor_key(
    client: httpx.AsyncClient, accounts: Accounts
) -> None:
    ivy = await a_person(accounts, "Ivy", role=Role.INSTRUCTOR)
    signed = await sign_in(client, ivy)
    key = {"name": "nightly load", "scopes": ["courses:read"]}
    refused = await client.post("/auth/mfa/totp", json={"current_password": PASSWORD}, headers=signed.header)
    assert refusal(refused) == (403, "not_verified")
    assert refusal(await client.post("/auth/api-keys", json=key, headers=signed.header)) == (403, "not_verified")
    after = await stored(ivy)
    assert (after.pending_totp, after.keys_made, await ApiKey.count()) == (None, 0, 0)


@pytest.mark.parametrize("role", [Role.INSTRUCTOR, Role.ADMIN])
async def test_only_a_verified_address_is_promoted_unless_somebody_vouches_for_it(
    client_for: ClientFor, accounts: Accounts, ada: User, role: Role
) -> None:
    admin, squatted = await client_for(ada), await a_person(accounts, "Squatted")
    path = f"/users/{squatted.id}"
    for body in ({"role": role}, {"role": role, "verified": False}):
        assert refusal(await admin.patch(path, json=body)) == (409, "not_verified")
    assert (await stored(squatted)).role is Role.STUDENT
    assert (await admin.patch(path, json={"role": role, "verified": True})).status_code == 200
    after = await stored(squatted)
    # The administrator knows the address, and nobody knows who has set the password.
    assert (after.role, after.verified, after.owner_proved) == (role, True, False)
    assert (await admin.patch(path, json={"role": "student", "verified": False})).status_code == 200
    proved = await a_person(accounts, "Proved", verified=True)
    assert (await admin.patch(f"/users/{proved.id}", json={"role": role, "verified": True})).status_code == 200
    assert (await stored(proved)).owner_proved
