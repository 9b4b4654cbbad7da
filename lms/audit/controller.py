from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from lms.accounts.documents import Role
from lms.api_keys.documents import Scope
from lms.audit import queries
from lms.audit.documents import Act
from lms.audit.schemas import AuditRead
from lms.auth import requires
from lms.web.lists import CursorPage, Page, Paging, answer_list

ByAct = Annotated[Act | None, QueryParameter(name="act", description="Only acts of this kind.")]
ByActor = Annotated[UUID | None, QueryParameter(name="actor_id", description="Only what this person did.")]
ByTarget = Annotated[UUID | None, QueryParameter(name="target_id", description="Only what was done to this.")]


class AuditController(Controller):
    path = "/audit"
    tags = ["audit"]
    guards = [requires(Role.ADMIN)]

    @get("/", opt={"scope": Scope.AUDIT_READ})
    async def list_audit(
        self,
        request: Request[Any, Any, Any],
        paging: NamedDependency[Paging],
        act: ByAct = None,
        actor_id: ByActor = None,
        target_id: ByTarget = None,
    ) -> Response[Page[AuditRead] | CursorPage[AuditRead]]:
        """What was done that bears on security, newest first. `lms audit verify` shows whether it was tampered with."""
        asked = {"act": act, "actor": actor_id and str(actor_id), "target_id": target_id and str(target_id)}
        wanted = {name: value for name, value in asked.items() if value is not None}
        items, total, cursor = await queries.list_entries(wanted, paging)
        return answer_list(request, paging, items, total, cursor)
