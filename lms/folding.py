"""Words as they are compared in a search: without case and accents."""

import unicodedata

_ACCENTS = ("\u0300", "\u036f")
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"})
"""What has no accent to take off, and is still typed without one."""
_AROUND = "\"'(),;<>[]"


def fold(text: str) -> str:
    """`Łukasz ÑANDÚ` -> `lukasz nandu`. Other scripts keep the marks that are a part of their letters."""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in apart if not _ACCENTS[0] <= letter <= _ACCENTS[1])
    return unicodedata.normalize("NFC", plain.translate(_LETTERS))


def folded_words(text: str) -> list[str]:
    """What stands between spaces, without brackets and commas around it: `Okafor, Sam <sam@school.example>`."""
    stripped = (word.strip(_AROUND) for word in fold(text).split())
    return list(dict.fromkeys(word for word in stripped if word))


def search_words(email: str, full_name: str) -> list[str]:
    """What a person is found by: the beginnings of these. Of a name with hyphens its parts count too."""
    whole = folded_words(full_name)
    parts = [part for word in whole for part in "".join(c if c.isalnum() else " " for c in word).split()]
    return list(dict.fromkeys([fold(email), *whole, *parts]))
