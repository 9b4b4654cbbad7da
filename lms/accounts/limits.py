"""How many mails anybody can cause."""

import hashlib

from lms.redis_client import Accelerator, RedisUnavailable
from lms.settings import Settings
from lms.web.limits import OwnBuckets, Policy, SharedBuckets


class MailLimit:
    """Counts for each recipient, so that nobody's mailbox is flooded by way of us."""

    def __init__(self, settings: Settings, accelerator: Accelerator) -> None:
        self._policy = Policy.of("mail", settings.rate_mail)
        self._shared = SharedBuckets(accelerator)
        self._own = OwnBuckets()

    async def allows(self, email: str) -> bool:
        key = f"mail:{hashlib.sha256(email.encode()).hexdigest()}"
        try:
            bucket = await self._shared.take(self._policy, key)
        except RedisUnavailable:
            bucket = self._own.take(self._policy, key)
        return bucket.granted > 0
