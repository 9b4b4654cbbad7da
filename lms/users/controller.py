from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import Role, User
from lms.accounts.rules import CommonPassword, LastAdmin, RoleNeedsVerified, UserNotFound
from lms.accounts.schemas import SignedOut
from lms.accounts.service import Accounts
from lms.auth import CurrentUser, proved_recently, requires
from lms.enrollments.documents import EnrollmentStatus
from lms.enrollments.queries import list_enrollments
from lms.enrollments.schemas import EnrollmentSummary
from lms.recovery.rules import AddressTaken, LinkRefused
from lms.transactions import Session
from lms.users import queries, service
from lms.users.rules import InvitationNotFound, InvitedTooOften, OwnAccess
from lms.users.schemas import (
    InvitationAccept,
    InvitationAccepted,
    InvitationCreate,
    InvitationRead,
    PersonCreate,
    PersonRead,
    PersonUpdate,
)
from lms.web.etags import if_match, strong_tag
from lms.web.idempotency import Answer, Effect, Once
from lms.web.lists import CursorPage, Page, Paging, answer_list

PEOPLE = "/api/v1/users"
SearchText = Annotated[
    str | None,
    QueryParameter(
        name="search",
        min_length=1,
        max_length=100,
        description="Beginnings of words of the name, or of the address; case and accents do not matter.",
    ),
]
Active = Annotated[bool | None, QueryParameter(name="active", description="Only who is let in, or who is kept out.")]


