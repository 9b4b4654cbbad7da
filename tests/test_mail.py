import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from lms.mail import Attachment, Mail, Mailer, MailRefused, message_id_for
from lms.settings import Settings, load_settings
from tests.conftest import HeldClock
from tests.servers import SmtpSink

EVENT = UUID("0190a5b2-7c3d-7e4f-8a6b-0c1d2e3f4a5b")
STRANGER = "evil@elsewhere.example"


def mail_settings(smtp_url: str, **more: str) -> Settings:
    return load_settings({"LMS_SMTP_URL": smtp_url, "LMS_PUBLIC_URL": "http://lms.test"} | more)


def a_mail(**fields: Any) -> Mail:
    values: dict[str, Any] = {
        "to": "sam@school.example",
        "subject": "Your certificate",
        "text": "Hello Sam,\n",
        "message_id": "<1@lms.test>",
    }
    return Mail(**(values | fields))


def as_received(mail: Mail) -> EmailMessage:
    """What a mail program makes of the bytes."""
    composed = Mailer(mail_settings("smtp://localhost")).compose(mail)
    return message_from_bytes(composed.as_bytes(policy=policy.SMTP), policy=policy.default)


@asynccontextmanager
async def listening(*, over_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncGenerator[SmtpSink]:
    """A mail server of a test's own, as `options` of aiosmtpd say; `over_tls`: encrypted from the first byte."""
    sink, loop = SmtpSink(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(sink, loop=loop, **options), "127.0.0.1", 0, ssl=over_tls)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "sink.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As operators of a private certificate authority do it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def test_a_mail_arrives_with_all_its_parts_and_headers(smtp_sink: SmtpSink, held_clock: HeldClock) -> None:
    files = (Attachment("certificate.pdf", "application/pdf", b"%PDF-\r\n\x00\xff"),)
    mail = a_mail(subject="Zoë: 欧阳 فاطمة", text="Grüße\n.\nEnd\n", html="<p>Grüße</p>", attachments=files)
    await Mailer(mail_settings(smtp_sink.url, LMS_MAIL_FROM="school@lms.test")).send(mail)
    [message] = smtp_sink.messages
    assert {name: message[name] for name in ("From", "To", "Subject", "Message-ID", "Auto-Submitted")} == {
        "From": "school@lms.test",
        "To": "sam@school.example",
        "Subject": "Zoë: 欧阳 فاطمة",
        "Message-ID": "<1@lms.test>",
        "Auto-Submitted": "auto-generated",
    }
    assert message["Date"].datetime == held_clock.now
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == "Grüße\n.\nEnd\n"
    assert html.get_content().strip() == "<p>Grüße</p>"
    [attachment] = message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content_type()) == ("certificate.pdf", "application/pdf")
    assert attachment.get_content() == b"%PDF-\r\n\x00\xff"


async def test_a_mail_of_text_alone_has_one_part(smtp_sink: SmtpSink) -> None:
    await Mailer(mail_settings(smtp_sink.url)).send(a_mail())
    [message] = smtp_sink.messages
    assert (message.get_content_type(), message.is_multipart()) == ("text/plain", False)


async def test_an_address_with_letters_beyond_ascii_is_written_to(smtp_sink: SmtpSink) -> None:
    await Mailer(mail_settings(smtp_sink.url)).send(a_mail(to="zoë@schüle.example"))
    assert smtp_sink.messages[0]["To"] == "zoë@schüle.example"


async def test_a_server_that_cannot_take_such_an_address_gets_nothing() -> None:
    async with listening() as sink:
        with pytest.raises(aiosmtplib.SMTPNotSupported):
            await Mailer(mail_settings(sink.url)).send(a_mail(to="zoë@school.example"))
        assert sink.messages == []


ENCODED_BREAK = "=?utf-8?q?x=0D=0ABcc:_evil=40elsewhere.example=0D=0A=0D=0AGive_money?="


