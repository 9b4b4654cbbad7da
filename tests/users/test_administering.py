import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import LastAdmin, change_role, set_active
from lms.accounts.service import Accounts
from lms.audit.documents import Act
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.outbox.documents import Event
from lms.passwords import Passwords
from lms.settings import Settings
from tests.accounts.people import PASSWORD, a_person, me, refusal, sign_in
from tests.audit.acts import append_all
from tests.build import a_course, a_user
from tests.commands import Commands
from tests.conftest import ClientFor
from tests.recovery.mailed import deliver_all, text_of, token_in
from tests.servers import SmtpSink

NIA = {"email": "Nia@School.example", "full_name": "  Nia Okafor ", "role": "instructor"}
NOBODY = str(uuid4())


@pytest.fixture
async def admin(client_for: ClientFor, ada: User) -> httpx.AsyncClient:
    return await client_for(ada)


async def stored(user: User) -> User:
    found = await User.get(user.id)
    assert found is not None
    return found


async def acts() -> list[tuple[str, str, dict[str, Any]]]:
    """What was written down: act, by whom, facts."""
    events = await Event.find({"kind": "audit"}).sort("_id").to_list()
    return [(event.data["act"], event.data["actor"], event.data["facts"]) for event in events]


ROUTES = [
    ("GET", "/users", None),
    ("POST", "/users", NIA),
    ("GET", "/users/{id}", None),
    ("PATCH", "/users/{id}", {"role": "admin"}),
    ("GET", "/users/{id}/enrollments", None),
    ("GET", "/users/invitations", None),
    ("POST", "/users/invitations", {"email": "nia@school.example", "role": "admin"}),
    ("GET", "/users/invitations/{id}", None),
    ("DELETE", "/users/invitations/{id}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_only_administrators_administer(
    client: httpx.AsyncClient,
    client_for: ClientFor,
    ivy: User,
    sam: User,
    ada: User,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    for caller, answer in ((None, (401, "unauthenticated")), (sam, (403, "wrong_role")), (ivy, (403, "wrong_role"))):
        asking = client if caller is None else await client_for(caller)
        for user_id in (sam.id, ada.id, NOBODY):
            response = await asking.request(method, path.format(id=user_id), json=body)
            assert refusal(response) == answer
    assert await User.count() == 3
    assert await acts() == []
    assert await stored(sam) == sam


@pytest.mark.parametrize(("method", "path", "body"), [route for route in ROUTES if "{id}" in route[1]])
async def test_who_is_unknown_is_not_found(
    admin: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    expected = "invitation_not_found" if "invitations" in path else "user_not_found"
    assert refusal(await admin.request(method, path.format(id=NOBODY), json=body)) == (404, expected)
    assert (await admin.request(method, path.format(id="nobody"), json=body)).status_code == 404


async def test_who_is_made_with_a_password_signs_in_and_gets_no_mail(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, ada: User, accounts: Accounts
) -> None:
    response = await admin.post("/users", json=NIA | {"password": PASSWORD})
    assert response.status_code == 201, response.text
    made = response.json()
    user = await User.by_email("nia@school.example")
    assert user is not None
    assert made == {
        "id": str(user.id),
        "email": "nia@school.example",
        "full_name": "Nia Okafor",
        "role": "instructor",
        "verified": True,
        "active": True,
        "locale": "en",
        "time_zone": "UTC",
        "created_at": made["created_at"],
    }
    assert response.headers["location"] == f"/api/v1/users/{user.id}"
    shown = await admin.get(response.headers["location"].removeprefix("/api/v1"))
    assert (shown.json(), shown.headers["etag"]) == (made, response.headers["etag"])
    assert (await sign_in(client, user)).body["user"]["role"] == "instructor"
    assert await Event.find({"kind": {"$ne": "audit"}}).count() == 0
    assert (await acts())[0] == (Act.USER_CREATED, str(ada.id), {"role": "instructor"})


async def test_who_is_made_without_a_password_chooses_one_by_mail(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    assert (await admin.post("/users", json=NIA)).json()["verified"] is False
    await deliver_all(settings, smtp_sink)
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == ("nia@school.example", "Your account at Open School")
    assert "for 7 days" in text_of(mail)
    user = await User.by_email("nia@school.example")
    assert user is not None
    assert (await sign_in(client, user)).response.status_code == 401
    body = {"token": token_in(mail), "password": PASSWORD}
    assert (await client.post("/auth/reset-password", json=body)).status_code == 200
    assert refusal(await client.post("/auth/reset-password", json=body)) == (422, "link_refused")
    assert (await sign_in(client, user)).body["user"]["verified"] is True


async def test_an_address_has_one_account(admin: httpx.AsyncClient, sam: User, settings: Settings) -> None:
    response = await admin.post("/users", json=NIA | {"email": " SAM@school.example"})
    assert refusal(response) == (409, "address_taken")
    assert response.json()["user_id"] == str(sam.id)
    bodies = [NIA | {"full_name": f"Nia {n}"} for n in range(8)]
    answers = await asyncio.gather(*(admin.post("/users", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    (made,) = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert {answer.json()["user_id"] for answer in answers if answer.status_code == 409} == {made}
    assert await User.find({"email": "nia@school.example"}).count() == 1
    assert await Event.find({"kind": "user.created"}).count() == 1


async def test_the_same_key_makes_one_account(admin: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await admin.post("/users", json=NIA, headers=headers)
    again = await admin.post("/users", json=NIA, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert await Event.find({"kind": "user.created"}).count() == 1


@pytest.mark.parametrize(
    ("wrong", "pointer", "code"),
    [
        ({"email": "nia"}, "#/email", "invalid"),
        ({"full_name": " "}, "#/full_name", "invalid"),
        ({"role": "owner"}, "#/role", "invalid"),
        ({"password": "short"}, "#/password", "invalid"),
        ({"password": "password1"}, "#/password", "common_password"),
        ({"active": False}, "#/active", "unknown_field"),
    ],
)
async def test_nobody_is_made_of_bad_fields(
    admin: httpx.AsyncClient, wrong: dict[str, Any], pointer: str, code: str
) -> None:
    response = await admin.post("/users", json=NIA | wrong)
    assert response.status_code == 422
    assert [(error["pointer"], error["code"]) for error in response.json()["errors"]] == [(pointer, code)]
    assert await User.count() == 1


async def test_several_fields_change_together_each_act_written_down(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, ada: User, accounts: Accounts
) -> None:
    sam = await a_person(accounts, "Sam")
    phone = await sign_in(client, sam)
    await Event.find_all().delete()
    changes = {"full_name": " Zoë Łuk ", "role": "instructor", "active": False, "locale": "PT-br", "verified": True}
    response = await admin.patch(f"/users/{sam.id}", json=changes)
    assert response.status_code == 200, response.text
    changed = changes | {"full_name": "Zoë Łuk", "locale": "pt-BR"}
    assert {name: response.json()[name] for name in changes} == changed
    assert response.headers["etag"] == '"1"'
    assert await me(client, phone) == 401
    assert await SignIn.find({"user_id": sam.id, "ended_at": None}).count() == 0
    assert await acts() == [
        (Act.ROLE_CHANGED, str(ada.id), {"role_before": "student", "role": "instructor"}),
        (Act.DEACTIVATED, str(ada.id), {}),
        (Act.PROFILE_CHANGED, str(ada.id), {"fields": "full_name locale verified", "verified": True}),
    ]
    assert (await stored(sam)).search == ["sam@school.example", "zoe", "luk"]
    # Nothing differs: nothing is written, nobody is signed out.
    again = await admin.patch(f"/users/{sam.id}", json=changes)
    assert (again.json(), again.headers["etag"]) == (response.json(), '"1"')
    assert len(await acts()) == 3


async def test_of_several_fields_a_bad_one_changes_none(admin: httpx.AsyncClient, sam: User, ada: User) -> None:
    changes = {"full_name": "Samuel", "active": False, "time_zone": "Lisbon"}
    assert (await admin.patch(f"/users/{sam.id}", json=changes)).status_code == 422
    for unknown in ({"email": "samuel@school.example"}, {"rev": 1}, {"role": None}, {"active": "no"}):
        assert (await admin.patch(f"/users/{sam.id}", json={"full_name": "Samuel"} | unknown)).status_code == 422
    assert refusal(await admin.patch(f"/users/{ada.id}", json={"full_name": "Adah", "active": False}))[0] == 409
    assert (await stored(sam), await stored(ada)) == (sam, ada)
    assert await acts() == []


async def test_a_change_of_what_was_not_seen_is_told(admin: httpx.AsyncClient, sam: User) -> None:
    tag = (await admin.get(f"/users/{sam.id}")).headers["etag"]
    assert tag == '"0"'
    first = await admin.patch(f"/users/{sam.id}", json={"active": False}, headers={"If-Match": tag})
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    late = await admin.patch(f"/users/{sam.id}", json={"role": "admin", "active": True}, headers={"If-Match": tag})
    assert refusal(late) == (412, "revision_mismatch")
    assert (late.headers["etag"], late.json()["current"]) == ('"1"', {"role": "student", "active": False})
    assert (await admin.get(f"/users/{sam.id}", headers={"If-None-Match": '"1"'})).status_code == 304


async def test_nobody_takes_away_their_own_way_in(admin: httpx.AsyncClient, ada: User) -> None:
    await a_user("Oscar", Role.ADMIN).insert()
    for changes in ({"active": False}, {"role": "student"}, {"active": True, "full_name": "Ada"}):
        assert refusal(await admin.patch(f"/users/{ada.id}", json=changes)) == (409, "own_access")
    assert (await admin.patch(f"/users/{ada.id}", json={"full_name": "Ada Lovelace"})).status_code == 200


@pytest.mark.parametrize("changes", [{"active": False}, {"role": "student"}])
async def test_of_two_administrators_who_remove_each_other_one_is_left(
    client_for: ClientFor, ada: User, changes: dict[str, Any]
) -> None:
    oscar = await a_user("Oscar", Role.ADMIN).insert()
    hers, his = await client_for(ada), await client_for(oscar)
    both = (hers.patch(f"/users/{oscar.id}", json=changes), his.patch(f"/users/{ada.id}", json=changes))
    answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (refused,) = [answer for answer in answers if answer.status_code == 409]
    assert refused.json()["code"] == "last_admin"
    assert await User.find({"role": "admin", "active": True}).count() == 1


async def test_of_ten_administrators_removed_by_each_other_one_is_left(ada: User) -> None:
    others = [await a_user(f"Admin {n}", Role.ADMIN).insert() for n in range(9)]
    everybody = [ada, *others]
    pairs = zip(everybody, [*others, ada], strict=True)
    done = await asyncio.gather(
        *(change_role(who.id, Role.STUDENT, by=by.id) for who, by in pairs), return_exceptions=True
    )
    assert [type(one) for one in done if one is not True] == [LastAdmin]
    assert await User.find({"role": "admin", "active": True}).count() == 1


async def test_one_who_is_kept_out_does_not_count_and_an_operator_is_not_held_up(ada: User) -> None:
    oscar = await a_user("Oscar", Role.ADMIN, active=False).insert()
    with pytest.raises(LastAdmin):
        await set_active(ada.id, active=False, by=oscar.id)
    # Who is kept out already takes nothing away.
    assert await change_role(oscar.id, Role.STUDENT, by=ada.id)
    assert await set_active(ada.id, active=False)


async def test_a_role_counts_for_the_next_request(client: httpx.AsyncClient, ada: User, accounts: Accounts) -> None:
    boss = await a_person(accounts, "Oscar", role=Role.ADMIN)
    signed = await sign_in(client, boss)
    assert (await client.get("/users", headers=signed.header)).status_code == 200
    assert await change_role(boss.id, Role.STUDENT, by=ada.id)
    accounts.verdicts.forget((await SignIn.find_one({"user_id": boss.id})).id)  # pyright: ignore[reportOptionalMemberAccess]
    assert (await client.get("/users", headers=signed.header)).status_code == 401


async def test_enrolments_of_a_person_are_listed_as_their_own_are(
    admin: httpx.AsyncClient, client_for: ClientFor, sam: User, stella: User, ivy: User
) -> None:
    courses = [await a_course(ivy.id, title).insert() for title in ("Tides", "Dunes", "Maps")]
    for student in (sam, stella):
        for course in courses:
            await Enrollment(student_id=student.id, course_id=course.id).insert()
    first = {"student_id": sam.id, "course_id": courses[0].id}
    await Enrollment.get_pymongo_collection().update_one(first, {"$set": {"status": "dropped"}})
    sams = await client_for(sam)
    for query in ({}, {"page_size": "2"}, {"cursor": "", "page_size": "2"}, {"status": "dropped"}, {"page": "2"}):
        mine = await sams.get("/enrollments", params=query)
        assert (await admin.get(f"/users/{sam.id}/enrollments", params=query)).json() == mine.json()
    dropped = (await admin.get(f"/users/{sam.id}/enrollments", params={"status": "dropped"})).json()
    assert [one["course"]["title"] for one in dropped["items"]] == ["Tides"]
    by_course = {"course_id": str(courses[2].id), "status": EnrollmentStatus.ACTIVE.value}
    assert (await admin.get(f"/users/{sam.id}/enrollments", params=by_course)).json()["total"] == 1
    assert (await admin.get(f"/users/{ivy.id}/enrollments")).json()["items"] == []


async def test_an_own_change_of_name_is_written_down_without_names_in_the_entry(
    client_for: ClientFor, sam: User, commands: Commands
) -> None:
    sams = await client_for(sam)
    assert (await sams.patch("/users/me", json={"full_name": "Samuel Okafor"})).status_code == 200
    assert await acts() == [(Act.PROFILE_CHANGED, str(sam.id), {"fields": "full_name"})]
    (event,) = await Event.find({"kind": "audit"}).to_list()
    assert list(event.data["sealed"]) == [str(sam.id)]
    assert "Samuel" not in str(event.data)
    assert (await stored(sam)).search == ["sam@school.example", "samuel", "okafor"]


async def test_a_password_nobody_knows_is_no_hole(admin: httpx.AsyncClient, settings: Settings) -> None:
    await admin.post("/users", json=NIA)
    user = await User.by_email("nia@school.example")
    assert user is not None
    passwords = Passwords(settings)
    for guess in ("", "None", NIA["email"], user.password_hash):
        assert not await passwords.check(guess, user.password_hash)
    passwords.close()


async def test_an_administrator_ends_all_sessions_of_a_person(
    client_for: ClientFor, ada: User, sam: User, stella: User, settings: Settings
) -> None:
    phone, laptop, other = await client_for(sam), await client_for(sam), await client_for(stella)
    administrator = await client_for(ada)
    assert (await administrator.post(f"/users/{sam.id}/logout-all")).json() == {"status": "signed_out"}
    told = [(await one.get("/users/me")).status_code for one in (phone, laptop, other, administrator)]
    assert told == [401, 401, 200, 200]
    assert (await administrator.post(f"/users/{uuid4()}/logout-all")).status_code == 404
    (entry,) = await append_all(settings)
    assert (entry.act, entry.actor, entry.target_id) == (Act.ALL_SIGNED_OUT, str(ada.id), str(sam.id))
