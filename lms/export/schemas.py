"""What a person gets out of the system about themselves."""

from typing import Literal
from uuid import UUID

from lms.accounts.documents import Role
from lms.api_keys.documents import Scope
from lms.audit.documents import Act
from lms.certificates.documents import CertificateStatus
from lms.courses.documents import CourseStatus
from lms.enrollments.documents import EnrollmentStatus
from lms.enrollments.schemas import LessonProgressRead
from lms.schemas import Moment, Output


class ExportedProfile(Output):
    id: UUID
    email: str
    full_name: str
    role: Role
    active: bool
    verified: bool
    locale: str
    time_zone: str
    created_at: Moment


class ExportedSession(Output):
    """A sign-in: the device as it named itself, the address it came from. What proves it is not given out."""

    id: UUID
    created_at: Moment
    refreshed_at: Moment
    expires_at: Moment
    ended_at: Moment | None
    methods: list[str]
    user_agent: str
    address: str


class ExportedSecondFactor(Output):
    """That there is one. What it proves with is not given out."""

    enabled_at: Moment
    recovery_codes_left: int


class ExportedEmailChange(Output):
    """A change of address that was asked for and not yet confirmed."""

    new_email: str
    expires_at: Moment


class ExportedIdentity(Output):
    """What the person is called at a provider that they sign in at."""

    provider: str
    issuer: str
    subject: str
    created_at: Moment


class ExportedApiKey(Output):
    id: UUID
    name: str
    scopes: list[Scope]
    created_at: Moment
    expires_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None


class ExportedInvitation(Output):
    """One that the person sent and that is open. Who was invited is another person."""

    role: Role
    created_at: Moment
    expires_at: Moment


class ExportedCourse(Output):
    """A course that the person owns or helps to teach."""

    id: UUID
    title: str
    slug: str
    status: CourseStatus
    part: Literal["owner", "co_instructor"]


class ExportedReport(Output):
    """From which report a lesson's position or data comes."""

    occurred_at: Moment
    device_id: str
    sequence: int


class ExportedLesson(LessonProgressRead):
    position_from: ExportedReport | None
    data_from: ExportedReport | None


class ExportedEnrollment(Output):
    """`course_title` is null where the course is gone."""

    id: UUID
    course_id: UUID
    course_title: str | None
    status: EnrollmentStatus
    percent: int
    enrolled_at: Moment
    last_activity_at: Moment | None
    completed_at: Moment | None
    grade: float | None
    progress: dict[str, ExportedLesson]


class ExportedCertificate(Output):
    """`pdf_path` is where the printed form is, for the person's own token."""

    id: UUID
    number: str
    name: str | None
    course_id: UUID
    course_title: str
    instructor_name: str
    issuer: str
    status: CertificateStatus
    issued_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    reason: str | None
    verify_url: str
    pdf_path: str


class ExportedAct(Output):
    """An act by or on the person. Who else took part is told as `somebody`; `about` is what was noted of the person."""

    at: Moment
    act: Act
    actor: Literal["you", "somebody", "operator", "system", "nobody"]
    target: Literal["you", "somebody"] | None
    facts: dict[str, str | int | bool]
    about: dict[str, str]


class PersonExport(Output):
    """Everything that is kept of a person. It is written while it is read: without `complete` at its end it broke off.

    No password, token or other secret is in it.
    """

    profile: ExportedProfile
    second_factor: ExportedSecondFactor | None
    email_change: ExportedEmailChange | None
    sessions: list[ExportedSession]
    identities: list[ExportedIdentity]
    api_keys: list[ExportedApiKey]
    invitations: list[ExportedInvitation]
    courses: list[ExportedCourse]
    enrollments: list[ExportedEnrollment]
    certificates: list[ExportedCertificate]
    audit: list[ExportedAct]
    exported_at: Moment
    complete: Literal[True]
