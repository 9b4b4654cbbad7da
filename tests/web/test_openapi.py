# ruff: noqa: ARG002 - these handlers are described and never run

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pytest
from litestar import Controller, Litestar, Response, asgi, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import Receive, Scope, Send
from msgspec import UNSET, Meta, UnsetType

from lms.accounts.documents import Role
from lms.app import create_app
from lms.auth import CurrentUser, OptionalUser, provide_user, provide_viewer, requires
from lms.errors import Conflict, NotFound
from lms.schemas import Input, Moment, Output, Patch
from lms.settings import load_settings
from lms.web.openapi import openapi_config
from lms.web.openapi_examples import example_of
from tests.web.openapi_checks import check_document, document_of

pytestmark = pytest.mark.quick

T = TypeVar("T")


class Level(StrEnum):
    ADVANCED = "advanced"
    BEGINNER = "beginner"


class Shelf(Output, Generic[T]):
    items: list[T]


class ShelfByCursor(Output, Generic[T]):
    items: list[T]
    next_cursor: str | None


class BookCreate(Input):
    title: Annotated[str, Meta(pattern=r"(?s)^\s*\S(?:.{0,253}\S)?\s*$", examples=["Tides"])]
    level: Level = Level.BEGINNER
    pages: Annotated[int, Meta(ge=10, le=900)] = 10
    code: Annotated[str, Meta(min_length=12, max_length=12)] = "abcdefghijkl"
    tags: Annotated[list[str], Meta(min_length=2)] = msgspec.field(default_factory=lambda: ["a", "b"])
    span: tuple[int, int] | None = None


class BookUpdate(Patch):
    title: str | UnsetType = UNSET
    description: str | None | UnsetType = UNSET


class BookRead(Output):
    """A book."""

    id: UUID
    title: str
    level: Level
    created_at: Moment
    related: list["BookRead"] = []
    ratings: dict[str, int] = {}
    anything: Any = None
    lent: bool = False


class Unknown:
    def __init__(self, value: int) -> None:
        self.value = value


class Strange(Output):
    unknown: Unknown


class Gone(Output):
    status: Literal["gone"] = "gone"


class ShelfFull(Conflict):
    detail = "There is no room."


class BookNotFound(NotFound):
    detail = "There is no such book."


async def provide_shop(viewer: OptionalUser) -> str:
    return str(viewer)


class BookController(Controller):
    path = "/books"
    tags = ["books"]
    dependencies = {"shop": Provide(provide_shop)}

    @post("/", guards=[requires(Role.ADMIN)], opt={"idempotent": True, "errors": [ShelfFull]})
    async def create_book(self, data: JSONBody[BookCreate]) -> BookRead:
        """Put a book on the shelf; it stays there.

        More about it.
        """
        raise AssertionError

    @get("/")
    async def list_books(
        self,
        shop: NamedDependency[str],
        page: Annotated[int, QueryParameter(ge=1, description="From 1.")] = 1,
        level: FromQuery[Level | None] = None,
    ) -> Response[Shelf[BookRead] | ShelfByCursor[BookRead]]:
        raise AssertionError

    @get("/{book_id:uuid}", opt={"errors": [BookNotFound], "rate_limit": "none"})
    async def get_book(self, book_id: FromPath[UUID]) -> BookRead:
        raise AssertionError

    @patch("/{book_id:uuid}", opt={"conditional": True})
    async def update_book(self, book_id: FromPath[UUID], data: JSONBody[BookUpdate], user: CurrentUser) -> BookRead:
        raise AssertionError

    @delete("/{book_id:uuid}", deprecated=True, responses={409: ResponseSpec(Gone, description="It is gone.")})
    async def delete_book(self, book_id: FromPath[UUID]) -> None:
        raise AssertionError

    @get("/{book_id:uuid}/print", media_type="application/pdf")
    async def print_book(self, book_id: FromPath[UUID]) -> Response[bytes]:
        raise AssertionError


@get("/hidden", include_in_schema=False)
async def hidden() -> None:
    raise AssertionError


@asgi("/raw", copy_scope=True)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError


def app_of(*handlers: Any) -> Litestar:
    return Litestar(
        handlers,
        dependencies={"user": Provide(provide_user), "viewer": Provide(provide_viewer)},
        openapi_config=openapi_config("Library"),
        logging_config=None,
    )


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return document_of(app_of(BookController, hidden, raw))


