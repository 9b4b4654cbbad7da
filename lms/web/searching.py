"""Pages of a text search, which looks at a bounded number of candidates however common the word is."""

from collections.abc import Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from lms.web.lists import AtLeast, Paging, Sort, cut, start_of, tells_total

MOST_CANDIDATES = 5_000


async def search_page(
    collection: AsyncCollection[dict[str, Any]],
    words: Mapping[str, Any],
    wanted: Mapping[str, Any],
    sort: Sort,
    paging: Paging,
    projection: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """As `find_page`, among the first 5,000 documents that an index gives for `words`: a common word costs no more."""
    # The filter comes behind the limit, else more than so many are looked through, and what is sorted is small.
    candidates = [{"$match": words}, {"$limit": MOST_CANDIDATES}, {"$project": projection}]
    order = {"$sort": dict(sort.fields)}
    if paging.cursor is None:
        # Each row tells of how many it was found.
        among = {"$setWindowFields": {"output": {"candidates": {"$count": {}}}}}
        page = [among, {"$match": wanted}, order, {"$skip": paging.offset}, {"$limit": paging.size}]
        rows = await (await collection.aggregate([*candidates, *page])).to_list()
        if tells_total(rows, paging):
            found = paging.offset + len(rows)
        else:
            found = await _counted(collection, [*candidates, {"$match": wanted}, {"$count": "n"}])
        looked_at = rows[0]["candidates"] if rows else await _counted(collection, [*candidates, {"$count": "n"}])
        return rows, AtLeast(found) if looked_at == MOST_CANDIDATES else found, None
    start = {"$and": [wanted, start_of(sort, paging.cursor)]} if paging.cursor else wanted
    page = [{"$match": start}, order, {"$limit": paging.size + 1}]
    return cut(await (await collection.aggregate([*candidates, *page])).to_list(), sort, paging)


async def _counted(collection: AsyncCollection[dict[str, Any]], pipeline: list[dict[str, Any]]) -> int:
    found = await (await collection.aggregate(pipeline)).to_list(1)
    return int(found[0]["n"]) if found else 0
