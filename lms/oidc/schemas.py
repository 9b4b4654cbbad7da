"""What crosses HTTP about signing in at a provider."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from lms.accounts.schemas import Delivery
from lms.schemas import Input, Moment, Output

Verifier = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._~-]{43,128}$(?!\n)",
        description="What the `app_challenge` was made of: 43 to 128 characters of RFC 7636.",
        examples=["dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"],
    ),
]


class OidcProviderRead(Output):
    """A provider; the browser is sent to `start_url`, with `return_to` and `app_challenge`."""

    name: Annotated[str, Meta(examples=["school"])]
    title: Annotated[str, Meta(examples=["School account"])]
    start_url: Annotated[str, Meta(examples=["https://lms.example.org/api/v1/auth/oidc/school/start"])]


class OidcExchange(Input):
    code: Annotated[str, Meta(min_length=1, max_length=100, examples=["b1L5tVvJ0nq7mQ2cY8rKxw3ZfH6sDgE9uPaOiT4eWkM"])]
    app_verifier: Verifier
    delivery: Delivery = "body"


class IdentityRead(Output):
    """The caller as a provider knows them. `provider` and `title` are of the settings, where it still stands there."""

    id: UUID
    provider: str
    title: str
    issuer: str
    created_at: Moment


class Identities(Output):
    items: list[IdentityRead]
