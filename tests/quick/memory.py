"""mongomock-motor in the shape of PyMongo's async driver, for document tests that need no server.

It knows no transactions, array filters, `$text` or partial indexes: what needs those is tested on a real mongod.
"""

from collections.abc import Generator
from typing import Any, cast
from uuid import UUID

from bson import Binary
from mongomock_motor import AsyncMongoMockClient, AsyncMongoMockCollection, AsyncMongoMockDatabase
from pymongo.asynchronous.database import AsyncDatabase

UNKNOWN_OPTIONS = ("session", "comment", "let")


class _Cursor:
    """PyMongo's `await collection.aggregate(...)` gives a cursor; here the cursor is what is awaited."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __await__(self) -> Generator[Any, None, Any]:
        async def itself() -> Any:
            return self._cursor

        return itself().__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _as_stored(value: Any) -> Any:
    """Beanie stores UUIDs as BSON binary; the driver turns those of a filter into the same, and so does this."""
    if isinstance(value, UUID):
        return Binary.from_uuid(value)
    if isinstance(value, dict):
        return {name: _as_stored(one) for name, one in cast("dict[str, Any]", value).items()}
    return value


class _Collection(AsyncMongoMockCollection):  # pyright: ignore[reportMissingTypeArgument]
    def find_one(self, filter: Any = None, *args: Any, **options: Any) -> Any:  # noqa: A002 - its name
        return super().find_one(_as_stored(filter), *args, **options)

    def update_one(self, wanted: Any, *args: Any, **options: Any) -> Any:
        return super().update_one(_as_stored(wanted), *args, **options)

    def delete_one(self, wanted: Any, *args: Any, **options: Any) -> Any:
        return super().delete_one(_as_stored(wanted), *args, **options)

    def aggregate(self, pipeline: Any, *args: Any, **options: Any) -> Any:
        known = {name: value for name, value in options.items() if name not in UNKNOWN_OPTIONS}
        return _Cursor(super().aggregate(pipeline, *args, **known))


class _Database(AsyncMongoMockDatabase):  # pyright: ignore[reportMissingTypeArgument]
    def get_collection(self, *args: Any, **options: Any) -> Any:
        return _Collection(cast("Any", self), cast("Any", self).delegate.get_collection(*args, **options))

    async def list_collection_names(self, *_: Any, **__: Any) -> list[str]:
        return cast("Any", self).delegate.list_collection_names()


def memory_database() -> AsyncDatabase[dict[str, Any]]:
    """An empty database that lives as long as this object."""
    client: Any = AsyncMongoMockClient(tz_aware=True)
    inner = client._AsyncMongoMockClient__client.get_database("quick")
    return cast("AsyncDatabase[dict[str, Any]]", _Database(client, inner, mock_build_info=None))
