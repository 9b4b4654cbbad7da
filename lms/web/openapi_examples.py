"""Examples made from schemas, for readers and for mock servers. What a schema says of itself comes first."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MAX_DEPTH = 8
UUID = "0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03"
FORMATS = {
    "uuid": UUID,
    "date-time": "2026-03-14T09:26:53.589Z",
    "date": "2026-03-14",
    "uri": "https://lms.example",
}
# By the name of the property, where the type alone would say too little.
WORDS: dict[str, Any] = {
    "access_token": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl",
    "average_rating": 4.5,
    "category": "biology",
    "content": "# The tidal zone\n\nTwice a day the sea leaves.",
    "course_title": "Plants of the tidal zone",
    "description": "What grows between the tides, and why.",
    "device_id": "phone-1",
    "duration_minutes": 12,
    "email": "sam@school.example",
    "estimated_duration_minutes": 90,
    "enrollment_count": 12,
    "expires_in": 900,
    "full_name": "Sam Okafor",
    "lesson_id": "k3v7q2ma4xtd",
    "locale": "en",
    "message": "Expected `str` of length >= 1.",
    "module_id": "m5t2c7wqz3ka",
    "name": "Sam Okafor",
    "next_cursor": "WyIyMDI2LTAzLTE0Il0",
    "number": "01K32T4ZAE7R4S-9TNN2R9MRR",
    "order": 1,
    "page": 1,
    "page_size": 20,
    "pages": 1,
    "percent": 40,
    "position_seconds": 95,
    "refresh_token": f"{UUID}.1.c2lnbmF0dXJl",
    "slug": "plants-of-the-tidal-zone",
    "source": "native",
    "tag": "plants",
    "thumbnail_url": "https://media.school.example/tide.webp",
    "time_zone": "Europe/Lisbon",
    "title": "Plants of the tidal zone",
    "total": 1,
    "video_url": "https://media.school.example/tide.mp4",
    "watched": [[0, 95]],
}
# Of the values of an enumeration, the one that goes with the rest.
USUAL = ("published", "active", "beginner", "student", "text", "completed", "valid", "ok")


def example_of(schema: Schema, components: Mapping[str, Schema], name: str = "", depth: int = 0) -> Any:
    """A value that `schema` accepts. `name` is that of the property it stands in."""
    if "$ref" in schema:
        schema = components[str(schema["$ref"]).rpartition("/")[2]]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return next((one for one in USUAL if one in schema["enum"]), schema["enum"][0])
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if options:
        return example_of(options[0], components, name, depth)
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, components, depth)
    if kind == "array":
        return _array(schema, components, name, depth)
    return _scalar(kind, schema, name)


def _object(schema: Schema, components: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        return {}
    members = schema.get("properties", {})
    found = {name: example_of(member, components, name, depth + 1) for name, member in members.items()}
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping) and values:
        found[WORDS["lesson_id"]] = example_of(values, components, "", depth + 1)
    return found


def _array(schema: Schema, components: Mapping[str, Schema], name: str, depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        return []
    if isinstance(WORDS.get(name), list):
        return WORDS[name]
    if "prefixItems" in schema:
        return [example_of(one, components, "", depth + 1) for one in schema["prefixItems"]]
    items = schema.get("items") or {}
    return [example_of(items, components, name.removesuffix("s"), depth + 1)] * max(1, schema.get("minItems", 1))


def _scalar(kind: str | None, schema: Schema, name: str) -> Any:
    if kind == "string":
        return _text(schema, name)
    if kind == "boolean":
        return schema.get("default", True)
    if kind in {"integer", "number"}:
        word = WORDS.get(name, 1)
        return min(max(word, schema.get("minimum", word)), schema.get("maximum", word))
    return None


def _text(schema: Schema, name: str) -> str:
    if "format" in schema:
        return FORMATS.get(schema["format"], "...")
    word = WORDS.get(name)
    text = word if isinstance(word, str) else name.replace("_", " ") or "text"
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")
