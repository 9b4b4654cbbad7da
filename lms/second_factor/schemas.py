"""What crosses HTTP about second factors."""

from typing import Annotated

from msgspec import Meta

from lms.accounts.schemas import AnyPassword, Delivery, Tokens
from lms.schemas import Input, Moment, Output

Code = Annotated[
    str,
    Meta(
        max_length=20,
        pattern=r"^\s*[0-9]{3}\s?[0-9]{3}\s*$",
        description="The six digits that the authenticator app shows.",
        examples=["287082"],
    ),
]
RecoveryCode = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="One of the ten; in any case, with or without hyphens.",
        examples=["k3v7-q2ma-4xtd-m5t2-c7wq-z3ka"],
    ),
]
NoRecoveryCode = Annotated[RecoveryCode | None, Meta(examples=[None])]
"""Examples have a code in its place, since there cannot be both."""
ChallengeToken = Annotated[
    str, Meta(min_length=1, max_length=100, examples=["b1L5tVvJ0nq7mQ2cY8rKxw3ZfH6sDgE9uPaOiT4eWkM"])
]
RecoveryCodes = Annotated[list[str], Meta(examples=[["k3v7-q2ma-4xtd-m5t2-c7wq-z3ka"]])]


class SecondFactorState(Output):
    """`required`: the person's role must have one."""

    totp: bool
    recovery_codes_left: int
    required: bool


class TotpStart(Input):
    """Who has a password gives it."""

    current_password: AnyPassword | None = None


class TotpSecret(Output):
    """Shown once, good for `expires_in` seconds. `qr_svg` shows `provisioning_uri`; `secret` is for typing it in."""

    secret: Annotated[str, Meta(examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])]
    provisioning_uri: Annotated[
        str, Meta(examples=["otpauth://totp/Open%20School:sam@school.example?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    ]
    qr_svg: Annotated[str, Meta(examples=['<svg xmlns="http://www.w3.org/2000/svg"></svg>'])]
    expires_in: int


class TotpConfirmation(Input):
    code: Code
    delivery: Delivery = "body"


class SecondFactorOn(Tokens, kw_only=True):
    """The recovery codes are shown this once. The tokens take the place of those of before."""

    recovery_codes: RecoveryCodes


class FreshRecoveryCodes(Output):
    recovery_codes: RecoveryCodes


class SignInCode(Input):
    """Either a `code` or a `recovery_code`."""

    challenge_token: ChallengeToken
    code: Code | None = None
    recovery_code: NoRecoveryCode = None
    delivery: Delivery = "body"


class Proof(Input):
    """Who has a second factor gives either a `code` or a `recovery_code` as well."""

    password: AnyPassword
    code: Code | None = None
    recovery_code: NoRecoveryCode = None


class Proved(Output):
    """Until `good_until` this session may do what asks for a recent proof."""

    proved_at: Moment
    good_until: Moment
