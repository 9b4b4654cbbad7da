"""What must hold for the OpenAPI document of any application of ours."""

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from lms.web.bodies import decode_body
from lms.web.openapi import build_schema

Json = dict[str, Any]
EVERYWHERE = {"500", "503"}
WITH_BODY = {"400", "413", "415", "422"}


def document_of(app: Litestar) -> Json:
    return msgspec.json.decode(build_schema(app))


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def check_document(app: Litestar) -> None:
    document = document_of(app)
    assert document["openapi"] == "3.1.0"
    check_references(document)
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        check_operation(f"{method} {path}", operation)
    check_request_examples(app, document)


def check_references(document: Json) -> None:
    for reference in set(references(document)):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, reference
            found = found[step]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def check_operation(name: str, operation: Json) -> None:
    assert operation["summary"], name
    assert operation["tags"], name
    statuses = set(operation["responses"])
    assert statuses >= EVERYWHERE, name
    places = {one["in"] for one in operation["parameters"]}
    wanted = {
        "404": "path" in places,
        "422": "query" in places,
        "401": {"access_token": []} in operation["security"] and {} not in operation["security"],
        "403": {"access_token": []} in operation["security"] and {} not in operation["security"],
    }
    assert {status for status, needed in wanted.items() if needed} <= statuses, name
    assert "requestBody" not in operation or statuses >= WITH_BODY, name
    for status, response in operation["responses"].items():
        assert response["description"], (name, status)
        assert "X-Request-Id" in response["headers"], (name, status)
        if status.startswith(("4", "5")):
            check_problem(name, int(status), response)


def check_problem(name: str, status: int, response: Json) -> None:
    content = response["content"].get("application/problem+json")
    if content is None:
        return
    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, name
    assert content["examples"], name
    for code, example in content["examples"].items():
        assert (example["value"]["code"], example["value"]["status"]) == (code, status), name


def check_request_examples(app: Litestar, document: Json) -> None:
    """The examples are requests that the API takes."""
    for route in app.routes:
        for method, (handler, _) in route.route_handler_map.items() if isinstance(route, HTTPRoute) else ():
            data = handler.parsed_fn_signature.parameters.get("data")
            if data is not None and handler.resolve_include_in_schema():
                operation = document["paths"][route.path_format][method.lower()]
                example = operation["requestBody"]["content"]["application/json"]["example"]
                decode_body(msgspec.json.encode(example), data.annotation)