class UserController(Controller):
    path = "/users"
    tags = ["users"]
    guards = [requires(Role.ADMIN)]

    @get("/")
    async def list_users(
        self,
        request: Request[Any, Any, Any],
        paging: NamedDependency[Paging],
        search: SearchText = None,
        role: FromQuery[Role | None] = None,
        active: Active = None,
    ) -> Response[Page[PersonRead] | CursorPage[PersonRead]]:
        """All people, newest first. A search looks at the first 5,000 who have its longest word."""
        items, total, cursor = await queries.list_people(role, active, search, paging)
        return answer_list(request, paging, items, total, cursor)

    @post(
        "/",
        status_code=201,
        guards=[proved_recently],
        opt={"idempotent": True, "errors": [AddressTaken, CommonPassword]},
    )
    async def create_user(
        self,
        data: JSONBody[PersonCreate],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
        once: NamedDependency[Once],
    ) -> Response[PersonRead]:
        """Make a person an account, who gets a mail with a link to choose a password unless one is given."""
        person = await service.new_person(accounts, data)

        async def create(session: Session) -> Answer:
            await service.create_person(person, accounts.settings, user.id, session)
            headers = {"Location": f"{PEOPLE}/{person.id}", "ETag": strong_tag(person.rev)}
            return Answer(PersonRead.of(person), 201, headers, about=person.id)

        return await _settled(once, create)

    @get("/{user_id:uuid}", opt={"conditional": True, "errors": [UserNotFound]})
    async def get_user(self, user_id: FromPath[UUID]) -> Response[PersonRead]:
        """A person."""
        raw = await queries.person(user_id)
        if raw is None:
            raise UserNotFound
        return Response(PersonRead.from_raw(raw), headers={"ETag": strong_tag(raw.get("rev", 0))})

    @post("/{user_id:uuid}/logout-all", status_code=200, opt={"errors": [UserNotFound]})
    async def end_user_sessions(
        self, user_id: FromPath[UUID], user: CurrentUser, accounts: NamedDependency[Accounts]
    ) -> SignedOut:
        """End all of a person's sessions, everywhere within a second. Who is to stay out is kept out by `active`."""
        await accounts.sign_out_person(user_id, user.id)
        return SignedOut()

    @patch(
        "/{user_id:uuid}",
        guards=[proved_recently],
        opt={"conditional": True, "errors": [UserNotFound, LastAdmin, OwnAccess, RoleNeedsVerified]},
    )
    async def update_user(
        self,
        request: Request[Any, Any, Any],
        user_id: FromPath[UUID],
        data: JSONBody[PersonUpdate],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
    ) -> Response[PersonRead]:
        """Change what is named, all of it or nothing.

        Another role ends the person's access tokens within a second, `active: false` their sessions. There is always
        an active administrator left, and nobody does either to themselves. Whose address is not verified becomes
        neither instructor nor administrator, unless `verified: true` vouches for it in the same request.
        """
        changed = await service.change_person(accounts, user, user_id, data, if_match(request))
        return _shown(changed)

    @get("/{user_id:uuid}/enrollments", opt={"errors": [UserNotFound]})
    async def list_user_enrollments(
        self,
        request: Request[Any, Any, Any],
        user_id: FromPath[UUID],
        paging: NamedDependency[Paging],
        status: FromQuery[EnrollmentStatus | None] = None,
        course_id: FromQuery[UUID | None] = None,
    ) -> Response[Page[EnrollmentSummary] | CursorPage[EnrollmentSummary]]:
        """A person's enrolments, newest first."""
        if await queries.person(user_id) is None:
            raise UserNotFound
        given = {"status": status.value if status else None, "course_id": course_id}
        wanted = {"student_id": user_id} | {name: value for name, value in given.items() if value is not None}
        items, total, cursor = await list_enrollments(wanted, paging)
        return answer_list(request, paging, items, total, cursor)

    @get("/invitations")
    async def list_invitations(
        self, request: Request[Any, Any, Any], paging: NamedDependency[Paging]
    ) -> Response[Page[InvitationRead] | CursorPage[InvitationRead]]:
        """Invitations that are open, newest first."""
        items, total, cursor = await queries.list_invitations(paging)
        return answer_list(request, paging, items, total, cursor)

    @post(
        "/invitations",
        status_code=202,
        guards=[proved_recently],
        opt={"idempotent": True, "errors": [AddressTaken, InvitedTooOften]},
    )
    async def invite_user(
        self,
        data: JSONBody[InvitationCreate],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
        once: NamedDependency[Once],
    ) -> Response[InvitationRead]:
        """Mail somebody a link that gives them an account with this role.

        It works once and for a week. Inviting an address again replaces the invitation before.
        """
        await service.check_invited_seldom(accounts, data.email)

        async def invite(session: Session) -> Answer:
            invitation = await service.invite(data, accounts.settings, user.id, session)
            body = queries.shown_invitation(invitation.as_stored(), await queries.person(user.id))
            return Answer(body, 202, {"Location": f"{PEOPLE}/invitations/{body.id}"}, about=body.id)

        return await _settled(once, invite)

    @get("/invitations/{invitation_id:uuid}", opt={"errors": [InvitationNotFound]})
    async def get_invitation(self, invitation_id: FromPath[UUID]) -> InvitationRead:
        """An open invitation."""
        found = await queries.invitation(invitation_id)
        if found is None:
            raise InvitationNotFound
        return found

    @delete("/invitations/{invitation_id:uuid}", opt={"errors": [InvitationNotFound]})
    async def withdraw_invitation(self, invitation_id: FromPath[UUID], user: CurrentUser) -> None:
        """Take an invitation back; its link stops working."""
        await service.withdraw(invitation_id, user)


@post(
    "/auth/invitations/accept",
    status_code=200,
    tags=["auth"],
    opt={"errors": [LinkRefused, AddressTaken, CommonPassword]},
)
async def accept_invitation(
    data: JSONBody[InvitationAccept], accounts: NamedDependency[Accounts]
) -> InvitationAccepted:
    """Make an account by the token of a mailed invitation, which works once. Sign in with it afterwards."""
    return InvitationAccepted(email=(await service.accept(accounts, data)).email)


def _shown(user: User) -> Response[PersonRead]:
    return Response(PersonRead.of(user), headers={"ETag": strong_tag(user.rev)})


async def _settled(once: Once, effect: Effect) -> Response[Any]:
    try:
        return await once.run(effect)
    except DuplicateKeyError:
        # Two met over one address; the other one is committed now, and found.
        return await once.run(effect)
