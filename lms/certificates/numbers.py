"""The number of a certificate: its enrolment's id in Crockford base32 with his check symbol (modulo 37).

128 bits are 26 symbols; with the check symbol and hyphens they read `1ABCDE-FGHJK-MNPQR-STVWX-YZ0123`. Reading is
lenient: lower case, spaces and hyphens do not matter, O counts as 0, I and L as 1.
"""

from uuid import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK_ALPHABET = ALPHABET + "*~$=U"
LENGTH = 26
GROUPS = (6, 5, 5, 5, 6)
MAX_TEXT = 60
_LENIENT = str.maketrans("OIL", "011", " -")


def number_of(enrollment_id: UUID) -> str:
    """The number as it stands on paper and in addresses."""
    value = enrollment_id.int
    symbols = [ALPHABET[value >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5)]
    text = "".join(symbols) + CHECK_ALPHABET[value % 37]
    ends = [sum(GROUPS[: index + 1]) for index in range(len(GROUPS))]
    return "-".join(text[end - size : end] for end, size in zip(ends, GROUPS, strict=True))


def enrollment_id_of(text: str) -> UUID | None:
    """The id behind a number as somebody typed it; None where it cannot be one."""
    if len(text) > MAX_TEXT or not text.isascii():
        return None
    symbols = text.upper().translate(_LENIENT)
    if len(symbols) != LENGTH + 1 or any(one not in ALPHABET for one in symbols[:-1]):
        return None
    value = 0
    for one in symbols[:-1]:
        value = value << 5 | ALPHABET.index(one)
    if value >> 128 or symbols[-1] != CHECK_ALPHABET[value % 37]:
        return None
    return UUID(int=value)
