"""What MongoDB makes of the commands of a request: caught as the driver sends them, explained just before they run."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pymongo import MongoClient, monitoring
from pymongo.synchronous.database import Database

# The session, its transaction and the time-outs belong to the connection and not to the question.
LEFT_OUT = frozenset(
    {
        *("lsid", "txnNumber", "startTransaction", "autocommit", "stmtId", "stmtIds"),
        *("$db", "$clusterTime", "$readPreference", "readConcern", "writeConcern", "maxTimeMS"),
    }
)
# A getMore goes on with what was explained whole; the others touch no document.
WITHOUT_PLAN = frozenset(
    {
        *("getMore", "killCursors", "endSessions", "commitTransaction", "abortTransaction"),
        *("hello", "ping", "buildInfo", "explain"),
    }
)
BATCHES = {"update": "updates", "delete": "deletes", "insert": "documents"}
FILTERS = {"find": "filter", "count": "query", "distinct": "query", "findAndModify": "query"}
NOT_CHOSEN = frozenset({"rejectedPlans", "allPlansExecution", "slotBasedPlan"})

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A `$lookup` that was carried out by itself. `returned` are the rows that left it."""

    collection: str
    wanted: Json
    returned: int
    keys: int
    documents: int
    scans: int


@dataclass(frozen=True, slots=True)
class Join:
    """A `$lookup` inside the plan: MongoDB counts what it examines together with the plan's own."""

    collection: str
    wanted: Json
    strategy: str


@dataclass(frozen=True, slots=True)
class Explained:
    """One command. `returned` are the rows that it took from the collection: found, counted, matched or put in."""

    command: str
    collection: str
    wanted: Json
    limit: int | None
    groups: bool
    returned: int = 0
    skipped: int = 0
    keys: int = 0
    documents: int = 0
    stages: frozenset[str] = frozenset()
    indexes: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    joins: tuple[Join, ...] = ()

    @property
    def all_keys(self) -> int:
        return self.keys + sum(one.keys for one in self.lookups)

    @property
    def all_documents(self) -> int:
        return self.documents + sum(one.documents for one in self.lookups)

    @property
    def shape(self) -> str:
        """What the filter asks for, without the values."""
        return ", ".join(dict.fromkeys(_names(self.wanted)))


class Listener(monitoring.CommandListener):
    """Explains what is sent to one database while somebody watches it.

    That blocks the event loop, on purpose: the command itself goes out afterwards, and changes what there is to find.
    """

    def __init__(self) -> None:
        self._database: Database[dict[str, Any]] | None = None
        self._seen: list[Explained] = []
        self._error: Exception | None = None

    @contextmanager
    def watching(self, database: Database[dict[str, Any]]) -> Generator[list[Explained]]:
        """Raises what went wrong on the way: PyMongo only prints what a listener raises."""
        self._database, self._seen, self._error = database, [], None
        try:
            yield self._seen
        finally:
            self._database = None
        if self._error is not None:
            raise self._error

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self._database is None or event.database_name != self._database.name:
            return
        try:
            self._seen += explain(self._database, event.command_name, event.command)
        except Exception as error:  # noqa: BLE001 - raised again where it is noticed
            self._error = error

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """It was explained when it started."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """It was explained when it started."""


_listener: list[Listener] = []


def listener() -> Listener:
    """The one of this process. Clients made from now on tell it of their commands; PyMongo has no way back."""
    if not _listener:
        _listener.append(Listener())
        monitoring.register(_listener[0])
    return _listener[0]


def explain(database: Database[dict[str, Any]], name: str, sent: Json) -> list[Explained]:
    """Nothing is carried out: MongoDB explains a write without doing it."""
    if name in WITHOUT_PLAN:
        return []
    command = {key: value for key, value in sent.items() if key not in LEFT_OUT}
    if name == "insert":
        # Reads nothing, but goes to the shard that its key says.
        return [Explained(name, command[name], one, None, groups=False, returned=1) for one in command["documents"]]
    return [_explained(name, one, _ask(database, one)) for one in _one_by_one(name, command)]


def open_explaining(url: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(url, uuidRepresentation="standard", tz_aware=True)


def _one_by_one(name: str, command: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Only one update or delete can be explained at a time."""
    if name not in BATCHES:
        yield command
    else:
        for one in command[BATCHES[name]]:
            yield command | {BATCHES[name]: [one]}


def _ask(database: Database[dict[str, Any]], command: dict[str, Any]) -> Json:
    asked = {"explain": command, "verbosity": "executionStats"}
    return database.command(asked, codec_options=database.codec_options)


