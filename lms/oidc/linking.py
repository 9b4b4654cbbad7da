"""Whose account it is that somebody comes to by way of a provider."""

from typing import Any
from uuid import UUID

import msgspec
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import User
from lms.accounts.people import change_user, take_over
from lms.accounts.rules import normal_email
from lms.accounts.schemas import EmailText, FullName
from lms.audit import record
from lms.audit.documents import Act
from lms.folding import search_words
from lms.oidc.documents import Identity
from lms.oidc.rules import Failure, Linking, Person, SignInFailed, decide_linking
from lms.oidc.tasks import send_identity_linked_email, send_provider_welcome_email
from lms.outbox.documents import Event
from lms.transactions import Session, in_transaction


class Arrival:
    """One person who comes from a provider: known by the link, else by the address that the provider vouches for."""

    def __init__(self, provider: str, person: Person) -> None:
        self._provider = provider
        self._person = person
        self.ended: list[UUID] = []
        """The sessions that this has ended, for `Accounts.forget`."""

    async def user(self) -> User:
        """Raises `SignInFailed`."""
        try:
            return await in_transaction(self._find_or_link)
        except DuplicateKeyError:
            # The same person came twice at once; what the other one stored is there now.
            return await in_transaction(self._find_or_link)

    async def _find_or_link(self, session: Session) -> User:
        person, self.ended = self._person, []
        known = {"issuer": person.issuer, "subject": person.subject}
        identity = await Identity.find_one(known, session=session)
        if identity is None:
            return await self._link(session)
        user = await User.find_one({"_id": identity.user_id}, session=session)
        if user is None or not user.active:
            raise SignInFailed(Failure.SIGN_IN_REFUSED, "the account is closed")
        return user

    async def _link(self, session: Session) -> User:
        email = _checked_email(self._person)
        user = await User.find_one({"email": email}, session=session)
        other = None
        if user is not None:
            mine = {"user_id": user.id, "issuer": self._person.issuer}
            other = await Identity.find_one(mine, session=session)
        how = decide_linking(user, other)
        if user is None:
            user = await self._create(email, session)
        elif how is Linking.TAKE_OVER:
            user = await self._take_over(user, session)
        else:
            # So that it meets whoever changes the account at the same time.
            user = await change_user(user.id, {"$inc": {"rev": 1}}, session)
        await self._store(user, how, session)
        return user

    async def _create(self, email: str, session: Session) -> User:
        """A student without a password; a role is never the provider's to give."""
        user = User(email=email, full_name=self._full_name(email.partition("@")[0]), password_hash="", verified=True)
        await user.insert(session=session)
        told = {user.id: {"email": email}}
        facts = {"provider": self._provider}
        await record(session, Act.REGISTERED, actor="nobody", target=user.id, private=told, facts=facts)
        return user

    async def _take_over(self, user: User, session: Session) -> User:
        """Whoever set the password is not known to be the owner of the address."""
        name = self._full_name(user.full_name)
        values = {"password_hash": "", "full_name": name, "search": search_words(user.email, name)}
        changed, self.ended = await take_over(user, values, session)
        return changed

    async def _store(self, user: User, how: Linking, session: Session) -> None:
        person = self._person
        identity = Identity(issuer=person.issuer, subject=person.subject, user_id=user.id, provider=self._provider)
        await identity.insert(session=session)
        facts = {
            "identity_id": str(identity.id),
            "provider": self._provider,
            "issuer": person.issuer,
            "taken_over": how is Linking.TAKE_OVER,
        }
        await record(session, Act.IDENTITY_LINKED, actor=user.id, target=user.id, facts=facts)
        told: dict[str, Any] = {"user_id": str(user.id), "provider": self._provider}
        if how is Linking.CREATE:
            await Event.emit(session, "user.registered", [send_provider_welcome_email.name], **told)
        else:
            told["taken_over"] = how is Linking.TAKE_OVER
            await Event.emit(session, "identity.linked", [send_identity_linked_email.name], **told)

    def _full_name(self, otherwise: str) -> str:
        """The first of the provider's names that can stand on a certificate."""
        return next((name for name in self._person.names if _is(name, FullName)), otherwise)


def _checked_email(person: Person) -> str:
    """Raises `SignInFailed` where the provider vouches for none."""
    email = normal_email(person.email)
    if not _is(email, EmailText):
        raise SignInFailed(Failure.EMAIL_NOT_VERIFIED, "no verified address")
    return email


def _is(value: str, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
