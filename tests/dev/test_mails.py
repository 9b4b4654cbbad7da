import smtplib
from asyncio import to_thread
from email.message import EmailMessage
from pathlib import Path

import pytest

from lms.dev.mails import catch_mails, describe


def a_mail(subject: str = "Welcome", text: str = "Hello.\n") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "school@lms.example", "sam@school.example", subject
    mail.set_content(text)
    return mail


def send(port: int, *mails: EmailMessage | bytes, recipients: tuple[str, ...] = ("sam@school.example",)) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        for mail in mails:
            content = mail if isinstance(mail, bytes) else bytes(mail)
            client.sendmail("school@lms.example", recipients, content)


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.eml"))


async def test_a_mail_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail = a_mail(text="Start at http://lms.test/courses/botany?from=mail and then\nhttp://lms.test/other\n")
    async with catch_mails(tmp_path / "mail") as port:
        await to_thread(send, port, mail)
    printed = capsys.readouterr().out
    assert printed == 'mail      sam@school.example  "Welcome"  http://lms.test/courses/botany?from=mail\n'
    (kept,) = kept_in(tmp_path / "mail")
    assert b"Start at http://lms.test/courses/botany" in kept.read_bytes()


async def test_every_mail_has_a_file_of_its_own_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with catch_mails(tmp_path) as port:
        await to_thread(send, port, *(a_mail(f"Number {number}") for number in range(3)))
    kept = kept_in(tmp_path)
    assert [f"Subject: Number {number}".encode() in path.read_bytes() for number, path in enumerate(kept)] == [True] * 3
    assert capsys.readouterr().out.count("\n") == 3


async def test_a_second_start_keeps_the_mails_of_the_first_one(tmp_path: Path) -> None:
    for _ in range(2):
        async with catch_mails(tmp_path) as port:
            await to_thread(send, port, a_mail())
    assert len(kept_in(tmp_path)) == 2


async def test_nobody_listens_when_it_is_over(tmp_path: Path) -> None:
    async with catch_mails(tmp_path) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        await to_thread(send, port, a_mail())


async def test_a_mail_that_makes_no_sense_is_taken_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mails = [b"", b"\r\n", b"no header at all", b"Subject: \xff\xfe\r\n\r\n\xff", b"Content-Type: nonsense/;;\r\n\r\nx"]
    async with catch_mails(tmp_path) as port:
        await to_thread(send, port, *mails)
    assert capsys.readouterr().out.count("mail      sam@school.example") == len(mails)
    assert len(kept_in(tmp_path)) == len(mails)


def test_every_recipient_is_named() -> None:
    line = describe(bytes(a_mail()), ["sam@school.example", "stella@school.example"])
    assert line == 'mail      sam@school.example, stella@school.example  "Welcome"'


def test_a_subject_in_any_script_on_several_lines_is_one_line() -> None:
    subject = "Dein Zertifikat für „Ökologie der Gezeitenzone“ ist da, und 海の植物 auch " * 2
    line = describe(bytes(a_mail(subject)), ["sam@school.example"])
    assert "\n" not in line
    assert "Ökologie der Gezeitenzone“ ist da, und 海の植物 auch" in line


def test_the_link_is_taken_from_the_text_and_else_from_the_page() -> None:
    both = a_mail(text="http://lms.test/text\n")
    both.add_alternative('<a href="http://lms.test/page">', subtype="html")
    assert describe(bytes(both), ["s@x"]).endswith('"  http://lms.test/text')
    page = EmailMessage()
    page["Subject"] = "Page"
    page.set_content('<a href="http://lms.test/page">Read</a>', subtype="html")
    assert describe(bytes(page), ["s@x"]).endswith('"  http://lms.test/page')


def test_of_a_certificate_the_text_is_read() -> None:
    mail = a_mail("Your certificate", "See https://lms.test/verify/ABC\n")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="certificate.pdf")
    assert describe(bytes(mail), ["s@x"]).endswith("https://lms.test/verify/ABC")


def test_only_an_attachment_has_no_link() -> None:
    mail = EmailMessage()
    mail.add_attachment(b"http://lms.test/", maintype="application", subtype="pdf", filename="certificate.pdf")
    assert describe(bytes(mail), ["s@x"]) == 'mail      s@x  ""'


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\nContent-Type: text/plain; charset=nobody-knows\r\n\r\nhttp://lms.test/a",
        b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xff http://lms.test/a",
        b"Subject: x\r\nContent-Type: text/plain; charset=ascii\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhttp://lms.test/a",
    ],
)
def test_an_unknown_character_set_hides_no_link(content: bytes) -> None:
    assert describe(content, ["s@x"]) == 'mail      s@x  "x"  http://lms.test/a'


def test_a_mail_cannot_command_the_terminal() -> None:
    mail = b"Subject: =?utf-8?q?=1B[2J=1B]0;title=07=C2=9B=E2=80=AE?= done\r\n\r\nhttp://lms.test/\x1b[31m"
    line = describe(mail, ["s\x1b[0m@x"])
    assert line.isprintable()
    assert "done" in line
