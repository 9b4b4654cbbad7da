"""What bcrypt was asked, counted at its own door; every call still happens."""

import threading
from dataclasses import dataclass, field

import bcrypt
import pytest


@dataclass
class Bcrypts:
    """`calls` has `hash` or `check` and the cost for each, `threads` the thread that did it."""

    calls: list[str] = field(default_factory=list[str])
    threads: list[str] = field(default_factory=list[str])

    def note(self, name: str, salt: bytes) -> None:
        self.calls.append(f"{name} {salt.split(b'$')[2].decode()}")
        self.threads.append(threading.current_thread().name)

    def clear(self) -> None:
        self.calls.clear()
        self.threads.clear()


@pytest.fixture
def bcrypts(monkeypatch: pytest.MonkeyPatch) -> Bcrypts:
    seen = Bcrypts()
    hashpw, checkpw = bcrypt.hashpw, bcrypt.checkpw

    def counted_hash(password: bytes, salt: bytes) -> bytes:
        seen.note("hash", salt)
        return hashpw(password, salt)

    def counted_check(password: bytes, hashed_password: bytes) -> bool:
        seen.note("check", hashed_password)
        return checkpw(password, hashed_password)

    monkeypatch.setattr(bcrypt, "hashpw", counted_hash)
    monkeypatch.setattr(bcrypt, "checkpw", counted_check)
    return seen
