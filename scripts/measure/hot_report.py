"""Goes through the hot list, and tells what came of it."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import rich_click as click

from scripts.measure.explaining import Explained, listener, open_explaining
from scripts.measure.hot import EXCUSED, Ask, Excused, Hot, hot_list
from scripts.measure.hot_rules import Breach, breaches
from scripts.measure.hot_world import Cast, arrange, opened
from scripts.measure.world import system

COLUMNS = ("asked", "command", "collection", "index", "returned", "keys", "documents", "verdict")
DEEP = 3
"""How many of the longest pages lie before a later one."""
OK, EXCUSE, BROKEN = "ok", "excused", "BROKEN"


@dataclass(frozen=True, slots=True)
class Row:
    """A command of a hot request; `times` it was sent alike, and the most that it examined then."""

    asked: str
    command: str
    collection: str
    filter: str
    index: str
    returned: int
    keys: int
    documents: int
    times: int
    verdict: str
    details: tuple[str, ...]
    excuses: tuple[int, ...]
    """Places in EXCUSED that it needed."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.asked, self.command, self.collection, self.filter


async def judge(cast: Cast, asked: Iterable[Hot]) -> list[Row]:
    """Asks one after the other, and judges every command that was sent."""
    rows: list[Row] = []
    with open_explaining(cast.settings.mongodb_url) as client:
        database = client[cast.settings.mongodb_database]
        for hot in asked:
            call = await _prepared(cast, hot)
            with listener().watching(database) as seen:
                await call
            rows += [_row(hot, alike) for alike in _alike(seen)]
    return rows


async def _prepared(cast: Cast, hot: Hot) -> Awaitable[object]:
    """The call that counts, after what has to go before: the pages before a later one."""
    if not isinstance(hot, Ask):
        return await hot.begin(cast)
    # A session that no process has a verdict on, so that every request asks for it.
    await cast.new_session(hot.who)
    query = list(_filled(hot.query, cast.ids))
    if hot.later:
        query.append(("cursor", await _cursor_of_a_later_page(cast, hot, query)))
        await cast.new_session(hot.who)
    return _send(cast, hot, query)


async def _cursor_of_a_later_page(cast: Cast, ask: Ask, query: list[tuple[str, str]]) -> str:
    """As far behind as the list goes, since what a cursor costs must not depend on that.

    Raises RuntimeError for a list that is one page.
    """
    own = next(value for name, value in query if name == "page_size")
    others = [(name, value) for name, value in query if name != "page_size"]
    for size in ("100", own):
        cursor = ""
        for _ in range(DEEP):
            answer = await _send(cast, ask, [*others, ("page_size", size), ("cursor", cursor)])
            cursor = answer.json()["next_cursor"] or cursor
        if cursor:
            return cursor
    raise RuntimeError(f"{ask.name}: there is no later page.")


async def _send(cast: Cast, ask: Ask, query: list[tuple[str, str]]) -> httpx.Response:
    body = None if ask.body is None else _filled(ask.body, cast.ids)
    more: dict[str, Any] = {} if body is None else {"json": body}
    path = _filled(ask.path, cast.ids)
    answer = await cast.ask(ask.who, ask.method, path, params=query, headers=ask.headers, **more)
    if answer.status_code != ask.status:
        raise RuntimeError(f"{ask.name}: {answer.status_code} {answer.text}")
    return answer


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format_map(ids) if "{" in value else value
    if isinstance(value, dict):
        return {key: _filled(one, ids) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_filled(one, ids) for one in value)
    return value


def _alike(seen: list[Explained]) -> Iterable[list[Explained]]:
    """Commands of one shape, such as the relay's hundred leases, are one row."""
    groups: dict[tuple[str, str, str], list[Explained]] = {}
    for one in seen:
        groups.setdefault((one.command, one.collection, one.shape), []).append(one)
    return groups.values()


def _row(hot: Hot, alike: list[Explained]) -> Row:
    worst = max(alike, key=lambda one: one.all_keys + one.all_documents)
    found = [(one, breach) for one in alike for breach in breaches(one)]
    excuses = [_excuse(hot, one, breach) for one, breach in found]
    return Row(
        asked=hot.name,
        command=worst.command,
        collection=", ".join([worst.collection, *(one.collection for one in (*worst.lookups, *worst.joins))]),
        filter=worst.shape,
        index=", ".join(worst.indexes),
        returned=worst.returned,
        keys=worst.all_keys,
        documents=worst.all_documents,
        times=len(alike),
        verdict=_verdict(excuses),
        details=tuple(dict.fromkeys(str(breach) for _, breach in found)),
        excuses=tuple({place for place in excuses if place is not None}),
    )


def _excuse(hot: Hot, one: Explained, breach: Breach) -> int | None:
    return next((place for place, each in enumerate(EXCUSED) if each.covers(hot, one, breach)), None)


def _verdict(excuses: list[int | None]) -> str:
    if None in excuses:
        return BROKEN
    return EXCUSE if excuses else OK


def as_table(rows: list[Row]) -> str:
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    command = row.command if row.times == 1 else f"{row.command} x{row.times}"
    verdict = row.verdict if row.verdict == OK else f"{row.verdict}: {'; '.join(row.details)}"
    numbers = (str(row.returned), str(row.keys), str(row.documents))
    return row.asked, command, row.collection, row.index or "-", *numbers, verdict


def excuses_used(rows: list[Row]) -> list[Excused]:
    used = {place for row in rows for place in row.excuses}
    return [one for place, one in enumerate(EXCUSED) if place in used]


def print_rows(rows: list[Row]) -> None:
    click.echo(as_table(rows))
    for one in excuses_used(rows):
        click.echo(f"\n{EXCUSE}: {one.ask}, {one.collection}: {one.reason}", nl=False)
    told = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (OK, EXCUSE, BROKEN)}
    click.echo(f"\n\n{len(rows)} commands: {', '.join(f'{count} {verdict}' for verdict, count in told.items())}.")


async def _explain(scale: int) -> list[Row]:
    async with system(scale) as running:
        # The table goes where log lines go.
        settings = running.settings.model_copy(update={"log_level": "ERROR"})
        async with opened(settings, running.database, running.world) as cast:
            await arrange(cast, running.world)
            return await judge(cast, hot_list())


def _reasons(row: Row) -> list[str]:
    return [EXCUSED[place].reason for place in row.excuses]


def tell(rows: list[Row], json_file: Path | None) -> int:
    """Prints them, and gives the exit code: 1 where a rule is broken that nothing excuses."""
    print_rows(rows)
    if json_file is not None:
        told = [msgspec.to_builtins(row) | {"excuses": _reasons(row)} for row in rows]
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))
    return int(any(row.verdict == BROKEN for row in rows))


def explain_hot(scale: int, json_file: Path | None) -> int:
    return tell(asyncio.run(_explain(scale)), json_file)
