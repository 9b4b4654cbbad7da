from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from lms.accounts import delivery, queries
from lms.accounts.rules import (
    BadCredentials,
    CommonPassword,
    CsrfHeaderMissing,
    NotVerified,
    OriginRefused,
    RefreshRefused,
    SessionNotFound,
    TooManyAttempts,
)
from lms.accounts.schemas import (
    Accepted,
    CodeAsked,
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
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, OptionalUser, requires, signed_out
from lms.errors import Unauthenticated
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
    @post(
        "/login",
        status_code=200,
        opt={
            "own_credentials": True,
            "errors": [BadCredentials, NotVerified, OriginRefused, TooManyAttempts],
            "rate_limit": "sign_in",
        },
    )
    async def login(
        self, request: Request[Any, Any, Any], data: JSONBody[Credentials], accounts: NamedDependency[Accounts]
    ) -> Response[Tokens | CodeAsked]:
        """Sign in; gives an access token and the first refresh token of a new session.

        Who has a second factor gets a `challenge_token` instead, for `POST auth/login/mfa`.

        After a few wrong passwords for one address the next try has to wait, twice as long each time.
        """
        delivery.check_delivery(request, accounts.settings, data.delivery)
        tokens = await accounts.sign_in(data)
        return delivery.answer_tokens(request, accounts.settings, tokens, data.delivery)

    # Nobody guesses at these, and a school behind one address refreshes at one hour: they count as its reads do.
    @post(
        "/refresh",
        status_code=200,
        opt={
            "own_credentials": True,
            "errors": [RefreshRefused, OriginRefused, CsrfHeaderMissing],
            "rate_limit": "reads",
        },
    )
    async def refresh(
        self, request: Request[Any, Any, Any], data: JSONBody[Refresh], accounts: NamedDependency[Accounts]
    ) -> Response[Tokens]:
        """Exchange a refresh token for its successor and a fresh access token.

        The token just rotated gives the same successor for a short while, since phones lose answers. Any older one ends
        the session. Browsers send `{}` and the cookie instead, with an `Origin` from the list and `X-LMS-CSRF: 1`.
        """
        token, goes_into = delivery.presented(request, accounts.settings, data)
        try:
            tokens = await accounts.refresh(token)
        except RefreshRefused as refused:
            delivery.forget(refused, request, accounts.settings)
            raise
        return delivery.answer_tokens(request, accounts.settings, tokens, goes_into)

    @post(
        "/logout",
        status_code=200,
        opt={"errors": [Unauthenticated, OriginRefused, CsrfHeaderMissing], "rate_limit": "writes", "restricted": True},
    )
    async def logout(
        self, request: Request[Any, Any, Any], viewer: OptionalUser, accounts: NamedDependency[Accounts]
    ) -> Response[SignedOut]:
        """End this session; its tokens stop working everywhere within a second.

        A browser whose access token has run out ends it by its cookie, with an `Origin` from the list and
        `X-LMS-CSRF: 1`.
        """
        kept = delivery.kept_token(request, accounts.settings)
        if viewer is not None:
            await accounts.sign_out(viewer)
        elif kept is None:
            raise signed_out(request)
        else:
            delivery.check_browser(request, accounts.settings)
            await accounts.sign_out_by(kept)
        return Response(SignedOut(), cookies=delivery.forgetting(request, accounts.settings))

    @post("/logout-all", status_code=200, guards=[requires(*ANYONE_SIGNED_IN)], opt={"rate_limit": "writes"})
    async def logout_all(
        self,
        request: Request[Any, Any, Any],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
        keep_current: KeepCurrent = False,
    ) -> Response[SignedOut]:
        """End all of the caller's sessions, this one included unless `keep_current` says otherwise."""
        await accounts.sign_out_everywhere(user, keep_current=keep_current)
        cookies = [] if keep_current else delivery.forgetting(request, accounts.settings)
        return Response(SignedOut(), cookies=cookies)

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
