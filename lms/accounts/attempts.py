"""Locking out who guesses at passwords, without locking out whom they guess at.

A try is counted as failed before bcrypt runs, and taken back when the password was right; so of any number of tries at
once no more are made than are free. There are three counters, and their delays double: 1 s, 2 s, 4 s ...

* account and network together: 5 failures are free, then up to 15 minutes; forgotten an hour after the last one.
* the account, from wherever: 20 an hour are free, then up to 1 minute.
* the network (an IPv4 address, a /64 of IPv6): 100 an hour are free, then up to 1 minute. Tries that the first counter
  delays do not count here, so whoever guesses at one account takes 5 of them. A right password gives back what its own
  account took, not what others did.

Where the right password was given within 30 days, an account is familiar with the network, and only the first counter
holds there. So strangers elsewhere do not keep people out at home, nor does one guesser keep out a school behind one
address, where everybody has a counter of their own. What is left to them is to hold up, by a minute at a time, who
comes from a new network; and to somebody within the own network, by up to 15. A link by mail that resets the password
ends these too.

A try that is delayed is not looked at, right or wrong, known or unknown; it counts nowhere, so knocking on does not
prolong a delay. An address that nobody has is counted like any other. From a shared network, once 100 failures were
spent on it, one can tell which accounts are familiar there: that is the price of not locking out the school.

The counters are in MongoDB and not in Redis, which may be wiped or away: without MongoDB nobody signs in anyway, all
processes share it, and a try costs one read and three small writes beside a quarter of a second of bcrypt. Rows are
named by keyed hashes and expire. A try that broke off (the database went away) stays counted.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

import structlog
from pymongo import ReturnDocument

from lms.accounts.documents import SignInFailures
from lms.accounts.rules import TooManyAttempts
from lms.audit import record
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.errors import LMSError
from lms.ids import new_id
from lms.origin import network_of, origin
from lms.settings import Settings
from lms.tokens import hidden_name
from lms.transactions import Session, in_transaction

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOW = timedelta(hours=1)
FAMILIAR = timedelta(days=30)
LARGEST_EXPONENT = 20

security = structlog.get_logger("lms.security")


@dataclass(frozen=True, slots=True)
class Limit:
    """`free` failures, then delays of up to `longest` seconds. `sliding`: the hour begins anew with each one."""

    name: str
    free: int
    longest: int
    sliding: bool = False


PAIR = Limit("account_and_network", 5, 900, sliding=True)
ACCOUNT = Limit("account", 20, 60)
NETWORK = Limit("network", 100, 60)


@dataclass(slots=True)
class Attempt:
    """One try. Whoever guards says whose it is as soon as that is known, and whether it was right."""

    counted: dict[Limit, int]
    user_id: UUID | None = None
    succeeded: bool = False


class Attempts:
    """Counts what is tried under a name: an address for passwords, another word for other secrets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def guard(self, account: str) -> AsyncGenerator[Attempt]:
        """Check a secret inside, and set `succeeded` where it was right. Raises `TooManyAttempts` before."""
        keys = self._keys(account)
        attempt = Attempt(await _admit(keys))
        try:
            yield attempt
        except LMSError:
            await _conclude(attempt, keys)
            raise
        await _conclude(attempt, keys)

    async def welcome(self, account: str) -> None:
        """Whoever proved to be the owner by other means is not held up by what others tried."""
        keys = self._keys(account)
        await asyncio.gather(_make_familiar(keys[PAIR]), _give_back(ACCOUNT, keys[ACCOUNT], ACCOUNT.free))

    def _keys(self, account: str) -> dict[Limit, str]:
        network = network_of(origin().address)
        names = {PAIR: (account, network), ACCOUNT: (account,), NETWORK: (network,)}
        return {limit: hidden_name(self._settings, limit.name, *parts) for limit, parts in names.items()}


async def _conclude(attempt: Attempt, keys: dict[Limit, str]) -> None:
    if not attempt.succeeded:
        await _tell(attempt)
        return
    # Of right ones at the same time the first one gives back what all of them took, and the others nothing.
    own = await _make_familiar(keys[PAIR])
    await asyncio.gather(
        _give_back(ACCOUNT, keys[ACCOUNT], own),
        _give_back(NETWORK, keys[NETWORK], min(own, PAIR.free)),
    )


async def _admit(keys: dict[Limit, str]) -> dict[Limit, int]:
    """The failures of each counter, this try among them. Raises `TooManyAttempts`.

    Read first, so that whoever is delayed changes nothing. Then the pair decides alone, since most of those that meet
    do so there.
    """
    now, rows = utc_now(), SignInFailures.get_pymongo_collection()
    stored = {row["_id"]: row for row in await rows.find({"_id": {"$in": [*keys.values()]}}).to_list(len(keys))}
    familiar = _is_familiar(stored.get(keys[PAIR]), now)
    waits = [row["until"] for limit in _holding(familiar) if (row := stored.get(keys[limit])) and row["until"] > now]
    if waits:
        raise _too_many(max(waits), now)
    pair, until = await _take(PAIR, keys[PAIR], now)
    if pair is None:
        raise _too_many(until, now)
    wanted = [ACCOUNT, NETWORK] if pair <= PAIR.free else [ACCOUNT]
    takes = (_take(limit, keys[limit], now, binding=not familiar) for limit in wanted)
    taken = dict(zip(wanted, await asyncio.gather(*takes), strict=True))
    counted = {limit: failures for limit, (failures, _) in taken.items() if failures is not None}
    if len(counted) < len(wanted):
        await asyncio.gather(*(_give_back(limit, keys[limit], 1) for limit in (PAIR, *counted)))
        raise _too_many(max(until for failures, until in taken.values() if failures is None), now)
    return {PAIR: pair, **counted}