def operation_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = [one for item in document["paths"].values() for one in item.values() if one["operationId"] == name]
    return found[0]


def headers_of(operation: dict[str, Any], status: str) -> set[str]:
    return set(operation["responses"][status]["headers"]) - {"X-Request-Id", "RateLimit", "RateLimit-Policy"}


def sent_headers(operation: dict[str, Any]) -> list[str]:
    return [one["name"] for one in operation["parameters"] if one["in"] == "header"]


def test_the_document_is_whole() -> None:
    check_document(app_of(BookController, hidden, raw))


def test_the_document_of_the_whole_application_is_whole(tmp_path: Path) -> None:
    check_document(create_app(load_settings({"LMS_DATA_DIR": str(tmp_path), "LMS_REDIS_URL": ""})))


def test_the_document_is_the_same_each_time() -> None:
    assert document_of(app_of(BookController)) == document_of(app_of(BookController))


def test_litestar_adds_no_pages_of_its_own() -> None:
    assert {route.path for route in app_of(hidden).routes} == {"/hidden"}


def test_two_handlers_of_one_name_are_refused() -> None:
    @get("/other", name="other")
    async def list_books() -> None:
        raise AssertionError

    with pytest.raises(ImproperlyConfiguredException, match="list_books"):
        document_of(app_of(BookController, list_books))


def test_operations_are_named_after_their_handlers_and_told_by_their_docstrings(document: dict[str, Any]) -> None:
    create = operation_of(document, "create_book")
    assert create["summary"] == "Put a book on the shelf"
    assert create["description"].endswith("More about it.")
    assert operation_of(document, "get_book")["summary"] == "Get book"
    assert operation_of(document, "delete_book")["deprecated"] is True
    assert "deprecated" not in create
    assert document["tags"] == [{"name": "books"}]
    assert "/hidden" not in document["paths"]


def test_who_may_ask_is_told(document: dict[str, Any]) -> None:
    signed_in, visitor = {"access_token": []}, {}
    assert operation_of(document, "create_book")["security"] == [signed_in]
    assert operation_of(document, "update_book")["security"] == [signed_in]
    assert operation_of(document, "list_books")["security"] == [signed_in, visitor]
    assert operation_of(document, "get_book")["security"] == []
    scheme = document["components"]["securitySchemes"]["access_token"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("create_book", "201 400 401 403 409 413 415 422 429 500 503"),
        ("list_books", "200 304 422 429 500 503"),
        ("get_book", "200 304 404 500 503"),
        ("update_book", "200 400 401 403 404 412 413 415 422 429 500 503"),
        ("delete_book", "204 404 409 429 500 503"),
        ("print_book", "200 304 404 429 500 503"),
    ],
)
def test_every_answer_is_told_and_no_other(document: dict[str, Any], name: str, statuses: str) -> None:
    assert sorted(operation_of(document, name)["responses"]) == statuses.split()


def test_declared_errors_are_told_with_code_and_sentence(document: dict[str, Any]) -> None:
    response = operation_of(document, "create_book")["responses"]["409"]
    examples = response["content"]["application/problem+json"]["examples"]
    assert list(examples) == ["idempotency_key_in_use", "shelf_full"]
    assert examples["shelf_full"]["value"] == {
        "type": "urn:lms:problem:shelf_full",
        "title": "Conflict",
        "status": 409,
        "detail": "There is no room.",
        "code": "shelf_full",
        "request_id": "0198c5a27d3e7c419f562b8a4d1e6f03",
    }
    assert "There is no room." in response["description"]
    missing = operation_of(document, "get_book")["responses"]["404"]["content"]["application/problem+json"]
    assert list(missing["examples"]) == ["book_not_found"]


def test_what_is_wrong_is_pointed_at_where_it_can_be(document: dict[str, Any]) -> None:
    def error_of(name: str) -> set[str]:
        content = operation_of(document, name)["responses"]["422"]["content"]["application/problem+json"]
        return set(content["examples"]["validation_failed"]["value"]["errors"][0])

    assert error_of("create_book") == {"code", "message", "pointer"}
    assert error_of("list_books") == {"code", "message", "parameter"}


def test_another_shape_than_a_problem_can_be_declared(document: dict[str, Any]) -> None:
    response = operation_of(document, "delete_book")["responses"]["409"]
    assert response["description"] == "It is gone."
    assert response["content"]["application/json"]["example"] == {"status": "gone"}


