from typing import Any

from litestar import Controller, Request, Response, get, patch
from litestar.params import JSONBody

from lms.accounts.documents import User
from lms.accounts.schemas import UserRead
from lms.api_keys.documents import Scope
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, requires
from lms.profile import service
from lms.profile.schemas import UserUpdate
from lms.web.etags import if_match, strong_tag


class ProfileController(Controller):
    path = "/users/me"
    tags = ["users"]
    guards = [requires(*ANYONE_SIGNED_IN)]

    @get("/", opt={"scope": Scope.PROFILE_READ, "restricted": True})
    async def get_me(self, user: CurrentUser) -> Response[UserRead]:
        """The signed-in person."""
        return _shown(await service.own_user(user))

    @patch("/", opt={"conditional": True})
    async def update_me(
        self, request: Request[Any, Any, Any], data: JSONBody[UserUpdate], user: CurrentUser
    ) -> Response[UserRead]:
        """Change name, language or time zone. Certificates keep the name that they were issued with.

        Address and password have routes of their own, which ask for the password.
        """
        return _shown(await service.update_profile(user, data, if_match(request)))


def _shown(user: User) -> Response[UserRead]:
    return Response(UserRead.of(user), headers={"ETag": strong_tag(user.rev)})
