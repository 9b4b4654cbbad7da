from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from lms.accounts import delivery
from lms.accounts.rules import CommonPassword, OriginRefused, TooManyAttempts
from lms.accounts.schemas import Accepted, Tokens
from lms.accounts.service import Accounts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, OptionalUser, requires
from lms.recovery import asking, service
from lms.recovery.rules import AddressTaken, LinkRefused, NoPassword, SameAddress, WrongPassword
from lms.recovery.schemas import (
    EmailChange,
    EmailChangeConfirmation,
    EmailChangeState,
    EmailIsVerified,
    EmailVerification,
    PasswordChange,
    PasswordForgotten,
    PasswordIsSet,
    PasswordReset,
    VerificationRequest,
)
from lms.second_factor.rules import ProofTooOld


class RecoveryController(Controller):
    path = "/auth"
    tags = ["auth"]

    @post("/verify-email/request", status_code=202)
    async def request_verification(
        self, data: JSONBody[VerificationRequest], accounts: NamedDependency[Accounts]
    ) -> Accepted:
        """Ask for another link that verifies an address, by mail.

        Known, unknown and verified addresses get the same answer. A new link ends the one before.
        """
        await asking.ask_to_verify(accounts, data.email)
        return Accepted()

    @post("/verify-email/confirm", status_code=200, opt={"errors": [LinkRefused]})
    async def verify_email(
        self, data: JSONBody[EmailVerification], viewer: OptionalUser, accounts: NamedDependency[Accounts]
    ) -> EmailIsVerified:
        """Verify an address with the token of a mailed link, which works once.

        Ends the sessions from before, which anybody may have begun who gave this address, except the one that asks.
        Without a session of the account it stays open who chose the password: a reset by mail, or a first sign-in at a
        provider, then also removes second factor, API keys and identities.
        """
        await service.verify_email(accounts, viewer, data.token)
        return EmailIsVerified()

    @post("/forgot-password", status_code=202)
    async def forgot_password(self, data: JSONBody[PasswordForgotten], accounts: NamedDependency[Accounts]) -> Accepted:
        """Ask for a link that resets the password, by mail.

        Known and unknown addresses get the same answer. A new link ends the one before.
        """
        await asking.forgot_password(accounts, data.email)
        return Accepted()

    @post("/reset-password", status_code=200, opt={"errors": [LinkRefused, CommonPassword]})
    async def reset_password(self, data: JSONBody[PasswordReset], accounts: NamedDependency[Accounts]) -> PasswordIsSet:
        """Set a new password with the token of a mailed link, which works once and for half an hour.

        The first link of an account that an administrator made works for days. Ends all sessions, and proves the
        address. Sign in with the new password afterwards.
        """
        await service.reset_password(accounts, data)
        return PasswordIsSet()

    @post(
        "/change-password",
        status_code=200,
        guards=[requires(*ANYONE_SIGNED_IN)],
        opt={"errors": [WrongPassword, NoPassword, ProofTooOld, CommonPassword, OriginRefused, TooManyAttempts]},
    )
    async def change_password(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[PasswordChange],
        user: CurrentUser,
        accounts: NamedDependency[Accounts],
    ) -> Response[Tokens]:
        """Change the caller's password; ends all other sessions.

        Who has a second factor must have proved recently who they are, at `POST auth/prove`.
        This session goes on with the tokens in the answer, which take the place of those from before: they are over.
        An app whose refresh token is in the cookie says `delivery: "cookie"` here as well.
        """
        delivery.check_delivery(request, accounts.settings, data.delivery)
        tokens = await service.change_password(accounts, user, data)
        return delivery.answer_tokens(request, accounts.settings, tokens, data.delivery)

    @post(
        "/change-email",
        status_code=202,
        guards=[requires(*ANYONE_SIGNED_IN)],
        opt={"errors": [WrongPassword, NoPassword, ProofTooOld, SameAddress, TooManyAttempts]},
    )
    async def change_email(
        self, data: JSONBody[EmailChange], user: CurrentUser, accounts: NamedDependency[Accounts]
    ) -> Accepted:
        """Ask for another address; links go to the old and to the new one, and both have to be followed.

        Who has a second factor must have proved recently who they are, at `POST auth/prove`.
        New addresses that somebody has get the same answer, and a mail that says so.
        """
        await service.change_email(accounts, user, data)
        return Accepted()

    @post("/change-email/confirm", status_code=200, opt={"errors": [LinkRefused, AddressTaken]})
    async def confirm_email_change(
        self, data: JSONBody[EmailChangeConfirmation], viewer: OptionalUser
    ) -> EmailChangeState:
        """Confirm a change of address with the token of one of the two mailed links; the second one makes it."""
        return await service.confirm_email_change(viewer, data.token)
