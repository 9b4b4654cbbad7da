import re
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect

from lms.accounts.delivery import answer_tokens, check_delivery, host_only
from lms.accounts.rules import OriginRefused
from lms.accounts.schemas import CodeAsked, Tokens
from lms.accounts.service import Accounts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, requires
from lms.oidc import queries, service
from lms.oidc.provider import Providers
from lms.oidc.rules import IdentityNotFound, OidcCodeRefused, OidcProviderNotFound, OnlyWayIn, ReturnAddressRefused
from lms.oidc.schemas import Identities, OidcExchange, OidcProviderRead
from lms.settings import Settings
from lms.tokens import new_nonce

COOKIE_SECONDS = 600
_COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")

ReturnTo = Annotated[
    str,
    QueryParameter(
        min_length=1,
        max_length=2000,
        description="Where the app goes on: a path in the front end, or an address at one of the school's origins.",
    ),
]
AppChallenge = Annotated[
    str,
    QueryParameter(
        min_length=43,
        max_length=43,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="The SHA-256, in base64url, of a verifier that the app keeps.",
    ),
]
Prompt = Annotated[
    Literal["login", "select_account"] | None,
    QueryParameter(description="Have the provider ask anew who is there (a recent proof), or which account to use."),
]
Asked = Request[Any, Any, Any]


class OidcController(Controller):
    path = "/auth/oidc"
    tags = ["auth"]

    @get("/")
    async def list_oidc_providers(
        self, providers: NamedDependency[Providers], settings: NamedDependency[Settings]
    ) -> list[OidcProviderRead]:
        """The providers to sign in at; none where the school has configured none."""
        base = f"{settings.public_url}/api/v1/auth/oidc"
        return [
            OidcProviderRead(name=one.name, title=one.title, start_url=f"{base}/{one.name}/start")
            for one in providers.all()
        ]

    # Each one leaves a row behind, so that they are counted as sign-ins are.
    @get(
        "/{provider:str}/start",
        status_code=302,
        opt={"own_credentials": True, "errors": [OidcProviderNotFound, ReturnAddressRefused], "rate_limit": "auth"},
    )
    async def start_oidc_sign_in(
        self,
        request: Asked,
        provider: FromPath[str],
        return_to: ReturnTo,
        app_challenge: AppChallenge,
        providers: NamedDependency[Providers],
        settings: NamedDependency[Settings],
        prompt: Prompt = None,
    ) -> Redirect:
        """Send the browser to a provider, from where it comes back to `return_to`.

        There the fragment has `code` and `provider`, or `error` and `provider`. The code is exchanged within a minute,
        by the app that knows the verifier of `app_challenge`.
        """
        found = providers.named(provider)
        kept = request.cookies.get(_cookie_name(settings), "")
        cookie = kept if _COOKIE_VALUE.fullmatch(kept) else new_nonce()
        address = await service.start(
            settings, found, cookie, return_to=return_to, app_challenge=app_challenge, prompt=prompt
        )
        return _redirect(address, [_cookie(settings, cookie)])

    @get(
        "/{provider:str}/callback",
        status_code=302,
        opt={"own_credentials": True, "any_query": True, "errors": [OidcProviderNotFound], "rate_limit": "writes"},
    )
    async def finish_oidc_sign_in(
        self,
        request: Asked,
        provider: FromPath[str],
        providers: NamedDependency[Providers],
        accounts: NamedDependency[Accounts],
    ) -> Redirect:
        """Where providers send the browser back to: no app calls this.

        Takes what RFC 6749, RFC 9207 and OpenID Connect define, and whatever else a provider appends.
        """
        found = providers.named(provider)
        cookie = request.cookies.get(_cookie_name(accounts.settings), "")
        given = request.query_params
        query = {name: given.getall(name) for name in ("state", "code", "iss", "error") if name in given}
        return _redirect(await service.come_back(accounts, found, cookie, query))

    @post(
        "/{provider:str}/exchange",
        status_code=200,
        opt={"own_credentials": True, "errors": [OidcProviderNotFound, OidcCodeRefused, OriginRefused]},
    )
    async def exchange_oidc_code(
        self,
        request: Asked,
        provider: FromPath[str],
        data: JSONBody[OidcExchange],
        providers: NamedDependency[Providers],
        accounts: NamedDependency[Accounts],
    ) -> Response[Tokens | CodeAsked]:
        """Exchange the code that came back for tokens; works once, and for a minute.

        Who has a second factor here gets a `challenge_token`, as at `POST auth/login`, unless the provider has asked
        for one and the school trusts it in that. It is a proof of who one is, as `POST auth/prove` is, of the time that
        the provider tells; send the browser with `prompt=login` for one of now.
        """
        check_delivery(request, accounts.settings, data.delivery)
        answer = await service.exchange(accounts, providers.named(provider), data)
        return answer_tokens(request, accounts.settings, answer, data.delivery)


class IdentityController(Controller):
    path = "/users/me/identities"
    tags = ["users"]
    guards = [requires(*ANYONE_SIGNED_IN)]

    @get("/")
    async def list_identities(self, user: CurrentUser, providers: NamedDependency[Providers]) -> Identities:
        """The providers that the caller can sign in at, oldest first."""
        return Identities(items=await queries.list_identities(user, providers.all()))

    @delete("/{identity_id:uuid}", opt={"errors": [IdentityNotFound, OnlyWayIn]})
    async def remove_identity(self, identity_id: FromPath[UUID], user: CurrentUser) -> None:
        """Sign in at this provider no more; 409 where there would be no way left.

        Whoever signs in there again is linked again, by the same address.
        """
        await service.unlink(user, identity_id)


def _cookie_name(settings: Settings) -> str:
    return host_only(settings, "lms_oidc")


def _cookie(settings: Settings, value: str) -> Cookie:
    # Lax: the way back from the provider is a navigation from another site.
    return Cookie(
        key=_cookie_name(settings),
        value=value,
        max_age=COOKIE_SECONDS,
        path="/",
        secure=settings.has_https,
        httponly=True,
        samesite="lax",
    )


def _redirect(address: str, cookies: list[Cookie] | None = None) -> Redirect:
    return Redirect(address, status_code=302, cookies=cookies)
