import pytest

from lms.mail import Mailer
from lms.outbox.jobs import JobContext
from lms.settings import Settings


@pytest.fixture
def context(settings: Settings) -> JobContext:
    return JobContext(settings, Mailer(settings))
