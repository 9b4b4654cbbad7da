"""Lists: pages with a total, or a cursor that costs the same at any depth. One mechanism for all of them."""

import asyncio
import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import bson
import msgspec
from bson.raw_bson import RawBSONDocument
from litestar import Request, Response
from litestar.params import QueryParameter
from pymongo.asynchronous.collection import AsyncCollection

from lms.errors import FieldError, Invalid
from lms.schemas import Output, encode
from lms.together import Together
from lms.transactions import database

T = TypeVar("T")

MAX_OFFSET = 10_000
DEFAULT_SIZE = 20
MAX_SIZE = 100
MAX_CURSOR = 4_000
PLACE = "place"


class Page(Output, Generic[T]):
    """A list by page. `total` is exact up to 10,000 (5,000 in a search), where `total_is_exact` becomes false."""

    items: list[T]
    total: int
    page: int
    page_size: int
    pages: int
    total_is_exact: bool = True


class CursorPage(Output, Generic[T]):
    """A list by cursor: `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None


PageNumber = Annotated[
    int | None, QueryParameter(name="page", ge=1, description="Page number from 1. Offsets end at 10,000 rows.")
]
PageSize = Annotated[int, QueryParameter(name="page_size", ge=1, le=MAX_SIZE, description="Rows a page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        name="cursor",
        max_length=MAX_CURSOR,
        description="Empty for the first page, then `next_cursor`; not with `page`.",
    ),
]


@dataclass(frozen=True, slots=True)
class Paging:
    page: int
    size: int
    cursor: str | None

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size


async def provide_paging(page: PageNumber = None, page_size: PageSize = DEFAULT_SIZE, cursor: Cursor = None) -> Paging:
    """The dependency `paging`. Raises 422 beyond 10,000 rows and where `page` and `cursor` are both given."""
    if page is not None and cursor is not None:
        raise Invalid(errors=[_wrong("cursor", "exclusive", "Give page or cursor, not both.")])
    paging = Paging(page or 1, page_size, cursor)
    if paging.offset + paging.size > MAX_OFFSET:
        raise Invalid(errors=[_wrong("page", "too_deep", "Pages end at 10,000 rows; go on with cursor.")])
    return paging


@dataclass(frozen=True, slots=True)
class Sort:
    """An order that an index serves. `fields` end with `_id`, so that the order is total."""

    fields: tuple[tuple[str, int], ...]
    index: str

    def after(self, values: Sequence[Any]) -> dict[str, Any]:
        """The filter for what comes behind the row that has `values` in these fields."""
        branches: list[dict[str, Any]] = []
        for position, (name, direction) in enumerate(self.fields):
            equal = {field: values[index] for index, (field, _) in enumerate(self.fields[:position])}
            branches.append(equal | {name: {"$gt" if direction > 0 else "$lt": values[position]}})
        # An $or gives an index no bounds where the filter is one itself; the first field alone always does.
        name, direction = self.fields[0]
        return {name: {"$gte" if direction > 0 else "$lte": values[0]}, "$or": branches}

    @property
    def name(self) -> str:
        """Tells one order from another, so that a cursor of one is no cursor of the other."""
        return ",".join(f"{'-' if direction < 0 else ''}{field}" for field, direction in self.fields)

    def values_of(self, row: Mapping[str, Any]) -> list[Any]:
        return [row[name] for name, _ in self.fields]


@dataclass(frozen=True, slots=True)
class _Find:
    """A find that compares by what it asks for: two that are alike have one answer. `wanted` is BSON."""

    collection: str
    wanted: bytes
    projection: tuple[tuple[str, Any], ...] = ()
    sort: tuple[tuple[str, int], ...] = ()
    skip: int = 0
    limit: int = 0

    async def rows(self) -> list[dict[str, Any]]:
        found = database()[self.collection].find(RawBSONDocument(self.wanted), dict(self.projection) or None)
        return await found.sort(list(self.sort)).skip(self.skip).limit(self.limit).to_list()

    async def count(self) -> int:
        """Counted to just past 10,000."""
        return await database()[self.collection].count_documents(RawBSONDocument(self.wanted), limit=MAX_OFFSET + 1)


async def _read_rows(finds: list[_Find]) -> dict[_Find, list[dict[str, Any]]]:
    return dict(zip(finds, await asyncio.gather(*(find.rows() for find in finds)), strict=True))


async def _read_totals(finds: list[_Find]) -> dict[_Find, int]:
    return dict(zip(finds, await asyncio.gather(*(find.count() for find in finds)), strict=True))


_pages = Together(_read_rows)
"""Whoever asks for the same page at the same time shares its rows, which are not to be changed."""
_totals = Together(_read_totals)


async def find_page(
    collection: AsyncCollection[dict[str, Any]],
    wanted: Mapping[str, Any],
    sort: Sort,
    paging: Paging,
    projection: Mapping[str, Any] | None = None,
    *,
    shared: bool = False,
) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """Rows, then the total (by page) or the next cursor (by cursor). `shared` says that others ask for the same."""
    if paging.cursor is None:
        asked = bson.encode(wanted, codec_options=collection.codec_options)
        shown = tuple((projection or {}).items())
        page = _Find(collection.name, asked, shown, sort.fields, paging.offset, paging.size)
        rows = (await _pages.get(page) or []) if shared else await page.rows()
        if tells_total(rows, paging):
            return rows, paging.offset + len(rows), None
        return rows, await _totals.get(_Find(collection.name, asked)), None
    start = start_of(sort, paging.cursor)
    query = {"$and": [wanted, start]} if start else wanted
    found = collection.find(query, projection).sort(list(sort.fields)).limit(paging.size + 1)
    return cut(await found.to_list(), sort, paging)


def tells_total(rows: Sequence[Any], paging: Paging) -> bool:
    """Whether this is the last page."""
    return len(rows) < paging.size and bool(rows or not paging.offset)


def start_of(sort: Sort, cursor: str) -> dict[str, Any]:
    return sort.after(decode_cursor(cursor, sort.name, len(sort.fields))) if cursor else {}


def cut(rows: list[dict[str, Any]], sort: Sort, paging: Paging) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """One row more was asked for, which tells whether there is a next page."""
    more = len(rows) > paging.size
    rows = rows[: paging.size]
    return rows, None, encode_cursor(sort.name, sort.values_of(rows[-1])) if more else None


class AtLeast(int):
    """A total where counting stopped."""


def answer_list(
    request: Request[Any, Any, Any],
    paging: Paging,
    items: list[T],
    total: int | None,
    next_cursor: str | None,
) -> Response[Any]:
    """The answer with its `Link` header (RFC 8288)."""
    if total is None:
        links = {"next": {"cursor": next_cursor}} if next_cursor else {}
        return _respond(request, CursorPage[Any](items=items, next_cursor=next_cursor), links)
    capped = min(int(total), MAX_OFFSET)
    pages = math.ceil(capped / paging.size)
    page = Page[Any](
        items=items,
        total=capped,
        page=paging.page,
        page_size=paging.size,
        pages=pages,
        total_is_exact=total <= MAX_OFFSET and not isinstance(total, AtLeast),
    )
    numbers = {"first": 1, "prev": paging.page - 1, "next": paging.page + 1, "last": pages}
    return _respond(request, page, {rel: {"page": number} for rel, number in numbers.items() if 1 <= number <= pages})


def _respond(request: Request[Any, Any, Any], body: Output, links: Mapping[str, Mapping[str, Any]]) -> Response[Any]:
    header = ", ".join(f'<{_link(request, changes)}>; rel="{rel}"' for rel, changes in links.items())
    headers = {"Link": header} if header else {}
    return Response(encode(body), media_type="application/json", headers=headers)


def _link(request: Request[Any, Any, Any], changes: Mapping[str, Any]) -> str:
    kept = [(name, value) for name, value in request.query_params.items() if name not in {"page", "cursor"}]
    return f"{request.url.path}?{urlencode([*kept, *changes.items()])}"


def slice_page(rows: Sequence[T], paging: Paging) -> tuple[list[T], int | None, str | None]:
    """A page of rows that are all at hand, as those of one course are."""
    if paging.cursor is None:
        return list(rows[paging.offset : paging.offset + paging.size]), len(rows), None
    start = decode_cursor(paging.cursor, PLACE, 1)[0] if paging.cursor else 0
    if not isinstance(start, int) or start < 0:
        raise _bad_cursor()
    end = start + paging.size
    return list(rows[start:end]), None, encode_cursor(PLACE, [end]) if end < len(rows) else None


def encode_cursor(order: str, values: Sequence[Any]) -> str:
    text = msgspec.json.encode((order, [_tagged(value) for value in values]))
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_cursor(text: str, order: str, length: int) -> list[Any]:
    """Raises 422 for anything that `encode_cursor` did not make for a list of this order."""
    try:
        padded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        made_for, tagged = msgspec.json.decode(padded, type=_CursorText)
        values = [_untagged(kind, value) for kind, value in tagged]
    except (ValueError, KeyError, OverflowError, msgspec.MsgspecError):
        raise _bad_cursor() from None
    if (made_for, len(values)) != (order, length):
        raise _bad_cursor()
    return values


_CursorText = tuple[str, list[tuple[str, str | int]]]
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_KINDS: dict[str, Any] = {"u": UUID, "t": datetime, "s": str, "i": _Integer}


def _tagged(value: Any) -> tuple[str, Any]:
    if isinstance(value, UUID):
        return "u", str(value)
    if isinstance(value, datetime):
        return "t", value.isoformat()
    return ("s", value) if isinstance(value, str) else ("i", value)


def _untagged(kind: str, value: Any) -> Any:
    found = msgspec.convert(value, _KINDS[kind])
    # The driver cannot send a time that is out of range in UTC.
    return found.astimezone(UTC) if isinstance(found, datetime) else found


def _bad_cursor() -> Invalid:
    return Invalid(errors=[_wrong("cursor", "invalid", "This is not a cursor of this list.")])


def _wrong(parameter: str, code: str, message: str) -> FieldError:
    return FieldError(code=code, message=message, parameter=parameter)
