from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from lms.accounts.rules import NotVerified
from lms.api_keys import queries, service
from lms.api_keys.documents import OWNERS
from lms.api_keys.rules import ApiKeyNotFound, TooManyApiKeys
from lms.api_keys.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from lms.api_keys.verdicts import KeyVerdicts
from lms.auth import ANYONE_SIGNED_IN, CurrentUser, proved_recently, requires
from lms.web.lists import CursorPage, Page, Paging, answer_list


class ApiKeyController(Controller):
    """Names no scope, so that a key can neither make another one nor be used to stay."""

    path = "/auth/api-keys"
    tags = ["api keys"]

    @post(
        "/",
        status_code=201,
        guards=[requires(*OWNERS), proved_recently],
        opt={"errors": [TooManyApiKeys, NotVerified], "rate_limit": "writes"},
    )
    async def create_api_key(self, data: JSONBody[ApiKeyCreate], user: CurrentUser) -> Response[ApiKeyCreated]:
        """Make an API key: it acts as you, within its scopes. Its text is in this answer and nowhere else.

        Send it as `Authorization: Bearer lms_...`. A mail tells you of it. At most 20 keys of a person work at a time.
        """
        key, text = await service.create_key(user.id, data, by=user.id)
        shown = queries.shown_key({**key.model_dump(), "_id": key.id})
        created = ApiKeyCreated(**msgspec.structs.asdict(shown), key=text)
        headers = {"Location": f"/api/v1/auth/api-keys/{key.id}", "Cache-Control": "no-store"}
        return Response(created, headers=headers)

    @get("/", guards=[requires(*ANYONE_SIGNED_IN)])
    async def list_api_keys(
        self, request: Request[Any, Any, Any], user: CurrentUser, paging: NamedDependency[Paging]
    ) -> Response[Page[ApiKeyRead] | CursorPage[ApiKeyRead]]:
        """The caller's own keys, newest first, without their secret parts. One that expired stays here for 90 days."""
        items, total, cursor = await queries.list_keys(user.id, paging)
        return answer_list(request, paging, items, total, cursor)

    @get("/{key_id:uuid}", guards=[requires(*ANYONE_SIGNED_IN)], opt={"errors": [ApiKeyNotFound]})
    async def get_api_key(self, key_id: FromPath[UUID], user: CurrentUser) -> ApiKeyRead:
        """One of the caller's own keys, without its secret part."""
        return await queries.own_key(user.id, key_id)

    @delete(
        "/{key_id:uuid}",
        guards=[requires(*ANYONE_SIGNED_IN)],
        opt={"errors": [ApiKeyNotFound], "rate_limit": "writes"},
    )
    async def revoke_api_key(
        self, key_id: FromPath[UUID], user: CurrentUser, api_keys: NamedDependency[KeyVerdicts]
    ) -> None:
        """Revoke one of the caller's own keys; it stops working everywhere within a second."""
        await service.revoke_key({"_id": key_id, "owner_id": user.id}, by=user.id)
        api_keys.forget(key_id)
