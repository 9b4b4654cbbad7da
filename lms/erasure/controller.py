from typing import Annotated, Literal
from uuid import UUID

from litestar import Controller, delete
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from lms.accounts.documents import Role
from lms.accounts.rules import LastAdmin, UserNotFound
from lms.accounts.service import Accounts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, proved_recently, requires
from lms.erasure.rules import OwnsCourses
from lms.erasure.service import erase
from lms.errors import Unauthenticated

Confirmed = Annotated[
    Literal["erase"], QueryParameter(name="confirm", description="The word `erase`: there is no way back.")
]


class ErasureController(Controller):
    path = "/users"
    tags = ["users"]

    @delete("/me", guards=[requires(*ANYONE_SIGNED_IN), proved_recently], opt={"errors": [OwnsCourses, LastAdmin]})
    async def erase_me(self, user: CurrentUser, accounts: NamedDependency[Accounts], confirm: Confirmed) -> None:
        """Erase the caller: account, sessions, progress and all else that is theirs, for good.

        Certificates can still be verified by their numbers, but name nobody. Who owns courses gets a 409 with their
        ids. `GET users/me/export` gives everything out before.
        """
        _ = confirm
        try:
            accounts.forget(await erase(user.id, by=user.id))
        except UserNotFound:
            # Asked twice at once, and the other request was first.
            raise Unauthenticated from None

    @delete(
        "/{user_id:uuid}",
        guards=[requires(Role.ADMIN), proved_recently],
        opt={"errors": [UserNotFound, OwnsCourses, LastAdmin]},
    )
    async def erase_user(
        self, user_id: FromPath[UUID], user: CurrentUser, accounts: NamedDependency[Accounts], confirm: Confirmed
    ) -> None:
        """Erase a person, as they can themselves at `users/me`."""
        _ = confirm
        accounts.forget(await erase(user_id, by=user.id))
