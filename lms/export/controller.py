from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream

from lms.accounts.documents import Role
from lms.accounts.rules import UserNotFound
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, proved_recently, requires
from lms.errors import Unauthenticated
from lms.export.schemas import PersonExport
from lms.export.service import export
from lms.settings import Settings

STREAMED = {"streamed": True, "rate_limit": "exports"}
GIVEN = {200: ResponseSpec(PersonExport, description="The whole document.", generate_examples=False)}


class ExportController(Controller):
    path = "/users"
    tags = ["users"]

    @get("/me/export", guards=[requires(*ANYONE_SIGNED_IN), proved_recently], opt=STREAMED, responses=GIVEN)
    async def export_me(self, user: CurrentUser, settings: NamedDependency[Settings]) -> Stream:
        """Everything that is kept of the caller, as one JSON document that is written while it is read.

        Its last member is `complete`; where that is missing the connection broke, and the document is to be asked for
        again.
        """
        try:
            return await _answer(user.id, user.id, settings)
        except UserNotFound:
            raise Unauthenticated from None

    @get(
        "/{user_id:uuid}/export",
        guards=[requires(Role.ADMIN), proved_recently],
        opt={**STREAMED, "errors": [UserNotFound]},
        responses=GIVEN,
    )
    async def export_user(
        self, user_id: FromPath[UUID], user: CurrentUser, settings: NamedDependency[Settings]
    ) -> Stream:
        """Everything that is kept of a person, as they get it themselves at `users/me/export`."""
        return await _answer(user_id, user.id, settings)


async def _answer(person: UUID, by: UUID, settings: Settings) -> Stream:
    headers = {"Content-Disposition": f'attachment; filename="lms-export-{person}.json"', "Cache-Control": "no-store"}
    return Stream(await export(person, by, settings), media_type="application/json", headers=headers)
