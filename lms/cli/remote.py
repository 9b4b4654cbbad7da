"""A server elsewhere, asked over HTTPS with an API key: LMS_API_URL and LMS_API_KEY."""

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import rich_click as click
from click import get_current_context

from lms.cli import refuse
from lms.redaction import clean_text

if TYPE_CHECKING:
    import httpx

URL, KEY = "LMS_API_URL", "LMS_API_KEY"
API = "/api/v1"
SECONDS = 30.0
PAGE = 100
REDIRECTS = range(300, 400)


def is_remote() -> bool:
    """Whether commands are meant for a server elsewhere."""
    if os.environ.get(URL):
        return True
    if os.environ.get(KEY) or os.environ.get(f"{KEY}_FILE"):
        refuse([f"{URL}: is missing; {KEY} says that a server elsewhere is meant, and not the database"])
    return False


def refuse_remote() -> None:
    """For what works on the database: it must not write to one here when somebody meant a server elsewhere."""
    if is_remote():
        refuse([f"{URL}: is set, but this command works on the database only; unset it for LMS_MONGODB_URL"])


class Remote:
    """The server of LMS_API_URL. The key goes there and nowhere else: no redirect is followed."""

    def __init__(self) -> None:
        import httpx

        url, key, problems = os.environ.get(URL, ""), "", list[str]()
        try:
            self.address = _address(url)
        except ValueError as problem:
            problems.append(f"{URL}: {problem}")
        try:
            key = _key()
        except ValueError as problem:
            problems.append(f"{KEY}: {problem}")
        if problems:
            refuse(problems)
        self._client = httpx.Client(
            base_url=self.address + API,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": "lms"},
            timeout=SECONDS,
            follow_redirects=False,
            # A proxy sees what goes by plain http, which is for this machine only.
            trust_env=self.address.startswith("https:"),
        )
        get_current_context().call_on_close(self._client.close)

    def get(self, path: str, **query: str | int) -> Any:
        return self._ask("GET", path, query)

    def post(self, path: str) -> Any:
        return self._ask("POST", path, {})

    def items(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """All rows of a list."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(path, page_size=PAGE, cursor=cursor, **query)
            yield from page["items"]
            cursor = page["next_cursor"]

    def _ask(self, method: str, path: str, query: Mapping[str, str | int]) -> Any:
        import httpx

        try:
            answer = self._client.request(method, path, params=query or None)
        except httpx.HTTPError as error:
            raise click.ClickException(f"{self.address} cannot be asked: {type(error).__name__}.") from None
        if answer.status_code in REDIRECTS:
            raise click.ClickException(
                f"{self.address} sends on to somewhere else; set {URL} to the API's own address."
            )
        body = _json(answer)
        if body is None:
            raise click.ClickException(f"{self.address} answers {answer.status_code} and no JSON; is this the API?")
        if not answer.is_success:
            raise click.ClickException(why(body.get("detail"), body))
        return body


def why(detail: object, members: Mapping[str, Any]) -> str:
    """One sentence, with what is missing and the request's id where they are told."""
    missing = members.get("missing")
    listed = f" Missing: {', '.join(map(str, missing))}." if isinstance(missing, list) and missing else ""
    request = f" (request {members['request_id']})" if members.get("request_id") else ""
    return shown(f"{detail or 'It did not work.'}{listed}{request}")


def shown(text: object) -> str:
    """What others wrote, without what commands a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in clean_text(str(text)))


def _address(url: str) -> str:
    """Raises ValueError, which says what is wrong and not what was given: it may hold a password."""
    parts = urlsplit(url.strip())
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("is no address, such as https://school.example")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("has more than an address; user, password, `?` and `#` do not belong there")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise ValueError("is plain http, by which everybody on the way could read the key; use https")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(API)}"


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _key() -> str:
    """Raises ValueError, which says what is wrong and nothing of the key."""
    from lms.api_keys.rules import ApiKeyMistyped, parse_key

    text = os.environ.get(KEY)
    if not text and (path := os.environ.get(f"{KEY}_FILE")):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot be read from {KEY}_FILE ({type(error).__name__})") from None
    if not text or not text.strip():
        raise ValueError("is missing; `lms api-keys create` on the server makes one, and so does POST auth/api-keys")
    try:
        parse_key(text.strip())
    except ApiKeyMistyped:
        raise ValueError("was cut, or there is a typing mistake in it") from None
    return text.strip()


def _json(answer: "httpx.Response") -> Any:
    import msgspec

    try:
        body = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return None
    return body if isinstance(body, dict) else None
