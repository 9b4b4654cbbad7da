"""The OpenAPI 3.1 document: Litestar's draft, completed with what this API always does.

Bodies come from msgspec, which knows our types better. A handler tells the rest in `opt`: `errors` (the errors of its
own), `idempotent`, `conditional`, `rate_limit`, and `scope`, by which API keys come in.
"""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from litestar import Litestar, Response, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ControllerRouterHandler

from lms import __version__
from lms.errors import LMSError
from lms.schemas import Moment
from lms.web.openapi_errors import errors_of, signs_in
from lms.web.openapi_examples import example_of
from lms.web.openapi_headers import HEADERS, header_names, request_headers
from lms.web.problems import MEDIA_TYPE, Problem, problem_of

Json = dict[str, Any]

REF = "#/components/schemas/"
BROKEN_FIELD = {"code": "required", "message": "This field is required.", "pointer": "#/title"}
BROKEN_PARAMETER = {"code": "unknown_parameter", "message": "There is no such parameter.", "parameter": "pgae"}
REQUEST_ID = "0198c5a27d3e7c419f562b8a4d1e6f03"
BEARER, API_KEY = "access_token", "api_key"
DESCRIPTION = """\
A headless learning backend: courses, enrolments, progress and certificates.

Every error is `application/problem+json` with a `code` to decide by and a `detail` to read. Times are RFC 3339 in UTC
with milliseconds. Lists take `page` and `page_size`, or `cursor`. Sign in at `POST /api/v1/auth/login` and send the
access token as `Authorization: Bearer ...`. Programs of instructors and administrators send an API key there instead,
where a route names the scope that it needs.
"""


class _Nowhere(Router):
    """Takes the pages that Litestar would add of its own, and serves none of them."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:  # noqa: ARG002 - the base class's name
        return []


def openapi_config(title: str) -> OpenAPIConfig:
    """What `create_app` gives to Litestar."""
    schemes = {
        BEARER: SecurityScheme(
            type="http", scheme="bearer", bearer_format="JWT", description="The access token of a sign-in."
        ),
        API_KEY: SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="lms_...",
            description="An API key with the scope that is named.",
        ),
    }
    return OpenAPIConfig(
        title=f"{title} API",
        version=__version__,
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(security_schemes={**schemes}),
        operation_id_creator=lambda handler, _method, _path: handler.handler_name,
        openapi_router=_Nowhere("/openapi", route_handlers=[]),
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=True,
    )


def build_schema(app: Litestar) -> bytes:
    """The complete document as JSON."""
    document = app.openapi_schema.to_schema()
    handlers = list(_handlers(app))
    bodies = _Bodies([kind for _, _, handler in handlers for kind in _kinds(handler)])
    for path, method, handler in handlers:
        operation = document["paths"][path][method.lower()]
        _complete(operation, method, handler, bodies)
    inherited = {name: _without_default(one) for name, one in document["components"].get("schemas", {}).items()}
    schemas = inherited | bodies.components
    document["components"] |= {"headers": HEADERS, "schemas": _used(document["paths"], schemas)}
    document["tags"] = [
        {"name": name} for name in sorted({tag for one in _operations(document) for tag in one["tags"]})
    ]
    return msgspec.json.encode(document)


def _handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if handler.resolve_include_in_schema():
                    yield route.path_format, method, handler


def _operations(document: Json) -> Iterator[Json]:
    for item in document["paths"].values():
        yield from item.values()


def _complete(operation: Json, method: str, handler: HTTPRouteHandler, bodies: "_Bodies") -> None:
    operation["summary"] = _summary(handler)
    operation["tags"] = operation.get("tags") or ["other"]
    if not handler.deprecated:
        operation.pop("deprecated", None)
    parameters = [_plain_parameter(one) for one in operation.get("parameters", [])]
    operation["parameters"] = parameters + request_headers(method, handler)
    if sent := _sent(handler):
        operation["requestBody"] = {"required": True, "content": {"application/json": bodies.content(sent)}}
    operation["responses"] = dict(_responses(operation, method, handler, bodies))
    operation["security"] = _security(handler)
    if scope := handler.opt.get("scope"):
        told = [operation.get("description"), f"An API key needs the scope `{scope}`."]
        operation["description"] = "\n\n".join(filter(None, told))


def _security(handler: HTTPRouteHandler) -> list[Json]:
    scope = handler.opt.get("scope")
    known: list[Json] = [{BEARER: []}, *([{API_KEY: [scope]}] if scope else [])]
    return {"never": [], "maybe": [*known, {}], "always": known}[signs_in(handler)]


def _summary(handler: HTTPRouteHandler) -> str:
    """The first clause of the docstring, else the handler's name."""
    text = cleandoc(handler.fn.__doc__ or handler.handler_name.replace("_", " ").capitalize())
    return re.split(r"[.:;](?:\s|$)", text, maxsplit=1)[0]


def _responses(
    operation: Json, method: str, handler: HTTPRouteHandler, bodies: "_Bodies"
) -> Iterator[tuple[str, Json]]:
    status = handler.status_code
    given = _given(handler)
    success = dict(operation["responses"][str(status)])
    success["description"] = HTTPStatus(status).description or HTTPStatus(status).phrase
    if "content" in success:
        success["content"] = {next(iter(success["content"])): bodies.content(given) if given else {}}
    yield str(status), _with_headers(success, header_names(method, handler, status))
    if method == "GET":
        fresh = {"description": "Nothing changed since the answer that had this ETag."}
        yield "304", _with_headers(fresh, header_names(method, handler, HTTPStatus.NOT_MODIFIED))
    grouped: dict[int, list[type[LMSError]]] = {}
    for error in errors_of(operation, method, handler):
        grouped.setdefault(error.status, []).append(error)
    for number in sorted(grouped.keys() - (handler.responses or {}).keys()):
        problem = _problem(grouped[number], has_body="requestBody" in operation)
        yield str(number), _with_headers(problem, header_names(method, handler, number))
    for number, spec in (handler.responses or {}).items():
        other = {"description": spec.description, "content": {spec.media_type: bodies.content([spec.data_container])}}
        yield str(number), _with_headers(other, header_names(method, handler, number))


