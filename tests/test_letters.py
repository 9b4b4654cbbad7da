import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms import letters
from lms.letters import Letter

LINK = "https://learn.school.example/verify/01J2JV-4Z1XF-S7RMT-RC3MQ-3YJJVT?a=1&b=2"
NASTY = "<b>Ann</b> & \"Lee\" {{ 7*7 }} {% raw %} $name %s {0} 'x'"


def every_letter(text: str, link: str = LINK) -> list[Letter]:
    return [
        letters.welcome(text, text, link),
        letters.welcome(text, text, "https://school.example", link),
        letters.welcome_from(text, text, text, link),
        letters.identity_linked(text, text, text, link, taken_over=True),
        letters.verify_email(text, text, link, 48),
        letters.already_registered(text, text, link),
        letters.certificate_issued(text, text, text, "01J2JV-4Z1XF-S7RMT-RC3MQ-3YJJVT", link),
        letters.reset_password(text, text, link, 30),
        letters.account_created(text, text, link, 7),
        letters.invitation(text, text, "instructor", link, 7),
        letters.password_changed(text, text, link),
        letters.approve_email_change(text, text, text, link),
        letters.confirm_email_change(text, text, link),
        letters.address_in_use(text, text, link),
        letters.email_changed(text, text, link),
        letters.second_factor_on(text, text, link),
        letters.second_factor_off(text, text, link),
        letters.recovery_code_used(text, text, link, 9),
        letters.wrong_codes(text, text, link),
    ]


class Parts(HTMLParser):
    """What a mail program gets: the text, the tags, and where links go."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src", "action"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_welcome_says_what_comes_next() -> None:
    letter = letters.welcome("Sam Okafor", "Tidewater School", LINK)
    assert letter.subject == "Welcome to Tidewater School"
    assert letter.as_text() == (
        "Hello Sam Okafor,\n"
        "\n"
        "Your account at Tidewater School is ready. Sign in with this email address and the password you chose.\n"
        "\n"
        "Pick a course, go at your own pace, and when you finish it your certificate comes by mail.\n"
        "\n"
        f"See the courses: {LINK}\n"
        "\n"
        "Tidewater School\n"
    )


def test_who_signs_up_again_learns_that_nothing_was_changed() -> None:
    letter = letters.already_registered("Sam Okafor", "Tidewater School", LINK)
    assert letter.subject == "You already have an account at Tidewater School"
    text = letter.as_text()
    assert text.startswith("Hello Sam Okafor,\n")
    assert "nothing was changed" in text
    assert f"Sign in: {LINK}\n" in text


def test_the_certificate_comes_with_its_number_and_where_to_verify_it() -> None:
    letter = letters.certificate_issued("Sam Okafor", "Tidewater School", "Tides", "01J2JV", LINK)
    assert letter.subject == "Your certificate: Tides"
    text = letter.as_text()
    assert text.startswith("Congratulations, Sam Okafor!\n")
    assert "You have completed Tides. Your certificate is attached to this mail." in text
    assert "Its number is 01J2JV." in text
    assert f"Verify the certificate: {LINK}\n" in text


def test_the_html_is_the_link_and_the_text_and_nothing_that_is_fetched() -> None:
    for letter in every_letter("Sam"):
        parts = Parts(letter.as_html())
        assert parts.links == [LINK]
        assert set(parts.tags) == {"html", "head", "meta", "title", "body", "p", "a"}
        assert "url(" not in letter.as_html()


def test_the_first_link_is_the_useful_one_in_both_forms() -> None:
    for letter in every_letter("Sam"):
        for form in (letter.as_text(), html.unescape(letter.as_html())):
            assert re.findall(r"https?://[^\s\"<]+", form)[0] == LINK


@pytest.mark.parametrize(
    "text", [NASTY, "</p><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "欧阳 فاطمة"]
)
def test_what_people_typed_is_text(text: str) -> None:
    for plain, letter in zip(every_letter("Sam"), every_letter(text), strict=True):
        parts = Parts(letter.as_html())
        assert parts.tags == Parts(plain.as_html()).tags
        assert parts.links == [LINK]
        # The school's name ends every letter.
        assert text in parts.text
        assert letter.as_text().endswith(f"\n{text}\n")
        assert "49" not in parts.text


@given(st.text(max_size=30))
def test_no_text_changes_the_tags_or_the_links(text: str) -> None:
    for plain, letter in zip(every_letter("Sam"), every_letter(text), strict=True):
        parts = Parts(letter.as_html())
        assert (parts.tags, parts.links) == (Parts(plain.as_html()).tags, [LINK])


def test_both_forms_say_the_same() -> None:
    for letter in every_letter("Sam"):
        said = Parts(letter.as_html()).text.split()
        for sentence in (letter.greeting, *letter.paragraphs, letter.school, *(letter.action or ())):
            assert sentence in letter.as_text()
            assert sentence in " ".join(said)


def test_no_placeholder_is_left() -> None:
    for letter in every_letter("Sam"):
        for form in (letter.subject, letter.as_text(), letter.as_html()):
            assert not re.search(r"\{[{%]|[}%]\}|None|Undefined|%s|\{\w*\}", form)


@pytest.mark.parametrize(
    "name", ["Free money http://evil.example", "www.evil.example", "evil.example", "me@evil.example", "Дай рубль.рф"]
)
def test_a_name_that_would_be_a_link_is_left_out_of_the_greeting(name: str) -> None:
    # Anybody can sign up a stranger's address, and must not choose what the school writes to the stranger.
    assert letters.welcome(name, "School", LINK).greeting == "Hello,"
    assert letters.already_registered(name, "School", LINK).greeting == "Hello,"
    assert letters.certificate_issued(name, "School", "Tides", "1", LINK).greeting == "Congratulations!"


@pytest.mark.parametrize(
    "name", ["J. R. R. Tolkien", "J.R.R. Tolkien", "Martin Luther King Jr.", "Zoë O'Neil-Łuk", "欧阳"]
)
def test_people_with_dots_in_their_names_are_greeted(name: str) -> None:
    assert letters.welcome(name, "School", LINK).greeting == f"Hello {name},"


@pytest.mark.parametrize(
    ("role", "said"), [("student", "a student"), ("instructor", "an instructor"), ("admin", "an administrator")]
)
def test_an_invitation_says_to_what_and_for_how_long(role: str, said: str) -> None:
    letter = letters.invitation("", "Tidewater School", role, LINK, 1)
    assert (letter.subject, letter.greeting) == ("You are invited to Tidewater School", "Hello,")
    text = letter.as_text()
    assert f"You are invited to Tidewater School as {said}." in text
    assert "works once, and for one day." in text
    assert f"Accept the invitation: {LINK}\n" in text
    assert "for 7 days." in letters.invitation("Nia", "School", role, LINK, 7).as_text()


def test_a_letter_without_an_action_has_no_link() -> None:
    letter = Letter(subject="News", greeting="Hello,", paragraphs=("One.", "Two."), school="School")
    assert letter.as_text() == "Hello,\n\nOne.\n\nTwo.\n\nSchool\n"
    assert Parts(letter.as_html()).links == []


@pytest.mark.parametrize(("left", "told"), [(0, "None is left."), (1, "One is left."), (9, "9 are left.")])
def test_who_used_a_recovery_code_learns_how_many_are_left(left: int, told: str) -> None:
    assert told in letters.recovery_code_used("Sam Okafor", "Tidewater School", LINK, left).as_text()
