"""Exporting a person: one JSON document, written while it is read."""

from collections.abc import AsyncGenerator, Callable
from uuid import UUID

from lms.accounts.documents import User
from lms.accounts.rules import UserNotFound
from lms.audit import record
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.export import queries
from lms.export.schemas import ExportedProfile, ExportedSecondFactor
from lms.schemas import Moment, encode
from lms.settings import Settings
from lms.transactions import Session, in_transaction

SECTIONS: dict[str, Callable[[UUID, Settings], queries.Batches]] = {
    "sessions": queries.sessions,
    "identities": queries.identities,
    "api_keys": queries.api_keys,
    "invitations": queries.invitations,
    "courses": queries.courses,
    "enrollments": queries.enrollments,
    "certificates": queries.certificates,
    "audit": queries.audit,
}


async def export(person: UUID, by: UUID, settings: Settings) -> AsyncGenerator[bytes]:
    """Write down that it was asked for, then give the document. Raises `UserNotFound`."""

    async def write(session: Session) -> User:
        user = await User.find_one({"_id": person}, session=session)
        if user is None:
            raise UserNotFound
        await record(session, Act.DATA_EXPORTED, actor=by, target=person)
        return user

    return _document(await in_transaction(write), settings)


async def _document(user: User, settings: Settings) -> AsyncGenerator[bytes]:
    """`complete` is the last member, so that what broke off does not look whole."""
    exported_at = encode(Moment.of(utc_now()))
    yield b'{"profile":' + encode(ExportedProfile.of(user))
    yield b',"second_factor":' + encode(_second_factor(user))
    yield b',"email_change":' + encode(await queries.email_change(user.id))
    for name, section in SECTIONS.items():
        opening = f',"{name}":['.encode()
        async for items in section(user.id, settings):
            for item in items:
                yield opening + encode(item)
                opening = b","
        yield b"]" if opening == b"," else opening + b"]"
    yield b',"exported_at":' + exported_at + b',"complete":true}'


def _second_factor(user: User) -> ExportedSecondFactor | None:
    if user.totp is None:
        return None
    left = len(user.totp.recovery_codes)
    return ExportedSecondFactor(enabled_at=Moment.of(user.totp.enabled_at), recovery_codes_left=left)
