"""The step between the right password and the code."""

from datetime import timedelta

from lms.accounts.documents import User
from lms.accounts.schemas import CodeAsked
from lms.clock import utc_now
from lms.second_factor.documents import SignInChallenge
from lms.tokens import digest_of, new_nonce

LIFE = timedelta(minutes=5)


async def ask_for_code(user: User, methods: list[str]) -> CodeAsked:
    """Begin a sign-in of a person who has proved by `methods` who they are, and has a second factor."""
    token = new_nonce()
    challenge = SignInChallenge(
        id=digest_of(token),
        user_id=user.id,
        password_rev=user.password_rev,
        auth_epoch=user.auth_epoch,
        methods=methods,
        expires_at=utc_now() + LIFE,
    )
    await challenge.insert()
    return CodeAsked(challenge_token=token, expires_in=int(LIFE.total_seconds()))
