"""What crosses HTTP of the audit log."""

from uuid import UUID

from lms.audit.documents import Act
from lms.schemas import Moment, Output


class AuditRead(Output):
    """One act, at its place in the chain. `about` has by person what was told of them: their address and device, names;
    of people who were erased there is nothing.

    `actor` is a person's id, or `operator` (a command of the CLI), `system`, `nobody` (a visitor).
    """

    sequence: int
    at: Moment
    act: Act
    actor: str
    target_kind: str | None
    target_id: str | None
    request_id: str
    facts: dict[str, str | int | bool]
    about: dict[UUID, dict[str, str]]
    hash: str
