"""Every error that a client can see, and the one place that decides how it looks.

Rules raise subclasses declared beside the rule; nothing else builds an error answer. The tree:

    LMSError                 has status, code (from the class name) and detail (one plain sentence)
      BadRequest       400
      Unauthenticated  401   with WWW-Authenticate
      Forbidden        403
      NotFound         404
      Conflict         409
      Gone             410
      PreconditionFailed 412
      TooLarge         413
      UnsupportedMedia 415
      Invalid          422   with errors[]
      RateLimited      429   with Retry-After
      Unavailable      503   with Retry-After
"""

import re
from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One broken field. Exactly one of `pointer` (RFC 6901, `#/lessons/0/title`), `parameter` and `header` is set."""

    code: str
    message: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


def code_of(name: str) -> str:
    """`AlreadyEnrolled` -> `already_enrolled`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class LMSError(Exception):
    """Base of our errors. A subclass sets `status` and `detail`; members given to it go into the answer as they are."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: ClassVar[str] = "Something broke on our side."

    def __init_subclass__(cls) -> None:
        if "code" not in cls.__dict__:
            cls.code = code_of(cls.__name__)

    def __init__(
        self,
        message: str = "",
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message or self.detail)
        self.errors = errors or []
        self.headers = headers or {}
        self.members = members

    @property
    def message(self) -> str:
        return str(self.args[0])


class BadRequest(LMSError):
    status = 400
    detail = "The request cannot be understood."


class Unauthenticated(LMSError):
    status = 401
    detail = "Sign in first."

    def __init__(self, message: str = "", *, challenge: str = "Bearer", **members: Any) -> None:
        super().__init__(message, headers={"WWW-Authenticate": challenge}, **members)


class Forbidden(LMSError):
    status = 403
    detail = "You may not do this."


class NotFound(LMSError):
    status = 404
    detail = "There is nothing here."


class Conflict(LMSError):
    status = 409
    detail = "The request is in the way of the current state."


class Gone(LMSError):
    status = 410
    detail = "This was here once and is not any more."


class PreconditionFailed(LMSError):
    status = 412
    detail = "Somebody changed this since you read it."


class TooLarge(LMSError):
    status = 413
    detail = "The request is larger than allowed."


class UnsupportedMedia(LMSError):
    status = 415
    detail = "Send the body as application/json."


class Invalid(LMSError):
    status = 422
    code = "validation_failed"
    detail = "Some fields are not as they must be."


class RateLimited(LMSError):
    status = 429
    detail = "Too many requests; wait and try again."


class Unavailable(LMSError):
    status = 503
    detail = "A part of the service cannot be reached; try again shortly."

    def __init__(self, message: str = "", *, retry_after: int = 2, **members: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)}, **members)