def _explained(name: str, command: Json, told: Json) -> Explained:
    pipeline: list[Json] = list(command.get("pipeline", ()))
    first = _first(told)
    stats = first["executionStats"]
    rest = [stage for stage in told.get("stages", ()) if "$cursor" not in stage]
    plan = list(_parts(first["queryPlanner"]["winningPlan"]))
    stages = {str(part["stage"]) for part in plan if "stage" in part} | {next(iter(stage)) for stage in rest}
    return Explained(
        command=name,
        collection=str(command[name]),
        wanted=wanted_by(name, command),
        limit=_limit(name, command, pipeline),
        groups=any(stage in one for one in pipeline for stage in ("$group", "$count")),
        returned=_returned(stats),
        skipped=int(command.get("skip", 0)) + sum(int(one["$skip"]) for one in pipeline if "$skip" in one),
        keys=int(stats["totalKeysExamined"]),
        documents=_documents(stats, stages),
        stages=frozenset(stages),
        indexes=tuple(dict.fromkeys(_indexes(plan))),
        lookups=tuple(_lookup(stage) for stage in rest if "$lookup" in stage),
        joins=tuple(_join(part) for part in plan if "strategy" in part),
    )


def _first(told: Json) -> Json:
    """The part that reads the collection: all of it, or the first stage of a pipeline."""
    return told["stages"][0]["$cursor"] if "stages" in told else told


def _documents(stats: Json, stages: set[str]) -> int:
    """Those of a text search are told twice: where they are matched and where they are handed on."""
    told = int(stats["totalDocsExamined"])
    return min(told, int(stats["totalKeysExamined"])) if "TEXT_MATCH" in stages else told


def _returned(stats: Json) -> int:
    """Writes return nothing of their own: what they matched counts."""
    counts = ("nMatched", "nWouldUpsert", "nWouldDelete", "nCounted")
    parts = list(_parts(stats["executionStages"]))
    return max(int(stats["nReturned"]), sum(int(part.get(name, 0)) for part in parts for name in counts))


def wanted_by(name: str, command: Json) -> Json:
    """The filter, wherever this command keeps it."""
    if name == "aggregate":
        matches = [one.get("$match") for one in command["pipeline"]]
        leading = list(takewhile(bool, matches))
        return {"$and": leading} if leading else {}
    if name in BATCHES:
        return command[BATCHES[name]][0]["q"]
    return command.get(FILTERS.get(name, ""), {})


def _limit(name: str, command: Json, pipeline: list[Json]) -> int | None:
    """How many documents the command goes through at most, as it says itself."""
    if name == "findAndModify":
        return 1
    if name in BATCHES:
        one = command[BATCHES[name]][0]
        return None if one.get("multi") or one.get("limit") == 0 else 1
    before_groups = next((place for place, one in enumerate(pipeline) if "$group" in one or "$count" in one), None)
    limits = [one["$limit"] for one in pipeline[:before_groups] if "$limit" in one]
    return int(limits[0] if limits else command.get("limit", 0)) or None


def _parts(node: Any) -> Iterator[Json]:
    """Every mapping in the plan that was chosen."""
    if isinstance(node, Mapping):
        yield node
        for key, value in node.items():
            if key not in NOT_CHOSEN:
                yield from _parts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _parts(value)


def _indexes(plan: list[Json]) -> Iterator[str]:
    for part in plan:
        if part.get("stage") in {"IDHACK", "EXPRESS_IXSCAN"}:
            yield str(part.get("indexName", "_id_"))
        elif "indexName" in part:
            yield str(part["indexName"])


def _lookup(stage: Json) -> Lookup:
    asked = stage["$lookup"]
    pipeline = asked.get("pipeline", [])
    matched = pipeline[0].get("$match", {}) if pipeline else {}
    joined = {asked["foreignField"]: None} if "foreignField" in asked else {}
    return Lookup(
        collection=str(asked["from"]),
        wanted={**joined, **matched},
        returned=int(stage["nReturned"]),
        keys=int(stage["totalKeysExamined"]),
        documents=int(stage["totalDocsExamined"]),
        scans=int(stage["collectionScans"]),
    )


def _join(part: Json) -> Join:
    collection = str(part["foreignCollection"]).rpartition(".")[2]
    return Join(collection, {str(part["foreignField"]): None}, str(part["strategy"]))


def _names(wanted: Json) -> Iterator[str]:
    for name, value in wanted.items():
        if name in {"$and", "$or"}:
            inner = [each for one in value for each in _names(one)]
            yield from inner if name == "$and" else [f"either {' or '.join(dict.fromkeys(inner))}"]
        else:
            yield name
