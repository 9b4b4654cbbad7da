"""YAML with the line and column of every value, read strictly: nothing that a course file has no use for."""

import math
import re
from typing import Any, cast

import yaml

from lms.loading.faults import START, Faults, Place

MAX_DEPTH = 40
INT64 = range(-(2**63), 2**63)


class _CoreLoader(yaml.CSafeLoader):
    """The core schema of YAML 1.2: `no` is a word, and dates stay text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_NULL, _BOOL, _INT, _FLOAT, _TEXT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


class YamlDocument:
    """A mapping with the places of its values and keys, both by JSON pointer (`#/tags/0`)."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.places: dict[str, Place] = {}
        self.keys: dict[str, Place] = {}

    def place_of(self, pointer: str) -> Place:
        """Where the value stands; for one that is missing, where its nearest parent does."""
        while pointer not in self.places and "/" in pointer:
            pointer = pointer.rpartition("/")[0]
        return self.places.get(pointer, START)


def read_yaml(text: str, file: str, faults: Faults, first_line: int = 1) -> YamlDocument | None:
    """The mapping in `text`, or None with a fault. `first_line` is where the text starts in its file."""
    reader = _Reader(file, faults, first_line)
    try:
        if not (_is_flat(text) or reader.check_events(text)):
            return None
        root = yaml.compose(text, _CoreLoader)
    except yaml.YAMLError as error:
        reader.syntax_error(error, text)
        return None
    return reader.document(root)


def _is_flat(text: str) -> bool:
    """Whether a look is enough to know that it has no alias and is not nested too deep, as nearly all files are."""
    if "&" in text or "*" in text:
        return False
    # Every level takes a line of its own, or one of these, which can open two.
    return sum(map(text.count, "\n\x85\u2028\u2029")) + 2 * sum(map(text.count, "[{-?")) < MAX_DEPTH


class _Reader:
    def __init__(self, file: str, faults: Faults, first_line: int) -> None:
        self.file = file
        self.faults = faults
        self.first_line = first_line
        self.found = YamlDocument()
        self.failed = False

    def place(self, mark: Any) -> Place:
        return Place(mark.line + self.first_line, mark.column + 1)

    def fault(self, code: str, message: str, place: Place, pointer: str = "", hint: str = "") -> None:
        self.failed = True
        self.faults.error(code, message, self.file, place, pointer=pointer, hint=hint)

    def syntax_error(self, error: yaml.YAMLError, text: str) -> None:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            context = f" ({error.context})" if error.context else ""
            self.fault("yaml_syntax", f"YAML: {error.problem}{context}.", self.place(error.problem_mark))
            return
        before = text[: getattr(error, "position", 0)]
        place = Place(before.count("\n") + self.first_line, len(before) - before.rfind("\n"))
        self.fault("yaml_syntax", f"YAML: {getattr(error, 'reason', error)}.", place)

    def check_events(self, text: str) -> bool:
        """Looks before nodes are built: an alias could unfold to more than memory, and depth break the stack."""
        depth = 0
        for event in yaml.parse(text, _CoreLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                message = "Anchors and aliases are not allowed here."
                self.fault("yaml_alias", message, self.place(event.start_mark), hint="Write the value out.")
                return False
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                self.fault("yaml_too_deep", f"Nested more than {MAX_DEPTH} deep.", self.place(event.start_mark))
                return False
        return True

    def document(self, root: yaml.Node | None) -> YamlDocument | None:
        if root is None:
            self.found.places["#"] = Place(self.first_line, 1)
            return self.found
        if not isinstance(root, yaml.MappingNode):
            if root.tag == _NULL:
                return self.document(None)
            hint = "If this is a horizontal rule, put an empty line before it." if self.first_line > 1 else ""
            self.fault(
                "yaml_no_mapping",
                "Lines of the form `key: value` are expected.",
                self.place(root.start_mark),
                "#",
                hint,
            )
            return None
        self.found.value = cast("dict[str, Any]", self.build(root, "#"))
        return None if self.failed else self.found

    def build(self, node: yaml.Node, pointer: str) -> Any:
        self.found.places[pointer] = self.place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, pointer)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, f"{pointer}/{index}") for index, item in enumerate(node.value)]
        return self.scalar(node, pointer)

    def mapping(self, node: yaml.MappingNode, pointer: str) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            self.unknown_tag(node, pointer)
        built: dict[str, Any] = {}
        for key, value in node.value:
            name = self.key(key, pointer)
            if name is None:
                continue
            below = f"{pointer}/{escape(name)}"
            place = self.place(key.start_mark)
            if name in built:
                first = self.found.keys[below].line
                self.fault("duplicate_key", f"`{name}` stands here a second time; first in line {first}.", place, below)
                continue
            self.found.keys[below] = place
            built[name] = self.build(value, below)
        return built

    def key(self, node: yaml.Node, pointer: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT:
            hint = "Put it in quotes." if isinstance(node, yaml.ScalarNode) else ""
            self.fault("key_no_text", "A key must be text.", self.place(node.start_mark), pointer, hint)
            return None
        if "\0" in node.value:
            self.fault("nul_byte", "A key must not contain NUL.", self.place(node.start_mark), pointer)
            return None
        return node.value

    def scalar(self, node: yaml.Node, pointer: str) -> Any:
        text = node.value
        if node.tag == _TEXT:
            return text
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag in (_INT, _FLOAT):
            return self.number(node, pointer)
        self.unknown_tag(node, pointer)
        return None

    def number(self, node: yaml.Node, pointer: str) -> int | float | None:
        """Numbers as the database holds them: integers of 64 bits and finite floats."""
        try:
            value = _to_int(node.value) if node.tag == _INT else float(node.value)
        except ValueError:
            value = math.nan
        if value in INT64 if isinstance(value, int) else math.isfinite(value):
            return value
        self.fault(
            "bad_number", "This number cannot be stored.", self.place(node.start_mark), pointer, "Put it in quotes."
        )
        return None

    def unknown_tag(self, node: yaml.Node, pointer: str) -> None:
        message = f"The tag {node.tag} is not allowed here."
        self.fault("yaml_tag", message, self.place(node.start_mark), pointer, "Leave the tag out.")


def _to_int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def escape(name: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
