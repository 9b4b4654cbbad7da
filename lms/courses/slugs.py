"""Slugs: a title as a part of an address."""

import unicodedata

MAX_SLUG = 80
LATIN_ACCENTS = ("\u0300", "\u036f")


def slug_of(title: str) -> str:
    """Lower-case words joined by hyphens. Latin letters lose their accents, other scripts keep their letters."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not LATIN_ACCENTS[0] <= c <= LATIN_ACCENTS[1])
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", plain).lower())
    return "-".join("".join(kept).split())[:MAX_SLUG].strip("-") or "course"
