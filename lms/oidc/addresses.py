"""Which addresses are ours to send people back to, and a provider's to be asked at."""

import re
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from lms.oidc.rules import ReturnAddressRefused, wrong_answer
from lms.setting_types import is_loopback

# What RFC 3986 allows, without what browsers turn into something else, and without a fragment, which we set.
_ADDRESS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")


def return_address(text: str, base: str, origins: Iterable[str]) -> str:
    """The whole address of a path in the app at `base`, or of one at `origins`. Raises `ReturnAddressRefused`."""
    if not _ADDRESS.fullmatch(text):
        raise ReturnAddressRefused("A path or an address without a fragment.")
    if text.startswith("/"):
        if text.startswith("//"):
            raise ReturnAddressRefused("A path starts with a single slash.")
        return base + text
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ReturnAddressRefused("Not an address.") from None
    if f"{parts.scheme}://{parts.netloc}" not in {_origin(base), *origins}:
        raise ReturnAddressRefused("Not at the school's front end, nor at an origin of LMS_CORS_ORIGINS.")
    return text


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def with_fragment(address: str, **values: str) -> str:
    """What stands behind `#` is in no server's log and in no Referer."""
    return f"{address}#{urlencode(values)}"


def with_query(address: str, values: dict[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(values)}"


def check_endpoint(address: object, issuer: str) -> str:
    """An address that the provider's own document names: https, and on this machine only for an issuer that is.

    Raises `SignInFailed`.
    """
    if not isinstance(address, str) or "#" in address:
        raise wrong_answer("its metadata name no address")
    try:
        parts = urlsplit(address)
    except ValueError:
        raise wrong_answer("its metadata name no address") from None
    inside = is_loopback(parts)
    if inside != is_loopback(urlsplit(issuer)) and inside:
        raise wrong_answer("its metadata name an address on this machine")
    if parts.scheme != "https" and not (parts.scheme == "http" and inside):
        raise wrong_answer("its metadata name an address without TLS")
    if not parts.hostname or "@" in parts.netloc:
        raise wrong_answer("its metadata name no address")
    return address
