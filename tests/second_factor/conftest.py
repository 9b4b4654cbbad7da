"""Sam, who signs in with a password, and Sam's phone; the clock stands still."""

import httpx
import pytest

from lms.accounts.documents import User
from lms.accounts.limits import MailLimit
from lms.accounts.service import Accounts
from lms.redis_client import Accelerator
from tests.accounts.people import Signed, a_person, sign_in
from tests.conftest import HeldClock
from tests.second_factor.factors import App, enrol


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock) -> User:
    return await a_person(accounts, "Sam", verified=True)


@pytest.fixture
async def laptop(client: httpx.AsyncClient, person: User) -> Signed:
    """A session with the password alone."""
    return await sign_in(client, person)


@pytest.fixture
async def app_of_sam(client: httpx.AsyncClient, laptop: Signed, held_clock: HeldClock) -> App:
    """Set up some time ago, so that the code of now is unused and every proof is old."""
    made, _ = await enrol(client, laptop)
    held_clock.advance(hours=1)
    return made


@pytest.fixture
async def no_more_mails(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stella's address has had as many mails as anybody may cause."""
    few = accounts.settings.model_copy(update={"rate_mail": "1/3600"})
    monkeypatch.setattr(accounts, "mail_limit", MailLimit(few, Accelerator("")))
    assert await accounts.mail_limit.allows("stella@school.example")