@pytest.mark.parametrize(
    "text",
    [
        f"x\r\nBcc: {STRANGER}",
        f"x\nBcc: {STRANGER}\n\nGive money",
        f"x\rBcc: {STRANGER}",
        f"x\u2028Bcc: {STRANGER}",
        f"x\x85Bcc: {STRANGER}",
        f"x\x0bBcc: {STRANGER}\x00\x1b",
        ENCODED_BREAK,
        f"A course, {ENCODED_BREAK} {ENCODED_BREAK}",
        "=?utf-8?b?eA0KQmNjOiBldmlsQGVsc2V3aGVyZS5leGFtcGxl?=",
        f"{'é' * 90} {ENCODED_BREAK}",
    ],
)
def test_no_subject_adds_a_header_or_a_body(text: str) -> None:
    message = as_received(a_mail(subject=f"Your certificate: {text}"))
    assert sorted(message.keys()) == sorted(as_received(a_mail()).keys())
    assert message.get_content() == "Hello Sam,\r\n"
    # A word too long for its line begins a further one, with a space.
    assert message["Subject"].lstrip().startswith("Your certificate: ")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_subject_arrives_as_it_was_written_on_one_line(text: str) -> None:
    message = as_received(a_mail(subject=f"Course: {text} end"))
    assert sorted(message.keys()) == sorted(as_received(a_mail()).keys())
    received = str(message["Subject"])
    assert len(received.splitlines()) == 1
    if text.isprintable() and "=?" not in text:
        assert received == " ".join(f"Course: {text} end".split())


@pytest.mark.parametrize(
    "address",
    [
        f"sam,{STRANGER}",
        f"sam@school.example,{STRANGER}",
        f"group:{STRANGER}",
        f"(comment){STRANGER}",
        "sam;x@school.example",
        "[x@school.example",
        f"Sam <{STRANGER}>",
        f"sam@school.example\r\nBcc: {STRANGER}",
        "sam@school.example\n",
        "=?utf-8?b?eA0KQmNjOiBldmls?=@school.example",
    ],
)
async def test_an_address_that_reads_as_another_one_is_refused_for_good(smtp_sink: SmtpSink, address: str) -> None:
    with pytest.raises(MailRefused, match="not one plain address") as raised:
        await Mailer(mail_settings(smtp_sink.url)).send(a_mail(to=address))
    assert raised.value.permanent
    assert smtp_sink.messages == []


@pytest.mark.parametrize("place", ["RCPT", "DATA"])
@pytest.mark.parametrize(
    ("reply", "permanent"),
    [
        ("451 4.3.0 Try again later", False),
        ("452 4.2.2 Mailbox full", False),
        ("550 5.1.1 Nobody here", True),
        ("554 5.7.1 No", True),
    ],
)
async def test_a_refusal_says_whether_it_lasts(smtp_sink: SmtpSink, place: Any, reply: str, *, permanent: bool) -> None:
    mailer = Mailer(mail_settings(smtp_sink.url))
    smtp_sink.refuse(reply, at=place)
    with pytest.raises(MailRefused, match=reply[:3]) as raised:
        await mailer.send(a_mail())
    assert raised.value.permanent is permanent
    assert smtp_sink.messages == []
    smtp_sink.accept()
    await mailer.send(a_mail())
    assert len(smtp_sink.messages) == 1


async def test_where_nobody_listens_it_is_an_os_error() -> None:
    async with listening() as sink:
        url = sink.url
    with pytest.raises(ConnectionError):
        await Mailer(mail_settings(url)).send(a_mail())
    with pytest.raises(ConnectionError):
        await Mailer(mail_settings(url)).check()


async def test_a_server_that_never_answers_is_given_up(smtp_sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lms.mail.SMTP_SECONDS", 0.2)
    smtp_sink.stall_before_reply()
    with pytest.raises(TimeoutError):
        await Mailer(mail_settings(smtp_sink.url)).send(a_mail())
    assert smtp_sink.messages == []


async def test_who_is_told_to_stop_waits_for_no_server(smtp_sink: SmtpSink) -> None:
    smtp_sink.stall_before_reply()
    sending = asyncio.create_task(Mailer(mail_settings(smtp_sink.url)).send(a_mail()))
    await smtp_sink.wait_for_held(1)
    sending.cancel()
    # Leaving with a word to the server would take the twenty seconds in which it may answer.
    done, _ = await asyncio.wait({sending}, timeout=5)
    assert done == {sending}
    assert sending.cancelled()


async def test_a_server_that_hangs_up_is_a_connection_error() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectionError):
            await Mailer(mail_settings(url)).send(a_mail())


def authenticate(_server: SMTP, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"sam@school", "p@ß:/".encode())
    return AuthResult(success=right, handled=False)


GOOD, BAD = "sam%40school:p%40%C3%9F%3A%2F", "sam%40school:wrong"


