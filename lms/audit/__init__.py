"""Writing down what was done, by whom, to whom: in the transaction of the act, so that neither is there alone.

    await record(session, Act.ROLE_CHANGED, actor=caller.id, target=user.id, facts={"role": "admin"})

Names and addresses go into `private`, by the person they are about; the address and device that a request came from are
added by themselves, and so is `api_key_id` to the facts where an API key was used. The entry itself holds ids and
whatever `facts` are given, which must tell nothing of a person.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms import sealing
from lms.audit.documents import Act, AuditKey
from lms.clock import utc_now
from lms.origin import origin
from lms.outbox.documents import Event
from lms.transactions import Session

APPEND_JOB = "append_to_audit"
KEY_BYTES = 32

Facts = Mapping[str, str | int | bool]
Other = Literal["operator", "system", "nobody"]
"""Who acts where it is no person who is signed in."""


async def record(
    session: Session,
    act: Act,
    *,
    actor: UUID | Other,
    target: UUID | None = None,
    kind: str = "user",
    private: Mapping[UUID, Mapping[str, str]] | None = None,
    facts: Facts | None = None,
) -> None:
    """Have the act appended to the audit log once the transaction is committed.

    `target` is what it was done to, of `kind`.
    """
    came_from = origin()
    told = {str(person): dict(about) for person, about in (private or {}).items()}
    owner = actor if isinstance(actor, UUID) else target if kind == "user" else None
    if owner is not None and came_from.address:
        place = {"address": came_from.address, "user_agent": came_from.user_agent}
        told[str(owner)] = place | told.get(str(owner), {})
    sealed = {person: seal(await _key_of(UUID(person)), about) for person, about in told.items()}
    entry = {
        "act": act.value,
        "actor": str(actor),
        "target_kind": kind if target else None,
        "target_id": str(target) if target else None,
        "request_id": came_from.request_id,
        "facts": dict(facts or {}) | ({"api_key_id": came_from.api_key_id} if came_from.api_key_id else {}),
        "sealed": sealed,
    }
    await Event.emit(session, "audit", [APPEND_JOB], **entry)


async def _key_of(person: UUID) -> bytes:
    """By one command whether there is one or not. Outside of the act's transaction: a key that seals nothing does no
    harm, and two first acts of one person at once would undo each other.
    """
    made = {"$setOnInsert": {"key": os.urandom(KEY_BYTES), "created_at": utc_now()}}
    keys = AuditKey.get_pymongo_collection()
    try:
        found = await keys.find_one_and_update({"_id": person}, made, upsert=True, return_document=ReturnDocument.AFTER)
    except DuplicateKeyError:
        found = await keys.find_one({"_id": person})
    # None only where the person is erased at this moment, and then nobody is to read it.
    return bytes(found["key"]) if found else os.urandom(KEY_BYTES)


async def keep_key_until(person: UUID, until: datetime) -> None:
    """Make the key of somebody who may never become a person; `keep_key` and `drop_key` end that.

    Outside of the act's transaction as in `_key_of`, by whoever holds the invitation in one.
    """
    made = {"$set": {"expires_at": until}, "$setOnInsert": {"key": os.urandom(KEY_BYTES), "created_at": utc_now()}}
    await AuditKey.get_pymongo_collection().update_one({"_id": person}, made, upsert=True)


async def keep_key(person: UUID, session: Session) -> None:
    kept = {"$unset": {"expires_at": ""}}
    await AuditKey.get_pymongo_collection().update_one({"_id": person}, kept, session=session)


async def drop_key(person: UUID, session: Session) -> None:
    """Nothing that was sealed of them can be read from the commit on."""
    await AuditKey.get_pymongo_collection().delete_one({"_id": person}, session=session)


def seal(key: bytes, about: Mapping[str, str]) -> bytes:
    return sealing.seal(key, msgspec.json.encode(about))


def unseal(key: bytes, sealed: bytes) -> dict[str, str] | None:
    """None where it was sealed with another key."""
    opened = sealing.unseal(key, sealed)
    return None if opened is None else msgspec.json.decode(opened, type=dict[str, str])
