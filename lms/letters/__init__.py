"""What our mails say."""

from collections.abc import Sequence
from datetime import date

from lms.letters.letter import LINK, Letter, greeting

__all__ = ["Letter"]


def welcome(name: str, school: str, link: str, verify_link: str | None = None) -> Letter:
    verify = (
        "First confirm below that this address is yours.",
        "If you did not sign up there, do not confirm it and simply ignore this mail.",
    )
    return Letter(
        subject=f"Welcome to {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Your account at {school} is ready. Sign in with this email address and the password you chose.",
            "Pick a course, go at your own pace, and when you finish it your certificate comes by mail.",
            *(verify if verify_link else ()),
        ),
        school=school,
        action=("Confirm the address", verify_link) if verify_link else ("See the courses", link),
    )


def welcome_from(name: str, school: str, provider: str, link: str) -> Letter:
    return Letter(
        subject=f"Welcome to {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Your account at {school} is ready. You sign in to it with {provider}; it has no password of its own.",
            "Pick a course, go at your own pace, and when you finish it your certificate comes by mail.",
        ),
        school=school,
        action=("See the courses", link),
    )


def identity_linked(name: str, school: str, provider: str, link: str, *, taken_over: bool) -> Letter:
    """`taken_over`: nobody had proved that the address is theirs before."""
    linked = (
        f"Somebody, probably you, signed in to your account at {school} with {provider} for the first time. It says "
        "that this address is theirs, so from now on both belong together."
    )
    removed = (
        "Nobody had confirmed the account's address before. So its password was removed and all devices were signed "
        "out; you can set a password of your own by asking to reset it."
    )
    return Letter(
        subject=f"Sign-in with {provider} was added to your account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            linked,
            *((removed,) if taken_over else ()),
            f"If it was not you, remove {provider} from your account, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def verify_email(name: str, school: str, link: str, hours: int) -> Letter:
    return Letter(
        subject=f"Confirm your address at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Confirm below that this is the address of your account at {school}.",
            f"The link works once, and for {hours} hours. If you have no account there, simply ignore this mail.",
        ),
        school=school,
        action=("Confirm the address", link),
    )


def already_registered(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"You already have an account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody, probably you, tried to sign up at {school} with this address, which already has an account.",
            "If it was you, simply sign in. If it was not, there is nothing you need to do: nothing was changed.",
        ),
        school=school,
        action=("Sign in", link),
    )


def certificate_issued(name: str, school: str, course_title: str, number: str, link: str) -> Letter:
    return Letter(
        subject=f"Your certificate: {course_title}",
        greeting=greeting("Congratulations,", name, "!"),
        paragraphs=(
            f"You have completed {course_title}. Your certificate is attached to this mail.",
            f"Its number is {number}. Anybody can check that it is genuine at the address below.",
        ),
        school=school,
        action=("Verify the certificate", link),
    )


def reset_password(name: str, school: str, link: str, minutes: int) -> Letter:
    return Letter(
        subject=f"Reset your password at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody, probably you, asked to reset the password of your account at {school}.",
            f"The link below lets you choose a new one. It works once, and for {minutes} minutes.",
            "If it was not you, there is nothing you need to do: the password stays as it is.",
        ),
        school=school,
        action=("Choose a new password", link),
    )


def account_created(name: str, school: str, link: str, days: int) -> Letter:
    return Letter(
        subject=f"Your account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"There is an account for you at {school} now. Choose a password below, then sign in with this address.",
            f"The link works once, and for {_days(days)}. If you expected nothing like it, simply ignore this mail.",
        ),
        school=school,
        action=("Choose a password", link),
    )


def invitation(name: str, school: str, role: str, link: str, days: int) -> Letter:
    """`name` is empty where whoever invites did not give one."""
    return Letter(
        subject=f"You are invited to {school}",
        greeting=greeting("Hello", name, ",") if name else "Hello,",
        paragraphs=(
            f"You are invited to {school} as {_AS[role]}. Accept below, and choose the password of your account.",
            f"The link works once, and for {_days(days)}. If you expected nothing like it, simply ignore this mail.",
        ),
        school=school,
        action=("Accept the invitation", link),
    )


_AS = {"student": "a student", "instructor": "an instructor", "admin": "an administrator"}


def _days(days: int) -> str:
    return "one day" if days == 1 else f"{days} days"


def password_changed(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Your password at {school} was changed",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"The password of your account at {school} was changed just now, and other devices were signed out.",
            "If it was not you, reset your password at once, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def approve_email_change(name: str, school: str, new_email: str, link: str) -> Letter:
    return Letter(
        subject=f"Change of your address at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody who knows the password of your account at {school} asked to change its address to {new_email}.",
            "If it was you, confirm it below. The new address gets a mail as well; the change is made when both have.",
            "If it was not you, do not follow the link, and change your password: somebody else knows it.",
        ),
        school=school,
        action=("Confirm the change", link),
    )


def confirm_email_change(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Confirm your new address at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"You asked to use this address for your account at {school}. Confirm below that it is yours.",
            "The address of before gets a mail as well; the change is made when both have confirmed it.",
            "If you know nothing of this, there is nothing you need to do.",
        ),
        school=school,
        action=("Confirm the address", link),
    )


def address_in_use(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"You already have an account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody, perhaps you, asked to use this address for another account at {school}.",
            "It belongs to your account already, so nothing was changed, and there is nothing you need to do.",
        ),
        school=school,
        action=("Sign in", link),
    )


def email_changed(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Your address at {school} was changed",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"From now on this is the address of your account at {school}; sign in with it.",
            "If you know nothing of this, ask the school for help.",
        ),
        school=school,
        action=("Sign in", link),
    )


def api_key_created(name: str, school: str, key_name: str, scopes: Sequence[str], expires: date, link: str) -> Letter:
    # As with people's names, one that would be a link is left out.
    called = "" if LINK.search(key_name) else f", called {key_name},"
    return Letter(
        subject=f"A new API key for your account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"An API key{called} was made just now. Whoever has it acts as you at {school}, until {expires:%Y-%m-%d}.",
            f"It may be used for: {', '.join(scopes)}.",
            "If it was not you, revoke the key, change your password, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def second_factor_on(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Your account at {school} now asks for codes",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"An authenticator app was set up for your account at {school}, and other devices were signed out.",
            "From now on, signing in takes a code from it as well. Keep the recovery codes apart from your phone.",
            "If it was not you, reset your password at once, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def second_factor_off(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Your account at {school} no longer asks for codes",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"The authenticator app of your account at {school} was removed. The password alone signs in now.",
            "If it was not you, reset your password at once, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def recovery_code_used(name: str, school: str, link: str, left: int) -> Letter:
    count = "None is left" if not left else "One is left" if left == 1 else f"{left} are left"
    return Letter(
        subject=f"A recovery code of your account at {school} was used",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody who knows your password used a recovery code of your account at {school}. {count}.",
            "If you have lost your phone, set up another one now. You can also have new recovery codes made.",
            "If it was not you, reset your password at once, and ask the school for help.",
        ),
        school=school,
        action=("To the school", link),
    )


def wrong_codes(name: str, school: str, link: str) -> Letter:
    return Letter(
        subject=f"Somebody is trying codes of your account at {school}",
        greeting=greeting("Hello", name, ","),
        paragraphs=(
            f"Somebody gave the right password of your account at {school}, and then several wrong codes.",
            "Codes are refused for a while, at most a quarter of an hour after each further wrong one.",
            "If it was not you, somebody else knows your password: choose a new one.",
        ),
        school=school,
        action=("To the school", link),
    )
