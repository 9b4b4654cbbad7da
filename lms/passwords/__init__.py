"""Password hashing: `v1$` + bcrypt(base64(HMAC-SHA256(pepper, NFC password))), always in its own threads.

The HMAC makes every length work (bcrypt itself refuses more than 72 bytes) and keeps a stolen database useless without
the pepper. bcrypt releases the GIL, so as many threads as cores keep the event loop free.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import bcrypt

from lms.settings import Settings

VERSION = "v1$"
# Kept here and not taken from zxcvbn itself, whose import takes 0.2 s for much that is not needed; this takes 1 ms.
COMMON = Path(__file__).with_name("common.txt")


MOST_THREADS = 8
PATIENCE = 10
"""How far behind the event loop a password may stand, in steps of niceness: it gets what the others leave."""


def _give_way() -> None:
    """A quarter of a second of arithmetic must not hold up the many short requests. Only Linux knows nice threads."""
    if sys.platform == "linux":
        # A sandbox may forbid it; then a password is as urgent as all else, which is better than no passwords.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENCE)


def _threads() -> int:
    """As many as there are cores for this process; more processes share a machine with many."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MOST_THREADS)


class Passwords:
    """Hashes and checks; one per process."""

    def __init__(self, settings: Settings) -> None:
        self._pepper = settings.password_pepper.get_secret_value().encode()
        self._cost = settings.bcrypt_cost
        self.school = settings.school_name
        self._threads = ThreadPoolExecutor(_threads(), thread_name_prefix="bcrypt", initializer=_give_way)
        # Checked against where the account is unknown, so that both answers do the same work. No password has it.
        self._nobody = VERSION + bcrypt.hashpw(os.urandom(32).hex().encode(), bcrypt.gensalt(self._cost)).decode()

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hash, password)

    async def is_common(self, password: str) -> bool:
        """Whether it is one of the 10,000 commonest, in whatever case."""
        # The first one reads a file.
        return await asyncio.get_running_loop().run_in_executor(self._threads, is_common, password)

    def is_outdated(self, stored: str) -> bool:
        """Whether the cost was changed since it was hashed."""
        return _cost_of(stored) != self._cost

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the one behind `stored`; False, after the same work, where nothing is stored."""
        loop = asyncio.get_running_loop()
        matches = await loop.run_in_executor(self._threads, self._check, password, stored or self._nobody)
        return matches and stored is not None

    def _hash(self, password: str) -> str:
        return VERSION + bcrypt.hashpw(self._prepared(password), bcrypt.gensalt(self._cost)).decode()

    def _check(self, password: str, stored: str) -> bool:
        if not stored.startswith(VERSION):
            return False
        prepared = self._prepared(password)
        matches = bcrypt.checkpw(prepared, stored.removeprefix(VERSION).encode())
        # A hash from before the cost was raised takes as long as all others: 2^4 + 2^4 + 2^5 rounds are 2^6.
        for cost in range(_cost_of(stored), self._cost):
            bcrypt.hashpw(prepared, bcrypt.gensalt(cost))
        return matches

    def _prepared(self, password: str) -> bytes:
        normal = normal_password(password).encode("utf-8", "surrogatepass")
        return base64.b64encode(hmac.new(self._pepper, normal, hashlib.sha256).digest())

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def normal_password(text: str) -> str:
    """One spelling, however a keyboard composes its characters."""
    return unicodedata.normalize("NFC", text)


def is_common(password: str) -> bool:
    return normal_password(password).casefold() in _common()


@cache
def _common() -> frozenset[str]:
    return frozenset(COMMON.read_text(encoding="utf-8").partition(f"{'-' * 40}\n")[2].splitlines())


def _cost_of(stored: str) -> int:
    """bcrypt's own text is `$2b$12$...`."""
    return int(stored.removeprefix(VERSION).split("$")[2])