def _holding(familiar: bool) -> tuple[Limit, ...]:
    return (PAIR,) if familiar else (PAIR, ACCOUNT, NETWORK)


def _is_familiar(row: dict[str, Any] | None, now: datetime) -> bool:
    return row is not None and (row.get("familiar_until") or EPOCH) > now


def _too_many(until: datetime, now: datetime) -> TooManyAttempts:
    # The request's own line has what is needed beyond this; who it was is not looked up.
    security.info("sign_in_delayed")
    return TooManyAttempts(max(1, ceil((until - now).total_seconds())))


async def _take(limit: Limit, key: str, now: datetime, *, binding: bool = True) -> tuple[int | None, datetime]:
    """The failures with this one, or None until the time that comes with it. One atomic step, however many meet.

    What is not `binding` is counted also during a delay, and makes none: it is given back, or does not matter here.
    """
    ticket = new_id()
    rows = SignInFailures.get_pymongo_collection()
    change, after = _taking(limit, now, ticket, binding), ReturnDocument.AFTER
    row: dict[str, Any] = await rows.find_one_and_update({"_id": key}, change, upsert=True, return_document=after) or {}
    return (row["failures"] if row["ticket"] == ticket else None), row["until"]


def _taking(limit: Limit, now: datetime, ticket: UUID, binding: bool) -> list[dict[str, Any]]:
    """Where a delay runs that binds, nothing is changed."""
    is_counting: dict[str, Any] = {"$gt": [{"$ifNull": ["$counted_until", EPOCH]}, now]}
    over = {"$subtract": ["$failures", limit.free]}
    seconds = {"$min": [limit.longest, {"$pow": [2, {"$min": [over, LARGEST_EXPONENT]}]}]}
    delayed = {"$add": [now, {"$multiply": [1000, seconds]}]}
    begins = [binding, "$open", {"$gte": ["$failures", limit.free]}]
    ends = [now + WINDOW] if limit.sliding else []

    def if_open(then: Any, name: str) -> dict[str, Any]:
        return {"$cond": ["$open", then, f"${name}"]}

    return [
        {
            "$set": {
                "open": {"$or": [not binding, {"$lte": [{"$ifNull": ["$until", EPOCH]}, now]}]},
                "failures": {"$cond": [is_counting, "$failures", 0]},
                "counted_until": {"$cond": [is_counting, "$counted_until", now + WINDOW]},
                "until": {"$ifNull": ["$until", EPOCH]},
            }
        },
        {"$set": {"failures": if_open({"$add": ["$failures", 1]}, "failures"), "ticket": if_open(ticket, "ticket")}},
        {"$set": {"until": {"$cond": [{"$and": begins}, delayed, "$until"]}}},
        {"$set": {"counted_until": if_open({"$max": ["$counted_until", "$until", *ends]}, "counted_until")}},
        {"$set": {"expires_at": {"$max": ["$counted_until", "$familiar_until"]}}},
        {"$unset": "open"},
    ]


async def _give_back(limit: Limit, key: str, count: int) -> None:
    """With failures that are free left again, nothing is delayed any more."""
    left = {"$max": [0, {"$subtract": ["$failures", count]}]}
    until = {"$cond": [{"$lt": ["$failures", limit.free]}, EPOCH, "$until"]}
    change = [{"$set": {"failures": left}}, {"$set": {"until": until}}]
    await SignInFailures.get_pymongo_collection().update_one({"_id": key}, change)


async def _make_familiar(pair: str) -> int:
    """The failures that this has ended."""
    ends = utc_now() + FAMILIAR
    row = {"failures": 0, "until": EPOCH, "counted_until": EPOCH, "familiar_until": ends, "expires_at": ends}
    before = await SignInFailures.get_pymongo_collection().find_one_and_update(
        {"_id": pair}, {"$set": row}, projection={"failures": 1}, upsert=True, return_document=ReturnDocument.BEFORE
    )
    return int(before["failures"]) if before else 0


async def _tell(attempt: Attempt) -> None:
    """Known and unknown alike; the failure that a delay begins with is written down."""
    who = {"user_id": str(attempt.user_id)} if attempt.user_id else {}
    security.warning("password_refused", **who)
    begun = [limit for limit, failures in attempt.counted.items() if failures == limit.free]
    for limit in begun:
        security.warning("locked_out", counter=limit.name, **who)
    if not begun:
        return

    async def write(session: Session) -> None:
        for limit in begun:
            # Not of the kind `user`, whose key would be one command more for those whom we know.
            facts = {"counter": limit.name, "failures": limit.free}
            target = None if limit is NETWORK else attempt.user_id
            await record(session, Act.LOCKED_OUT, actor="nobody", target=target, kind="account", facts=facts)

    await in_transaction(write)
