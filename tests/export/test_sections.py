"""What else is kept of a person: ways in, keys, and what they asked for. None of its secrets is given out."""

from datetime import timedelta
from uuid import UUID

import pytest
from beanie import Document

from lms.accounts.documents import Role, SignIn, SignInFailures, User
from lms.api_keys.documents import ApiKey, Scope
from lms.audit.documents import AuditDetails, AuditEntry, AuditKey
from lms.certificates.documents import Certificate, CertificatePdf
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStats
from lms.database import DOCUMENTS
from lms.enrollments.documents import Enrollment
from lms.erasure.tasks import THEIRS
from lms.export.schemas import PersonExport
from lms.oidc.documents import Identity, OidcCode, OidcStart
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.schemas import Moment
from lms.second_factor.documents import SignInChallenge, Totp
from lms.users.documents import Invitation
from lms.web.idempotency import IdempotencyRecord
from tests.conftest import ClientFor
from tests.export.test_export import MINE, exported

NOBODY = {"id", "revision_id", "course_id", "event_id", "ticket"}
"""Ids of other things than people. An `id` that is a person's is named below by itself."""
BY_OTHER_NAMES = {"actor", "target_id", "sealed", "email"}
"""Fields that tell who it is and are no UUIDs."""
EXPORTED: dict[type[Document], str] = {
    SignIn: "sessions",
    ApiKey: "api_keys",
    MailedLink: "email_change",
    Invitation: "invitations",
    Identity: "identities",
    Course: "courses",
    Enrollment: "enrollments",
    Certificate: "certificates",
    AuditEntry: "audit",
    AuditDetails: "audit",
    User: "profile",
}
NOT_EXPORTED: dict[type[Document], str] = {
    SignInChallenge: "the first half of a sign-in, for minutes",
    OidcCode: "the last step of a sign-in, for a minute",
    IdempotencyRecord: "copies of answers, for a day; what they tell of is exported",
}
ERASED_OTHERWISE: dict[type[Document], str] = {
    User: "at once, by lms.erasure.service.erase",
    Invitation: "to them: at once by the same; by them: it is void, and gone within its days",
    Course: "owners cannot be erased, _leave_courses takes out who helps",
    Enrollment: "_leave_enrollments",
    Certificate: "_leave_enrollments, which takes the name out",
    SignInChallenge: "ends by itself within minutes",
    OidcCode: "ends by itself within a minute",
    AuditEntry: "a chain of ids, which stay",
    AuditDetails: "cannot be read without the key, which goes",
}
WITHOUT: set[type[Document]] = {SignInFailures, OidcStart, CourseStats, CertificatePdf, Event, AuditKey}
"""No field that names a person. Keyed hashes; what is gone in minutes; numbers; a certificate's print, which its PDF
route gives; jobs; and keys, which erasing removes."""


def names_people(document: type[Document]) -> set[str]:
    fields = document.model_fields.items()
    return {
        name for name, one in fields if name not in NOBODY and ("UUID" in str(one.annotation) or name in BY_OTHER_NAMES)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.__name__)
def test_whatever_names_a_person_is_exported_and_erased_or_says_why_not(document: type[Document]) -> None:
    exported_as, erased = EXPORTED.get(document), {one for one, _ in THEIRS} | ERASED_OTHERWISE.keys()
    if document in WITHOUT:
        assert names_people(document) == set()
        return
    assert names_people(document)
    assert (exported_as in PersonExport.__struct_fields__) is (document not in NOT_EXPORTED)
    assert document in erased
    for theirs, field in THEIRS:
        assert field in theirs.model_fields


async def test_ways_in_and_keys_come_out_without_their_secrets(client_for: ClientFor, ivy: User, oscar: User) -> None:
    now = utc_now()
    later = now + timedelta(days=7)
    for owner, name in ((ivy, "Backups"), (oscar, "Not hers")):
        key = ApiKey(owner_id=owner.id, name=name, scopes=[Scope.COURSES_READ], digest="the-digest", expires_at=later)
        await key.insert()
        await Identity(issuer="https://id.example", subject=f"{name}-1", user_id=owner.id, provider="school").insert()
    totp = Totp(secret=b"the-secret", last_step=1, recovery_codes=["the-code", "the-other"], enabled_at=now)
    await User.get_pymongo_collection().update_one({"_id": ivy.id}, {"$set": {"totp": totp.model_dump()}})
    client = await client_for(ivy)
    found = await exported(client)
    [key] = found["api_keys"]
    assert UUID(key.pop("id"))
    assert key == {
        "name": "Backups",
        "scopes": ["courses:read"],
        "created_at": key["created_at"],
        "expires_at": Moment.of(later),
        "last_used_at": None,
        "revoked_at": None,
    }
    [identity] = found["identities"]
    told = (identity["provider"], identity["issuer"], identity["subject"])
    assert told == ("school", "https://id.example", "Backups-1")
    assert found["second_factor"] == {"enabled_at": Moment.of(now), "recovery_codes_left": 2}
    text = (await client.get(MINE)).text
    for secret in ("the-digest", "the-secret", "the-code", "the-other", "Not hers"):
        assert secret not in text


async def test_what_one_asked_for_comes_out_and_names_nobody_else(client_for: ClientFor, ada: User, sam: User) -> None:
    later = utc_now() + timedelta(days=1)
    for by in (ada.id, sam.id):
        invited = Invitation(
            email=f"nia-{by}@school.example", full_name="Nia", role=Role.ADMIN, invited_by=by, expires_at=later
        )
        await invited.insert()
    link = MailedLink(
        id=link_id(Purpose.CHANGE_EMAIL, ada.id),
        purpose=Purpose.CHANGE_EMAIL,
        digests=["the-digest"],
        user_id=ada.id,
        email="ada@new.example",
        password_rev=0,
        expires_at=later,
    )
    await link.insert()
    found = await exported(await client_for(ada))
    assert found["email_change"] == {"new_email": "ada@new.example", "expires_at": Moment.of(later)}
    [sent] = found["invitations"]
    assert sent == {"role": "admin", "created_at": sent["created_at"], "expires_at": Moment.of(later)}
    text = str(found)
    assert "nia-" not in text
    assert "the-digest" not in text