def test_headers_are_told_where_they_apply(document: dict[str, Any]) -> None:
    create, update, read = (operation_of(document, name) for name in ("create_book", "update_book", "get_book"))
    assert headers_of(create, "201") == {"Location"}
    assert headers_of(create, "401") == {"WWW-Authenticate"}
    assert headers_of(create, "429") == headers_of(create, "503") == {"Retry-After"}
    assert headers_of(update, "200") == headers_of(update, "412") == {"ETag"}
    assert headers_of(read, "200") == headers_of(read, "304") == {"ETag"}
    assert "RateLimit" in create["responses"]["201"]["headers"]
    assert "RateLimit" not in read["responses"]["200"]["headers"]
    assert sent_headers(create) == ["Idempotency-Key"]
    assert sent_headers(update) == ["If-Match"]
    assert sent_headers(read) == ["If-None-Match"]


def test_bodies_are_told_as_msgspec_checks_them(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    create = schemas["BookCreate"]
    assert create["additionalProperties"] is False
    assert create["required"] == ["title"]
    assert create["properties"]["pages"] == {"type": "integer", "minimum": 10, "maximum": 900, "default": 10}
    assert create["properties"]["title"]["pattern"] == r"^\s*\S(?:[\s\S]{0,253}\S)?\s*$"
    assert schemas["Level"] == {"title": "Level", "type": "string", "enum": ["advanced", "beginner"]}
    assert schemas["BookRead"]["properties"]["created_at"]["format"] == "date-time"
    assert "anyOf" not in schemas["BookUpdate"]["properties"]["title"]
    listed = operation_of(document, "list_books")["responses"]["200"]["content"]["application/json"]["schema"]
    assert [one["$ref"].rpartition("/")[2] for one in listed["anyOf"]] == ["BookReadShelf", "BookReadShelfByCursor"]
    assert operation_of(document, "print_book")["responses"]["200"]["content"] == {"application/pdf": {}}
    assert "content" not in operation_of(document, "delete_book")["responses"]["204"]


def test_parameters_say_nothing_that_is_the_default_anyway(document: dict[str, Any]) -> None:
    parameters = {one["name"]: one for one in operation_of(document, "list_books")["parameters"]}
    assert parameters["page"] == {
        "name": "page",
        "in": "query",
        "description": "From 1.",
        "schema": {"type": "integer", "minimum": 1, "default": 1},
    }
    assert parameters["level"]["schema"] == {"$ref": "#/components/schemas/Level"}


def test_examples_have_sensible_values(document: dict[str, Any]) -> None:
    create = operation_of(document, "create_book")
    assert create["requestBody"]["content"]["application/json"]["example"] == {
        "title": "Tides",
        "level": "beginner",
        "pages": 10,
        "code": "codexxxxxxxx",
        "tags": ["plants", "plants"],
        "span": [1, 1],
    }
    read = create["responses"]["201"]["content"]["application/json"]["example"]
    assert UUID(read["id"])
    assert (read["title"], read["created_at"]) == ("Plants of the tidal zone", "2026-03-14T09:26:53.589Z")
    assert (read["lent"], read["anything"]) == (False, None)


@pytest.mark.parametrize(
    ("schema", "name", "example"),
    [
        ({"type": "string"}, "", "text"),
        ({"type": "string", "maxLength": 3}, "title", "Pla"),
        ({"type": "string", "format": "duration"}, "", "..."),
        ({"type": "integer"}, "pages", 1),
        ({"type": "number", "maximum": 2}, "average_rating", 2),
        ({"type": "boolean", "default": False}, "", False),
        ({"enum": ["x", "y"]}, "", "x"),
        ({"type": "array", "items": {"type": "integer"}}, "watched", [[0, 95]]),
        ({"type": "array"}, "", [None]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "", {"k3v7q2ma4xtd": 1}),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "", 1),
    ],
)
def test_an_example_fits_its_schema(schema: dict[str, Any], name: str, example: Any) -> None:
    assert example_of(schema, {}, name) == example


def test_a_type_that_msgspec_does_not_know_is_not_passed_over() -> None:
    @get("/odd")
    async def read_odd() -> Strange:
        raise AssertionError

    with pytest.raises(TypeError, match="Unknown"):
        document_of(app_of(read_odd))


def test_endless_types_have_examples_that_end() -> None:
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}
    example = example_of(tree, {"Tree": tree})
    assert len(msgspec.json.encode(example)) < 300
