"""What crosses HTTP about links in mails, forgotten passwords and changed addresses."""

from typing import Annotated, Literal

from msgspec import Meta

from lms.accounts.schemas import AnyPassword, Delivery, EmailText, NewPassword
from lms.schemas import Input, Output

LinkToken = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="What the link in the mail carries.",
        examples=["b1L5tVvJ0nq7mQ2cY8rKxw3ZfH6sDgE9uPaOiT4eWkM"],
    ),
]


class VerificationRequest(Input):
    email: EmailText


class EmailVerification(Input):
    token: LinkToken


class EmailIsVerified(Output):
    status: Literal["verified"] = "verified"


class PasswordForgotten(Input):
    email: EmailText


class PasswordReset(Input):
    token: LinkToken
    password: NewPassword


class PasswordChange(Input):
    current_password: AnyPassword
    new_password: NewPassword
    delivery: Delivery = "body"


class EmailChange(Input):
    new_email: EmailText
    current_password: AnyPassword


class EmailChangeConfirmation(Input):
    token: LinkToken


class PasswordIsSet(Output):
    status: Literal["password_set"] = "password_set"


class EmailChangeState(Output):
    """`waiting`: the other address has not confirmed yet."""

    status: Literal["waiting", "changed"]
