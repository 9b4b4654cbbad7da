import asyncio
from collections.abc import Mapping

import pymongo
import pytest
from pymongo import _csot
from pymongo.errors import AutoReconnect

from lms.together import MOST, Together, TryAlone


class Store:
    """Doubles numbers, one read at a time, and only when it is let. Odd numbers are not there, 13 cannot be read."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self.let = asyncio.Event()
        self.let.set()
        self.asked = asyncio.Event()

    async def read(self, keys: list[int]) -> Mapping[int, int]:
        self.reads.append(keys)
        self.asked.set()
        await self.let.wait()
        if 13 in keys:
            raise ValueError(f"13 among {len(keys)}")
        return {key: 2 * key for key in keys if key % 2 == 0}


async def test_what_is_asked_for_at_the_same_time_is_one_read() -> None:
    store = Store()
    together = Together(store.read)
    assert await asyncio.gather(*map(together.get, (2, 3, 4, 2))) == [4, None, 8, 4]
    assert store.reads == [[2, 3, 4]]
    assert await together.get(6) == 12
    assert store.reads == [[2, 3, 4], [6]]


async def test_several_keys_are_asked_for_at_once() -> None:
    store = Store()
    together = Together(store.read)
    first, second = await asyncio.gather(together.get_all({2, 3, 4}), together.get_all([4, 6]))
    assert [first[key] for key in (2, 4)] + [second[key] for key in (4, 6)] == [4, 8, 8, 12]
    assert 3 not in first
    assert len(store.reads) == 1


async def test_what_is_asked_for_while_a_read_is_under_way_waits_for_the_next_one() -> None:
    store = Store()
    together = Together(store.read)
    store.let.clear()
    first = asyncio.create_task(together.get(2))
    await store.asked.wait()
    # The same key again: what is being read may be older than this question.
    later = [asyncio.create_task(together.get(key)) for key in (2, 4, 6)]
    await asyncio.sleep(0)
    store.let.set()
    assert [await first, *await asyncio.gather(*later)] == [4, 4, 8, 12]
    assert store.reads == [[2], [2, 4, 6]]


async def test_a_bad_key_fails_alone() -> None:
    store = Store()
    together = Together(store.read)
    answers = await asyncio.gather(*map(together.get, (2, 13, 4)), return_exceptions=True)
    assert answers[::2] == [4, 8]
    assert str(answers[1]) == "13 among 1"
    assert await together.get(2) == 4


async def test_whoever_goes_away_takes_nobody_along() -> None:
    store = Store()
    together = Together(store.read)
    store.let.clear()
    asked = [asyncio.create_task(together.get(2)) for _ in range(3)]
    await store.asked.wait()
    asked[0].cancel()
    store.let.set()
    assert await asyncio.gather(*asked[1:]) == [4, 4]
    with pytest.raises(asyncio.CancelledError):
        await asked[0]


async def test_one_read_has_a_bounded_number_of_keys() -> None:
    store = Store()
    together = Together(store.read)
    wanted = list(range(0, 2 * MOST + 10, 2))
    assert await asyncio.gather(*map(together.get, wanted)) == [2 * key for key in wanted]
    assert [len(keys) for keys in store.reads] == [MOST, 5]
    store.reads.clear()
    await asyncio.gather(*(together.get_all(range(start, start + 120, 2)) for start in (0, 200, 400)))
    assert [len(keys) for keys in store.reads] == [120, 60]


def test_it_works_in_the_next_event_loop_when_the_last_one_ended_in_the_middle() -> None:
    store = Store()
    together = Together(store.read)

    async def give_up() -> None:
        store.let.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await together.get(2)

    async def ask() -> int | None:
        store.let = asyncio.Event()
        store.let.set()
        return await together.get(4)

    asyncio.run(give_up())
    assert asyncio.run(ask()) == 8


async def test_an_outage_is_everybodys_at_once() -> None:
    reads = 0

    async def read(_: list[int]) -> Mapping[int, int]:
        nonlocal reads
        reads += 1
        raise AutoReconnect("gone")

    together = Together(read)
    answers = await asyncio.gather(*map(together.get, range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {AutoReconnect}
    assert reads == 1


async def test_what_has_to_be_asked_alone_holds_nobody_up() -> None:
    stuck = asyncio.Event()

    async def read(keys: list[int]) -> Mapping[int, int]:
        if 13 in keys and len(keys) > 1:
            raise TryAlone
        if 13 in keys:
            await stuck.wait()
        return {key: 2 * key for key in keys}

    together = Together(read)
    asked = [asyncio.create_task(together.get(key)) for key in (2, 13, 4)]
    assert [await asked[0], await asked[2]] == [4, 8]
    # While one waits, those who come later are answered.
    assert await asyncio.gather(*map(together.get, (6, 8))) == [12, 16]
    assert not asked[1].done()
    stuck.set()
    assert await asked[1] == 26


async def test_the_deadline_of_who_asks_first_is_not_that_of_the_others() -> None:
    remaining: list[float | None] = []

    async def read(keys: list[int]) -> Mapping[int, int]:
        remaining.append(_csot.remaining())
        return {key: key for key in keys}

    together = Together(read)
    with pymongo.timeout(0.2):
        assert _csot.remaining() is not None
        assert await together.get(1) == 1
    assert remaining == [None]


async def test_who_went_away_is_not_asked_for() -> None:
    store = Store()
    together = Together(store.read)
    store.let.clear()
    first = asyncio.create_task(together.get(2))
    await store.asked.wait()
    gone = asyncio.create_task(together.get(4))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    store.let.set()
    assert await first == 4
    assert await together.get(6) == 12
    assert store.reads == [[2], [6]]


async def test_for_no_keys_nothing_is_read() -> None:
    store = Store()
    assert await Together(store.read).get_all([]) == {}
    assert store.reads == []
