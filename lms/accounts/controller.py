from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from lms.accounts import queries
from lms.accounts.rules import BadCredentials, CommonPassword, NotVerified, RefreshRefused, SessionNotFound
from lms.accounts.schemas import (
    Accepted,
    Credentials,
    KeySet,
    PublicKey,
    Refresh,
    Registration,
    SessionRead,
    SignedOut,
    Tokens,
)
from lms.accounts.service import Accounts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, requires
from lms.web.lists import CursorPage, Page, Paging, answer_list

KEYS_KEPT_SECONDS = 3600
KeepCurrent = Annotated[
    bool, QueryParameter(name="keep_current", description="Leave the session that asks; end all the others.")
]


class AuthController(Controller):
    path = "/auth"
    tags = ["auth"]

    @post("/register", status_code=202, opt={"errors": [CommonPassword]})
    async def register(self, data: JSONBody[Registration], accounts: NamedDependency[Accounts]) -> Accepted:
        """Sign up as a student.

        New and known addresses get the same answer; a known one gets a mail that says so.
        """
        await accounts.register(data)
        return Accepted()

    # An app that still sends a token from before is not to be told about that one.
    @post("/login", status_code=200, opt={"own_credentials": True, "errors": [BadCredentials, NotVerified]})
    async def login(self, data: JSONBody[Credentials], accounts: NamedDependency[Accounts]) -> Tokens:
        """Sign in; gives an access token and the first refresh token of a new session."""
        return await accounts.sign_in(data)

    @post("/refresh", status_code=200, opt={"errors": [RefreshRefused], "rate_limit": "writes"})
    async def refresh(self, data: JSONBody[Refresh], accounts: NamedDependency[Accounts]) -> Tokens:
        """Exchange a refresh token for its successor and a fresh access token.

        The token just rotated gives the same successor for a short while, since phones lose answers. Any older one ends
        the session.
        """
        return await accounts.refresh(data.refresh_token)

    @post("/logout", status_code=200, guards=[requires(*ANYONE_SIGNED_IN)], opt={"rate_limit": "writes"})
    async def logout(self, user: CurrentUser, accounts: NamedDependency[Accounts]) -> SignedOut:
        """End this session; its tokens stop working everywhere within a second."""
        await accounts.sign_out(user)
        return SignedOut()

    @post("/logout-all", status_code=200, guards=[requires(*ANYONE_SIGNED_IN)], opt={"rate_limit": "writes"})
    async def logout_all(
        self, user: CurrentUser, accounts: NamedDependency[Accounts], keep_current: KeepCurrent = False
    ) -> SignedOut:
        """End all of the caller's sessions, this one included unless `keep_current` says otherwise."""
        await accounts.sign_out_everywhere(user, keep_current=keep_current)
        return SignedOut()

    @get("/sessions", guards=[requires(*ANYONE_SIGNED_IN)])
    async def list_sessions(
        self, request: Request[Any, Any, Any], user: CurrentUser, paging: NamedDependency[Paging]
    ) -> Response[Page[SessionRead] | CursorPage[SessionRead]]:
        """The caller's own sessions that still stand, newest first."""
        items, total, cursor = await queries.list_sessions(user, paging)
        return answer_list(request, paging, items, total, cursor)

    @delete(
        "/sessions/{session_id:uuid}",
        guards=[requires(*ANYONE_SIGNED_IN)],
        opt={"errors": [SessionNotFound], "rate_limit": "writes"},
    )
    async def end_session(
        self, session_id: FromPath[UUID], user: CurrentUser, accounts: NamedDependency[Accounts]
    ) -> None:
        """End one of the caller's sessions; its tokens stop working everywhere within a second."""
        await accounts.end_session(user, session_id)


@get("/.well-known/jwks.json", tags=["public"], media_type="application/jwk-set+json")
async def get_public_keys(accounts: NamedDependency[Accounts]) -> Response[KeySet]:
    """The keys that access tokens can be verified with, by `kid`."""
    keys = [PublicKey(kid=key_id, x=x) for key_id, x in accounts.keys.published().items()]
    headers = {"Cache-Control": f"public, max-age={KEYS_KEPT_SECONDS}"}
    return Response(KeySet(keys=keys), media_type="application/jwk-set+json", headers=headers)
