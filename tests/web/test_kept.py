import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Response

from lms.web import kept
from lms.web.kept import LARGEST, MOST, KeptAnswers


class Kitchen:
    """Makes numbered answers when it is let."""

    def __init__(self) -> None:
        self.made = 0
        self.let = asyncio.Event()
        self.let.set()
        self.fails = False

    async def make(self) -> Response[bytes]:
        self.made += 1
        number = self.made
        await self.let.wait()
        if self.fails:
            raise ValueError("nothing today")
        return Response(f"{number}".encode())


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    hands = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(kept, "time", SimpleNamespace(monotonic=lambda: hands.now))
    return hands


async def content(asking: Awaitable[Response[Any]]) -> bytes:
    return (await asking).content


async def test_an_answer_is_kept_for_half_a_second(kitchen: Kitchen, clock: SimpleNamespace) -> None:
    answers = KeptAnswers(0.5)
    assert answers.find(b"a") is None
    assert await content(answers.get(b"a", kitchen.make)) == b"1"
    clock.now += 0.499
    assert await content(answers.get(b"a", kitchen.make)) == b"1"
    assert answers.find(b"a") is not None
    clock.now += 0.001
    assert answers.find(b"a") is None
    assert await content(answers.get(b"a", kitchen.make)) == b"2"


async def test_its_age_counts_from_the_question(kitchen: Kitchen, clock: SimpleNamespace) -> None:
    answers = KeptAnswers(0.5)
    kitchen.let.clear()
    asked = asyncio.create_task(answers.get(b"a", kitchen.make))
    await asyncio.sleep(0)
    clock.now += 0.6
    # The one that is under way is too old to be waited for, and when it comes it is not kept.
    later = asyncio.create_task(answers.get(b"a", kitchen.make))
    await asyncio.sleep(0)
    kitchen.let.set()
    assert [await content(asked), await content(later)] == [b"1", b"2"]
    assert await content(answers.get(b"a", kitchen.make)) == b"2"


async def test_a_crowd_costs_one_read(kitchen: Kitchen) -> None:
    answers = KeptAnswers(0.5)
    crowd = [content(answers.get(key, kitchen.make)) for key in (b"a", b"b") * 50]
    assert sorted(set(await asyncio.gather(*crowd))) == [b"1", b"2"]
    assert kitchen.made == 2


async def test_whoever_goes_away_leaves_the_others_their_answer(kitchen: Kitchen) -> None:
    answers = KeptAnswers(0.5)
    kitchen.let.clear()
    crowd = [asyncio.create_task(answers.get(b"a", kitchen.make)) for _ in range(3)]
    await asyncio.sleep(0)
    crowd[0].cancel()
    kitchen.let.set()
    assert [await content(one) for one in crowd[1:]] == [b"1", b"1"]


async def test_an_error_is_not_kept(kitchen: Kitchen) -> None:
    answers = KeptAnswers(0.5)
    kitchen.fails = True
    failed = await asyncio.gather(*(answers.get(b"a", kitchen.make) for _ in range(3)), return_exceptions=True)
    assert {str(one) for one in failed} == {"nothing today"}
    kitchen.fails = False
    assert await content(answers.get(b"a", kitchen.make)) == b"2"


async def test_what_is_kept_is_bounded_in_number_and_size(kitchen: Kitchen) -> None:
    answers = KeptAnswers(0.5)

    def of_size(size: int) -> Callable[[], Awaitable[Response[bytes]]]:
        async def make() -> Response[bytes]:
            return Response(b"x" * size)

        return make

    await answers.get(b"large", of_size(LARGEST + 1))
    assert answers.find(b"large") is None
    for number in range(MOST + 1):
        await answers.get(str(number).encode(), of_size(1))
    assert (answers.find(b"0"), answers.find(b"1") is None) == (None, False)


async def test_without_time_nothing_is_kept(kitchen: Kitchen) -> None:
    answers = KeptAnswers(0)
    assert [await content(answers.get(b"a", kitchen.make)) for _ in range(2)] == [b"1", b"2"]
