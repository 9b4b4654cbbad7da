"""Making and revoking API keys, for oneself or as an operator."""

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from lms.accounts.documents import User
from lms.accounts.rules import NotVerified
from lms.api_keys.documents import OWNERS, ApiKey
from lms.api_keys.rules import MOST_KEYS, SECRET_BYTES, ApiKeyNotFound, TooManyApiKeys, key_text, parse_key
from lms.api_keys.schemas import ApiKeyCreate
from lms.api_keys.tasks import send_api_key_created_email
from lms.audit import Other, record
from lms.audit.documents import Act
from lms.auth import WrongRole
from lms.clock import utc_now
from lms.ids import new_id
from lms.outbox.documents import Event
from lms.tokens import digest_of
from lms.transactions import Session, in_transaction


async def create_key(owner_id: UUID, data: ApiKeyCreate, by: UUID | Other) -> tuple[ApiKey, str]:
    """The stored key, and its text, which nobody can tell again.

    Raises `TooManyApiKeys`, `WrongRole` and, but not for an operator, `NotVerified`.
    """
    key_id, now = new_id(), utc_now()
    text = key_text(key_id, secrets.token_bytes(SECRET_BYTES))
    key = ApiKey(
        id=key_id,
        owner_id=owner_id,
        name=data.name.strip(),
        scopes=sorted(set(data.scopes)),
        digest=digest_of(parse_key(text)[1]),
        created_at=now,
        expires_at=now + timedelta(days=data.expires_in_days),
    )

    async def write(session: Session) -> None:
        # Of two that are made at once one has to wait here, so that neither is counted without the other; and so has
        # whoever keeps the owner out meanwhile.
        able = {"_id": owner_id, "active": True, "role": {"$in": [*OWNERS]}}
        owner = await User.get_pymongo_collection().find_one_and_update(
            able, {"$inc": {"keys_made": 1}}, projection={"verified": 1}, session=session
        )
        if owner is None:
            raise WrongRole
        if by == owner_id and not owner["verified"]:
            raise NotVerified
        live: dict[str, Any] = {"owner_id": owner_id, "revoked_at": None, "expires_at": {"$gt": now}}
        keys = ApiKey.get_pymongo_collection()
        if await keys.count_documents(live, limit=MOST_KEYS, session=session) >= MOST_KEYS:
            raise TooManyApiKeys
        await key.insert(session=session)
        facts = {"owner_id": str(owner_id), "scopes": " ".join(key.scopes), "expires_in_days": data.expires_in_days}
        told = {owner_id: {"name": key.name}}
        await record(session, Act.API_KEY_CREATED, actor=by, target=key.id, kind="api_key", private=told, facts=facts)
        job = send_api_key_created_email.name
        await Event.emit(session, "api_key.created", [job], user_id=str(owner_id), api_key_id=str(key.id))

    await in_transaction(write)
    return key, text


async def revoke_key(which: dict[str, Any], by: UUID | Other) -> ApiKey:
    """The key is out within a second; one that is out already stays as it is. Raises `ApiKeyNotFound`."""
    key = await ApiKey.find_one(which)
    if key is None:
        raise ApiKeyNotFound

    async def write(session: Session) -> None:
        if await ApiKey.revoke({"_id": key.id}, session):
            facts = {"owner_id": str(key.owner_id)}
            await record(session, Act.API_KEY_REVOKED, actor=by, target=key.id, kind="api_key", facts=facts)

    await in_transaction(write)
    return key