def _problem(errors: list[type[LMSError]], *, has_body: bool) -> Json:
    examples = {error.code: {"summary": error.detail, "value": _example_problem(error, has_body)} for error in errors}
    return {
        "description": " ".join(dict.fromkeys(error.detail for error in errors)),
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{REF}{Problem.__name__}"}, "examples": examples}},
    }


def _example_problem(error: type[LMSError], has_body: bool) -> Json:
    # Not made by its own constructor, which may want what only the moment knows.
    shown = LMSError(error.detail)
    body = problem_of(shown, REQUEST_ID)
    title = HTTPStatus(error.status).phrase
    body |= {"type": f"urn:lms:problem:{error.code}", "title": title, "status": error.status, "code": error.code}
    if error.code == "validation_failed":
        body["errors"] = [BROKEN_FIELD if has_body else BROKEN_PARAMETER]
    return body


def _with_headers(response: Json, names: list[str]) -> Json:
    return response | {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def _plain_parameter(parameter: Json) -> Json:
    """Without what is the default anyway, and without `null`, which a path or a query cannot say."""
    kept = {name: value for name, value in parameter.items() if value is not False}
    options = [one for one in kept["schema"].get("oneOf", []) if one != {"type": "null"}]
    outer = {name: value for name, value in kept["schema"].items() if name not in {"oneOf", "description"}}
    whole = {name: int(value) for name, value in outer.items() if isinstance(value, float) and value.is_integer()}
    kept["schema"] = outer | whole | (options[0] if options else {})
    return kept


def _without_default(schema: Json) -> Json:
    """A default belongs to the one parameter that has it, not to the type that several share."""
    return {name: value for name, value in schema.items() if name != "default"}


def _kinds(handler: HTTPRouteHandler) -> list[Any]:
    declared = [spec.data_container for spec in (handler.responses or {}).values()]
    return [*_sent(handler), *_given(handler), *declared]


def _sent(handler: HTTPRouteHandler) -> list[Any]:
    data = handler.parsed_fn_signature.parameters.get("data")
    return [] if data is None else [data.annotation]


def _given(handler: HTTPRouteHandler) -> list[Any]:
    """The types of a full answer; none where it has no body, or one that no type describes."""
    kind = handler.parsed_fn_signature.return_type.annotation
    if isinstance(origin := get_origin(kind), type) and issubclass(origin, Response):
        kind = get_args(kind)[0]
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [one for one in options if one not in (Any, NoneType, None, bytes) and not _is_response(one)]


def _is_response(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Response)


class _Bodies:
    """Schemas and examples of everything that is sent and given."""

    def __init__(self, kinds: list[Any]) -> None:
        wanted = list({str(kind): kind for kind in [*kinds, Problem]}.values())
        schemas, components = msgspec.json.schema_components(
            wanted, schema_hook=_schema_hook, ref_template=REF + "{name}"
        )
        names = {name: _readable(name) for name in components}
        self.components: dict[str, Json] = {names[name]: _fitted(one, names) for name, one in components.items()}
        self._schemas = {str(kind): _fitted(one, names) for kind, one in zip(wanted, schemas, strict=True)}

    def content(self, kinds: list[Any]) -> Json:
        schemas = [self._schemas[str(kind)] for kind in kinds]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return {"schema": schema, "example": example_of(schemas[0], self.components)}


def _schema_hook(kind: type) -> Json:
    if kind is Moment:
        return {"type": "string", "format": "date-time", "description": "UTC with milliseconds."}
    raise NotImplementedError(kind.__name__)


def _readable(name: str) -> str:
    """`Page_CourseSummary_` -> `CourseSummaryPage`."""
    outer, _, inner = name.removesuffix("_").partition("_")
    return f"{inner}{outer}" if inner and name.endswith("_") else name


def _fitted(schema: Any, names: Mapping[str, str]) -> Any:
    """With our names of components, and with patterns in the dialect of JSON Schema, which is JavaScript's."""
    if isinstance(schema, list):
        return [_fitted(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    fitted: Json = {
        name: _fitted(value, names) for name, value in schema.items() if name not in {"examples", "default"}
    }
    fitted |= {name: schema[name] for name in ("examples", "default") if name in schema}
    if isinstance(fitted.get("$ref"), str):
        fitted["$ref"] = REF + names[fitted["$ref"].removeprefix(REF)]
    if isinstance(fitted.get("pattern"), str) and fitted["pattern"].startswith("(?s)"):
        fitted["pattern"] = fitted["pattern"].removeprefix("(?s)").replace(".", r"[\s\S]")
    if fitted.get("enum") and all(isinstance(one, str) for one in fitted["enum"]):
        fitted["type"] = "string"
    return fitted


def _used(start: Any, schemas: Mapping[str, Json]) -> dict[str, Json]:
    """The components that something refers to."""
    used: dict[str, Json] = {}
    waiting = list(_references(start))
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = schemas[name]
            waiting.extend(_references(schemas[name]))
    return used


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str) and part["$ref"].startswith(REF):
            yield part["$ref"].removeprefix(REF)
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
