"""What crosses HTTP about people and sign-ins."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from lms.accounts.documents import Role
from lms.schemas import Input, Moment, Output

# What an address may have unquoted (RFC 5322 3.2.3, and RFC 6531 for other scripts), without what headers decode.
# No control or direction characters in either: they would command terminals, or turn what stands beside them around.
_HIDDEN = r"\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_ATOM = rf"(?:(?!=\?)[^@\s\x00-\x20{_HIDDEN}()<>\[\]:;,\\\".])"
EmailText = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=rf"^(?!\s*[^@]{{65}})\s*{_ATOM}+(?:\.{_ATOM}+)*@{_ATOM}+(?:\.{_ATOM}+)+\s*$",
        description="An email address; compared in lower case.",
        examples=["sam@school.example"],
    ),
]
FullName = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=(
            rf"^(?=.*[^\s\u200b-\u200f\u2060\ufeff])\s*[^\s\x00-\x1f{_HIDDEN}]"
            rf"(?:[^\x00-\x1f{_HIDDEN}]{{0,118}}[^\s\x00-\x1f{_HIDDEN}])?\s*$"
        ),
        description="1 to 120 characters after trimming, as it will stand on certificates.",
        examples=["Sam Okafor"],
    ),
]
# Four times what counts, since a character may be sent in parts; `check_new_password` counts it composed.
NewPassword = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=512,
        description="8 to 128 characters, counted in NFC; none of the commonest passwords, nor one's own name.",
        examples=["correct horse battery"],
    ),
]
AnyPassword = Annotated[str, Meta(min_length=1, max_length=1024, examples=["correct horse battery"])]


Delivery = Annotated[
    Literal["body", "cookie"],
    Meta(
        description="Where the refresh token goes: into the answer, or into a cookie that no script can read. That "
        "is for browser apps of a configured origin, on the API's own site."
    ),
]


class Registration(Input):
    email: EmailText
    password: NewPassword
    full_name: FullName


class Accepted(Output):
    status: Literal["accepted"] = "accepted"


class Credentials(Input):
    email: Annotated[str, Meta(min_length=1, max_length=254, examples=["sam@school.example"])]
    password: AnyPassword
    delivery: Delivery = "body"


class Refresh(Input):
    """Without `refresh_token` it is the cookie's. Without `delivery` the successor goes the way the token came."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)] | UnsetType = UNSET
    delivery: Delivery | UnsetType = UNSET


class UserRead(Output):
    id: UUID
    email: str
    full_name: str
    role: Role
    verified: bool
    locale: str
    time_zone: str
    created_at: Moment


class Tokens(Output, kw_only=True):
    """`expires_in` is the access token's life in seconds, `refresh_expires_in` the refresh token's.

    There is no `refresh_token` where it went into the cookie. Where `second_factor_required` is there, the session may
    do nothing but set up a second factor, since the person's role must have one.
    """

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    refresh_token: str | UnsetType = UNSET
    refresh_expires_in: int
    user: UserRead
    second_factor_required: Literal[True] | UnsetType = UNSET


class CodeAsked(Output, kw_only=True):
    """The password is right, and the person has a second factor: `POST auth/login/mfa` takes its code."""

    mfa_required: Literal[True] = True
    challenge_token: Annotated[str, Meta(examples=["b1L5tVvJ0nq7mQ2cY8rKxw3ZfH6sDgE9uPaOiT4eWkM"])]
    expires_in: Annotated[int, Meta(examples=[300])]


class PublicKey(Output):
    """A JSON Web Key (RFC 7517, RFC 8037)."""

    kid: Annotated[str, Meta(examples=["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"])]
    x: Annotated[str, Meta(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])]
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"


class KeySet(Output):
    keys: list[PublicKey]


class SessionRead(Output):
    """A device that is signed in. What it says of itself is shown as it was said; `current` is the one that asks."""

    id: UUID
    created_at: Moment
    refreshed_at: Moment
    expires_at: Moment
    user_agent: str
    address: str
    current: bool


class SignedOut(Output):
    status: Literal["signed_out"] = "signed_out"
