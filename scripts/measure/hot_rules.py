"""The rules for a command on a hot path: DESIGN section 8, and the shard keys of section 4."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scripts.measure.explaining import Explained, Join, Lookup

PAGE = 101
"""The longest page, and one row to see whether there are more."""
COUNTED = 10_001
"""Where a total stops."""
CANDIDATES = 5_000
"""What a search may go through."""

SHARDED: dict[str, tuple[str, int]] = {
    "enrollments": ("student_id", 1),
    "sessions": ("_id", PAGE),
    "certificates": ("_id", PAGE),
    "certificate_pdfs": ("_id", PAGE),
    "student_counters": ("_id", 1),
    "idempotency": ("_id", 1),
    "sign_in_challenges": ("_id", 1),
    "outbox": ("bucket", 1),
    "sign_in_failures": ("_id", 3),
}
"""By collection the field that its shard key starts with, and how many values of it one command may ask for."""
WHOLE = frozenset(
    {
        "users",
        "courses",
        "course_stats",
        "counters",
        "leases",
        "schedules",
        "meta",
        "mailed_links",
        "invitations",
        "audit",
        "audit_details",
        "audit_keys",
        "api_keys",
        "identities",
        "oidc_starts",
        "oidc_codes",
    }
)
"""Collections that stay on one shard."""
UNIQUE: dict[str, tuple[tuple[str, ...], ...]] = {
    "users": (("email",),),
    "courses": (("slug",),),
    "enrollments": (("student_id", "course_id"),),
}
"""Beside `_id`, what at most one document has."""
NOT_UNDERSTOOD = frozenset({"$facet", "$unionWith", "$graphLookup", "$merge", "$out"})


class Rule(StrEnum):
    COLLSCAN = "COLLSCAN"
    SORT = "SORT"
    EXAMINED = "examined"
    BOUNDED = "bounded"
    SHARD_KEY = "shard key"
    UNDERSTOOD = "understood"


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a command breaks. `examined` is the larger of its keys and documents."""

    rule: Rule
    detail: str
    examined: int

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


def breaches(one: Explained) -> list[Breach]:
    examined = max(one.all_keys, one.all_documents)
    found = [*_stages(one), *_examined(one), *_bounded(one), *_shard_keys(one)]
    return [Breach(rule, detail, examined) for rule, detail in found]


def _stages(one: Explained) -> Iterator[tuple[Rule, str]]:
    if "COLLSCAN" in one.stages or any(lookup.scans for lookup in one.lookups):
        yield Rule.COLLSCAN, "goes through a whole collection"
    if any(join.strategy != "IndexedLoopJoin" for join in one.joins):
        yield Rule.COLLSCAN, "joins without an index"
    if one.stages & {"SORT", "$sort"}:
        yield Rule.SORT, "sorts what no index has in order"
    if strange := one.stages & NOT_UNDERSTOOD:
        yield Rule.UNDERSTOOD, f"what {', '.join(sorted(strange))} examines is not told"


def _examined(one: Explained) -> Iterator[tuple[Rule, str]]:
    """A page by number also goes through what it skips, which ends at 10,000 rows. A join reads one row for each."""
    allowed = CANDIDATES if _searches(one) else 2 * (one.returned + one.skipped) * (1 + len(one.joins)) + 1
    if max(one.keys, one.documents) > allowed:
        yield Rule.EXAMINED, f"{one.keys} keys and {one.documents} documents for {one.returned + one.skipped}"
    for lookup in one.lookups:
        if max(lookup.keys, lookup.documents) > 2 * lookup.returned + 1:
            told = f"{lookup.keys} keys and {lookup.documents} documents for {lookup.returned}"
            yield Rule.EXAMINED, f"{told} in {lookup.collection}"


def _bounded(one: Explained) -> Iterator[tuple[Rule, str]]:
    """The command itself ends somewhere: by its limit, or because there is but one document for each id."""
    ids = values_of(one.wanted, "_id")
    if one.command == "insert" or (ids is not None and ids <= PAGE) or any(_unique(one)):
        return
    most = COUNTED if one.groups or one.command == "count" else CANDIDATES if _searches(one) else PAGE
    if one.limit is None or one.limit > most:
        yield Rule.BOUNDED, "nothing ends it" if one.limit is None else f"ends at {one.limit}"


def _searches(one: Explained) -> bool:
    return "TEXT_MATCH" in one.stages


def _unique(one: Explained) -> Iterator[bool]:
    for names in UNIQUE.get(one.collection, ()):
        yield all(values_of(one.wanted, name) == 1 for name in names)


def _shard_keys(one: Explained) -> Iterator[tuple[Rule, str]]:
    asked: list[Explained | Lookup | Join] = [one, *one.lookups, *one.joins]
    for each in asked:
        if each.collection in WHOLE:
            continue
        if each.collection not in SHARDED:
            yield Rule.SHARD_KEY, f"{each.collection} is in no table of shard keys"
            continue
        name, most = SHARDED[each.collection]
        count = values_of(each.wanted, name)
        if count is None:
            yield Rule.SHARD_KEY, f"{each.collection} is asked without {name}"
        elif count > most:
            yield Rule.SHARD_KEY, f"{each.collection} is asked for {count} of {name}"


def values_of(wanted: Mapping[str, Any], name: str) -> int | None:
    """How many values the filter lets the field have; None where it leaves it open."""
    counts = [count for count in _counts(wanted, name) if count is not None]
    return min(counts) if counts else None


def _counts(wanted: Mapping[str, Any], name: str) -> Iterator[int | None]:
    if name in wanted:
        yield _count(wanted[name])
    for one in wanted.get("$and", ()):
        yield values_of(one, name)
    if "$or" in wanted:
        branches = [values_of(one, name) for one in wanted["$or"]]
        yield None if None in branches else sum(count or 0 for count in branches)


def _count(value: Any) -> int | None:
    if not isinstance(value, Mapping):
        return None if hasattr(value, "pattern") else 1
    if "$eq" in value:
        return 1
    if "$in" in value:
        return len(value["$in"])
    # A mapping without operators is a value like any other.
    return None if any(str(key).startswith("$") for key in value) else 1