@pytest.mark.usefixtures("trusted")
async def test_smtps_is_encrypted_from_the_first_byte(tls: ssl.SSLContext) -> None:
    async with listening(over_tls=tls, authenticator=authenticate, auth_require_tls=False) as sink:
        with pytest.raises(MailRefused, match="535"):
            await Mailer(mail_settings(f"smtps://{BAD}@127.0.0.1:{sink.port}")).send(a_mail())
        mailer = Mailer(mail_settings(f"smtps://{GOOD}@127.0.0.1:{sink.port}"))
        await mailer.check()
        await mailer.send(a_mail())
        assert len(sink.messages) == 1


@pytest.mark.usefixtures("trusted")
async def test_starttls_encrypts_before_it_signs_in(tls: ssl.SSLContext) -> None:
    async with listening(
        tls_context=tls, require_starttls=True, authenticator=authenticate, auth_required=True
    ) as sink:
        mailer = Mailer(mail_settings(f"smtp+starttls://{GOOD}@127.0.0.1:{sink.port}"))
        await mailer.check()
        await mailer.send(a_mail())
        assert len(sink.messages) == 1


async def test_without_starttls_at_the_server_nothing_is_sent_in_clear(smtp_sink: SmtpSink) -> None:
    mailer = Mailer(mail_settings(f"smtp+starttls://127.0.0.1:{smtp_sink.port}"))
    for attempt in (mailer.check(), mailer.send(a_mail())):
        with pytest.raises(aiosmtplib.SMTPException, match="STARTTLS"):
            await attempt
    assert smtp_sink.messages == []


async def test_a_server_that_nobody_vouches_for_gets_nothing(tls: ssl.SSLContext) -> None:
    async with listening(over_tls=tls) as sink:
        with pytest.raises(OSError, match="certificate verify failed"):
            await Mailer(mail_settings(f"smtps://127.0.0.1:{sink.port}")).send(a_mail())
        assert sink.messages == []
    async with listening(tls_context=tls) as sink:
        with pytest.raises(OSError, match="certificate verify failed"):
            await Mailer(mail_settings(f"smtp+starttls://127.0.0.1:{sink.port}")).send(a_mail())
        assert sink.messages == []


async def test_a_wrong_password_of_ours_does_not_give_the_mail_up() -> None:
    async with listening(authenticator=authenticate, auth_require_tls=False) as sink:
        with pytest.raises(MailRefused, match="535") as raised:
            await Mailer(mail_settings(f"smtp://{BAD}@127.0.0.1:{sink.port}")).send(a_mail())
        assert not raised.value.permanent
        await Mailer(mail_settings(f"smtp://{GOOD}@127.0.0.1:{sink.port}")).send(a_mail())
        assert len(sink.messages) == 1


async def test_the_check_sends_nothing(smtp_sink: SmtpSink) -> None:
    await Mailer(mail_settings(smtp_sink.url)).check()
    assert smtp_sink.messages == []


@pytest.mark.parametrize(
    "url", ["http://mail.example", "smtp://", "smtp:mail.example", "mail.example:25", "", "smtp+tls://mail.example"]
)
def test_another_scheme_or_no_host_is_named_as_the_setting(url: str) -> None:
    with pytest.raises(ValueError, match=r"^LMS_SMTP_URL: must start with smtp://, smtp\+starttls://, smtps:// and"):
        Mailer(mail_settings(url))


@pytest.mark.parametrize(
    "url", ["smtp://mail.example:99999", "smtp://sam:geh/eim@mail.example", "smtp://[geheim]:geheim@mail.example"]
)
def test_a_broken_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^LMS_SMTP_URL: is no address; escape") as raised:
        Mailer(mail_settings(url))
    assert "geh" not in str(raised.value)


@given(st.uuids(), st.uuids())
def test_a_message_id_is_the_events_own(first: UUID, second: UUID) -> None:
    settings = mail_settings("smtp://localhost")
    assert message_id_for(first, settings) == f"<{first}@lms.test>"
    assert (message_id_for(first, settings) == message_id_for(second, settings)) is (first == second)


def test_without_a_public_address_the_message_id_takes_the_senders_host() -> None:
    settings = mail_settings("smtp://localhost", LMS_PUBLIC_URL="", LMS_MAIL_FROM="school@mail.example")
    event_id = uuid4()
    assert message_id_for(event_id, settings) == f"<{event_id}@mail.example>"
