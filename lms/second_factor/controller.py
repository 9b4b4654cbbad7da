from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from lms.accounts.delivery import AnyRequest, answer_tokens, check_delivery
from lms.accounts.rules import NotVerified, OriginRefused
from lms.accounts.schemas import Tokens
from lms.accounts.service import Accounts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, proved_recently, requires
from lms.recovery.rules import NoPassword, WrongPassword
from lms.second_factor import proving, service
from lms.second_factor.rules import (
    ChallengeRefused,
    NoSecondFactor,
    NothingToConfirm,
    ProofTooOld,
    RoleNeedsFactor,
    TooManyCodes,
    WrongCode,
)
from lms.second_factor.schemas import (
    FreshRecoveryCodes,
    Proof,
    Proved,
    SecondFactorOn,
    SecondFactorState,
    SignInCode,
    TotpConfirmation,
    TotpSecret,
    TotpStart,
)

SIGNED_IN = requires(*ANYONE_SIGNED_IN)


class SecondFactorController(Controller):
    path = "/auth"
    tags = ["auth"]

    @post(
        "/login/mfa",
        status_code=200,
        opt={"own_credentials": True, "errors": [ChallengeRefused, WrongCode, TooManyCodes, OriginRefused]},
    )
    async def login_with_code(
        self, request: AnyRequest, data: JSONBody[SignInCode], accounts: NamedDependency[Accounts]
    ) -> Response[Tokens]:
        """Finish a sign-in with a code of the authenticator app, or a recovery code.

        A challenge takes five codes. After five wrong codes in a row, over all sign-ins, the account takes no more for
        a minute, then two, and so on to a quarter of an hour after each; a right one begins anew.
        """
        check_delivery(request, accounts.settings, data.delivery)
        tokens = await proving.finish_sign_in(accounts, data)
        return answer_tokens(request, accounts.settings, tokens, data.delivery)

    @get("/mfa", guards=[SIGNED_IN], opt={"restricted": True})
    async def second_factor(self, user: CurrentUser, accounts: NamedDependency[Accounts]) -> SecondFactorState:
        """Whether the caller has a second factor, and must have one."""
        return await service.state_of(accounts, user)

    @post(
        "/mfa/totp",
        status_code=200,
        guards=[SIGNED_IN],
        opt={"restricted": True, "errors": [WrongPassword, NotVerified, ProofTooOld]},
    )
    async def begin_totp(
        self, data: JSONBody[TotpStart], user: CurrentUser, accounts: NamedDependency[Accounts]
    ) -> TotpSecret:
        """Begin to set up an authenticator app: gives the secret to scan, for this session to confirm.

        Who has one already sets up another in its place, and must have proved recently who they are. So must who has no
        password to give: a sign-in at a provider with `prompt=login` does.
        """
        return await service.begin(accounts, user, data.current_password)

    @post(
        "/mfa/totp/confirm",
        status_code=200,
        guards=[SIGNED_IN],
        opt={"restricted": True, "errors": [NothingToConfirm, WrongCode, OriginRefused]},
    )
    async def confirm_totp(
        self,
        request: AnyRequest,
        data: JSONBody[TotpConfirmation],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
    ) -> Response[SecondFactorOn]:
        """Switch the authenticator app on with a code that it shows; ends all other sessions.

        Gives ten recovery codes, shown this once, and fresh tokens in the place of those of before.
        """
        check_delivery(request, accounts.settings, data.delivery)
        answer = await service.confirm(accounts, user, data.code)
        return answer_tokens(request, accounts.settings, answer, data.delivery)

    @delete("/mfa/totp", guards=[SIGNED_IN, proved_recently], opt={"errors": [NoSecondFactor, RoleNeedsFactor]})
    async def remove_totp(self, user: CurrentUser, accounts: NamedDependency[Accounts]) -> None:
        """Do without the authenticator app from now on; the recovery codes go with it.

        Prove who you are at `POST auth/prove` first, with the password and a code or a recovery code.
        """
        await service.remove(accounts, user)

    @post(
        "/mfa/recovery-codes",
        status_code=200,
        guards=[SIGNED_IN, proved_recently],
        opt={"errors": [NoSecondFactor]},
    )
    async def renew_recovery_codes(self, user: CurrentUser) -> FreshRecoveryCodes:
        """Have ten new recovery codes made, shown this once; those of before are void."""
        return await service.renew_recovery_codes(user)

    @post(
        "/prove",
        status_code=200,
        guards=[SIGNED_IN],
        opt={"errors": [WrongPassword, NoPassword, WrongCode, NoSecondFactor, TooManyCodes]},
    )
    async def prove(self, data: JSONBody[Proof], user: CurrentUser, accounts: NamedDependency[Accounts]) -> Proved:
        """Prove again who you are, which lets this session do dangerous things for some minutes.

        Takes the password and, from who has a second factor, a code or a recovery code. A sign-in is such a proof as
        well; refreshing is none. Who has no password signs in again at the provider, with `prompt=login`.
        """
        return await proving.prove(accounts, user, data)
