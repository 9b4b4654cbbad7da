"""Imports only go up this list: a module may import what stands above it, and its own kind, in any feature."""

import ast
from functools import cache
from pathlib import Path

import pytest

from lms.database import DOCUMENTS

ROOT = Path(__file__).parents[1]

# A kind is a module's own name, wherever it lives; a package with code of its own has the package's name, and all of
# the command line is one kind. A new kind needs a place here, on purpose.
ORDER = (
    # The ground, which knows nothing of ours but the version.
    *(
        "lms",
        "clock",
        "ids",
        "keys",
        "slugs",
        "numbers",
        "processes",
        "redaction",
        "redis_client",
        "sealing",
        "letter",
        "letters",
    ),
    *("errors", "setting_types", "settings", "settings_table", "together", "transactions", "sequence"),
    *("origin", "folding"),
    # What runs beneath every feature.
    *("logs", "metrics", "tokens", "passwords", "codes", "secrets", "mail", "embedded", "migrations"),
    # What a feature stores, decides and shows.
    *("documents", "rules", "addresses", "merging", "schemas", "page", "pdf"),
    # Others who are asked while a request waits.
    *("fetching", "id_tokens", "provider"),
    # What every request goes through.
    *(
        "auth",
        "verdicts",
        "bodies",
        "problems",
        "scopes",
        "requests",
        "etags",
        "lists",
        "searching",
        "kept",
        "idempotency",
        "limits",
        "security_headers",
    ),
    *("health", "metrics_route", "openapi_examples", "openapi_errors", "openapi_headers", "openapi", "docs"),
    # What a feature does: later, as a read, in order, and where it is reached.
    *("audit", "chain", "jobs", "relay", "queries", "tasks", "reports"),
    *("attempts", "delivery", "people", "registering", "challenges", "linking", "service", "asking", "proving"),
    *("listing", "controller"),
    # Courses as code.
    *("faults", "files", "yaml_lines", "front_matter", "summary", "source", "checking", "fields", "plan"),
    *("native", "mdbook", "detect", "apply", "load", "show"),
    # Processes.
    *("database", "broker", "health_server", "app", "worker", "scheduler", "serving", "doctor", "seed"),
    *("ports", "mails", "system", "dev", "cli", "__main__"),
)
KNOWN_TO_RULES = {
    *("collections", "dataclasses", "datetime", "enum", "hashlib", "math", "typing", "unicodedata", "uuid"),
}
OF_OURS_KNOWN_TO_RULES = {"documents", "errors", "rules"}
LONGEST = {"lms": 300, "tests": 400, "scripts": 400}
LONGEST_FUNCTION = 50
LONG_ON_PURPOSE = {"create_app"}  # The application on one page.

CODE = {path for name in LONGEST for path in (ROOT / name).rglob("*.py") if path.read_text(encoding="utf-8").strip()}
MODULES = sorted(path.relative_to(ROOT) for path in CODE if path.is_relative_to(ROOT / "lms"))
RULES = [path for path in MODULES if path.stem == "rules"]


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))


def kind_of(path: Path) -> str:
    if path.parts[1] == "cli":
        return "cli"
    return path.parent.name if path.stem == "__init__" else path.stem


@cache
def imported(path: Path) -> set[str]:
    """Full names, also of what is imported inside of functions."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {_meant(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _meant(module: str, name: str) -> str:
    """`from lms.web import lists` means a module, `from lms.web.lists import Paging` something in one."""
    return f"{module}.{name}" if _file_of(f"{module}.{name}") else module


def _file_of(name: str) -> Path | None:
    place = Path(*name.split("."))
    return next((one for one in (place.with_suffix(".py"), place / "__init__.py") if (ROOT / one).exists()), None)


def ours(path: Path) -> set[str]:
    """The kinds that a module imports."""
    return {kind_of(file) for name in imported(path) if name.split(".")[0] == "lms" and (file := _file_of(name))}


def called(path: Path) -> set[str]:
    """What a module calls, as it is written there."""
    return {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def methods(path: Path) -> set[str]:
    return {name.rpartition(".")[2] for name in called(path) if "." in name}


def test_every_kind_has_one_place_and_every_place_is_used() -> None:
    assert len(set(ORDER)) == len(ORDER)
    assert {kind_of(path) for path in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_up(path: Path) -> None:
    above = ORDER[: ORDER.index(kind_of(path)) + 1]
    assert ours(path) <= set(above)


def test_the_order_sees_imports_inside_of_functions_and_of_packages() -> None:
    assert {"lms", "serving", "database", "worker", "load", "dev"} <= ours(Path("lms/cli/__init__.py"))
    assert {"letters", "jobs"} <= ours(Path("lms/accounts/tasks.py"))


@pytest.mark.parametrize("path", RULES, ids=str)
def test_rules_are_pure(path: Path) -> None:
    assert {name.split(".")[0] for name in imported(path)} <= KNOWN_TO_RULES | {"lms"}
    assert ours(path) <= OF_OURS_KNOWN_TO_RULES
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in nodes(path))
    # Time and randomness are arguments.
    assert methods(path).isdisjoint({"now", "utcnow", "today", "uuid4", "uuid7"})


def test_documents_are_inserted_once_and_then_changed_in_place() -> None:
    """A whole document that is written back is written over what somebody else has changed meanwhile."""
    whole = {"save", "save_changes", "replace_one", "find_one_and_replace"}
    handling = [path for path in MODULES if "documents" in ours(path) or path.stem == "documents"]
    assert len(handling) > 20
    found = {path: there for path in handling if (there := methods(path) & whole)}
    assert found == {}


def test_nothing_is_caught_without_a_name() -> None:
    caught = {
        (path, ast.unparse(node.type) if node.type else "")
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
    }
    assert {(path, name) for path, name in caught if name in {"", "BaseException"}} == set()


def test_only_what_talks_to_people_prints() -> None:
    assert [path for path in MODULES if {"print", "pprint"} & called(path)] == []
    echoing = {path for path in MODULES if {"click.echo", "click.secho", "sys.stdout.write"} & called(path)}
    assert [path for path in echoing if path.parts[1] not in {"cli", "dev"} and path.stem != "show"] == []


def test_files_are_short() -> None:
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {path: count for path, count in lines.items() if count > LONGEST[path.parts[0]]} == {}


def test_functions_do_one_step() -> None:
    long = {
        node.name
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno >= LONGEST_FUNCTION
    }
    assert long == LONG_ON_PURPOSE


def test_every_module_says_its_job() -> None:
    """A controller's work is said by its routes, which become the reference."""
    silent = [path for path in MODULES if not ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))]
    assert [path for path in silent if path.stem not in {"controller", "__main__"}] == []


def test_every_document_is_on_the_list() -> None:
    bases = {"Document", "BaseDocument"}
    stored = {
        node.name
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and bases & {ast.unparse(base) for base in node.bases}
    }
    assert stored - {"BaseDocument"} == {document.__name__ for document in DOCUMENTS}
