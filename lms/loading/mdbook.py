"""mdBooks: parts become modules, chapters with children sub-modules that start with the chapter's own text.

Ids are the files' paths, so that a chapter that moves in the table of contents stays the same lesson. The book's id is
made from its title, since folders called `docs` or `book` are many.
"""

import posixpath
import re
import tomllib
from collections import Counter

import msgspec

from lms.courses.schemas import Description, Title
from lms.courses.slugs import slug_of
from lms.loading.checking import check, check_course
from lms.loading.faults import Faults, Place, nearest
from lms.loading.files import SourceFolder
from lms.loading.front_matter import lesson_text, read_page
from lms.loading.source import CourseHead, LessonHead, SourceCourse, SourceLesson, SourceModule
from lms.loading.summary import Entry, Summary, read_summary
from lms.loading.yaml_lines import YamlDocument

SOURCE = "mdbook"
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_DIRECTIVE = re.compile(r"\{\{[#%]")


class BookHead(msgspec.Struct):
    """What we read of the table `book`; the rest of `book.toml` is for mdBook."""

    title: Title | None = None
    description: Description = ""
    language: str | None = None
    authors: list[str] = []
    src: str = "src"


def read_mdbook(folder: SourceFolder, source: str | None, faults: Faults) -> SourceCourse | None:
    """The book as a course; None where `book.toml` or the table of contents cannot be read at all."""
    shown = folder.shown("book.toml")
    text = folder.read("book.toml", faults)
    book = None if text is None else _read_toml(text, shown, faults)
    if book is None:
        return None
    sources = posixpath.normpath(book.src)
    summary_file = posixpath.join(sources, "SUMMARY.md")
    contents = folder.read(summary_file, faults)
    if contents is None:
        return None
    kept = {"language": book.language, "authors": book.authors}
    metadata = {key: value for key, value in kept.items() if value}
    head = CourseHead(title=book.title or folder.name, description=book.description, metadata=metadata)
    course = SourceCourse(source=source or SOURCE, source_id=slug_of(head.title), file=shown, head=head)
    summary = read_summary(contents, folder.shown(summary_file), faults)
    _Builder(folder, sources, course, faults).build(summary)
    check_course(course, faults)
    return course


def _read_toml(text: str, shown: str, faults: Faults) -> BookHead | None:
    found = YamlDocument()
    try:
        table = tomllib.loads(text).get("book", {})
    except RecursionError:
        faults.error("toml_syntax", "TOML: nested too deep.", shown)
        return None
    except tomllib.TOMLDecodeError as error:
        match = _TOML_PLACE.search(str(error))
        line, column = (match[1], match[2]) if match else (None, None)
        place = Place(int(line), int(column)) if line and column else Place(text.count("\n") + 1)
        faults.error("toml_syntax", f"TOML: {_TOML_PLACE.sub('', str(error))}.", shown, place)
        return None
    if not isinstance(table, dict):
        faults.error("invalid", "`book` must be a table.", shown, _line_of("book", text), pointer="#/book")
        return None
    found.value = table
    names = BookHead.__struct_fields__
    found.places = {"#": _line_of("book", text)} | {f"#/{name}": _line_of(name, text) for name in names}
    return check(found, BookHead, shown, faults)


def _line_of(key: str, text: str) -> Place:
    """TOML tells no places, so it is the line that starts with the key."""
    match = re.search(rf"^[ \t]*\[?{key}\b", text, re.MULTILINE)
    return Place(text.count("\n", 0, match.start()) + 1) if match else Place()


class _Builder:
    def __init__(self, folder: SourceFolder, sources: str, course: SourceCourse, faults: Faults) -> None:
        self.folder = folder
        self.sources = sources
        self.course = course
        self.faults = faults
        self.summary_file = folder.shown(self.at("SUMMARY.md"))
        self.orders: Counter[str | None] = Counter()
        self.seen: dict[str, Entry] = {}
        self.files = set(folder.walk(sources))
        self.pages_with_directives: list[tuple[str, Place]] = []

    def build(self, summary: Summary) -> None:
        modules: list[str] = []
        parts: dict[int, str] = {}
        # Not strict: of an empty summary there is no entry, and nothing that follows it.
        for entry, following in zip(summary.entries, [*summary.entries[1:], None], strict=False):
            if entry.part not in parts:
                parts[entry.part] = self.add_part(entry.part, summary)
            del modules[entry.level :]
            parent = modules[-1] if modules else parts[entry.part]
            has_children = following is not None and following.level > entry.level
            file = self.file_of(entry)
            if has_children:
                parent = self.add_module(
                    _module_id(entry, parent), entry.title, Place(entry.line, entry.column), parent
                )
            modules.append(parent)
            if file is not None:
                self.add_lesson(file, entry, parent)
        self.note_empty_parts(summary, parts)
        self.note_left_out()

    def next_order(self, parent: str | None) -> int:
        self.orders[parent] += 1
        return self.orders[parent] - 1

    def add_part(self, part: int, summary: Summary) -> str:
        """Entries before the first part go into a module with the book's name."""
        titles = [title for title, _ in summary.parts[: part - 1]] if part else []
        title, line = summary.parts[part - 1] if part else (self.course.head.title, 1)
        copies = sum(slug_of(other) == slug_of(title) for other in titles)
        source_id = f"part:{slug_of(title)}{f'-{copies + 1}' if copies else ''}" if part else "book"
        return self.add_module(source_id, title, Place(line), None)

    def add_module(self, source_id: str, title: str, place: Place, parent: str | None) -> str:
        order = self.next_order(parent)
        module = SourceModule(
            source_id=source_id, title=title, file=self.summary_file, place=place, order=order, parent=parent
        )
        self.course.modules.append(module)
        return source_id

    def at(self, path: str) -> str:
        """A page's path below the folder."""
        return posixpath.normpath(posixpath.join(self.sources, path))

    def file_of(self, entry: Entry) -> str | None:
        """The path below the sources of the entry's page, or None and why there is none."""
        place = Place(entry.line, entry.column)
        if not entry.target:
            self.faults.note("draft", f"The draft chapter {entry.title} has no page yet.", self.summary_file, place)
            return None
        path = posixpath.normpath(entry.target)
        file = self.at(path)
        if posixpath.isabs(path) or path.split("/")[0] == ".." or not self.folder.holds(file):
            message = f"The link {entry.target} leads out of the book's folder."
            self.faults.error("outside_source", message, self.summary_file, place)
        elif path in self.seen:
            message = f"The page {path} is in the table of contents already, in line {self.seen[path].line}."
            self.faults.error("duplicate_page", message, self.summary_file, place)
        elif not self.folder.is_file(file):
            hint = nearest(path, (posixpath.relpath(known, self.sources) for known in self.files))
            self.faults.error("missing_page", f"There is no page {entry.target}.", self.summary_file, place, hint=hint)
        else:
            self.seen[path] = entry
            return path
        return None

    def add_lesson(self, path: str, entry: Entry, module: str) -> None:
        file = self.at(path)
        shown = self.folder.shown(file)
        text = self.folder.read(file, self.faults)
        page = None if text is None else read_page(text, shown, self.faults)
        order = self.next_order(module)
        if text is None or page is None:
            return
        if directive := _DIRECTIVE.search(text):
            self.pages_with_directives.append((shown, Place(text.count("\n", 0, directive.start()) + 1)))
        head = _lesson_head(page.head, shown, self.faults)
        if head is None:
            return
        self.course.lessons.append(
            SourceLesson(
                source_id=path,
                module=module,
                title=entry.title,
                file=shown,
                order=order,
                content=lesson_text(page.body, entry.title),
                duration_minutes=head.duration_minutes,
                metadata=head.metadata,
            )
        )

    def note_empty_parts(self, summary: Summary, parts: dict[int, str]) -> None:
        for number, (title, line) in enumerate(summary.parts, start=1):
            if number not in parts:
                message = f"The part {title} has no chapter and is left out."
                self.faults.note("empty_part", message, self.summary_file, Place(line))

    def note_left_out(self) -> None:
        """What the book has and the course will not have: never silence."""
        listed = {self.at(path) for path in (*self.seen, "SUMMARY.md")}
        rest = sorted(self.files - listed)
        for file in rest:
            if file.endswith(".md"):
                message = "Not loaded: this page is not in SUMMARY.md."
                self.faults.note("outside_summary", message, self.folder.shown(file))
        others = [file for file in rest if not file.endswith(".md")]
        if others:
            message = f"Not loaded: what is no page (number of files: {len(others)}, this is the first)."
            self.faults.note("no_page", message, self.folder.shown(others[0]))
        if self.pages_with_directives:
            file, place = self.pages_with_directives[0]
            count = len(self.pages_with_directives)
            message = f"mdBook's commands in double braces stay as text (number of pages: {count}, this is the first)."
            self.faults.note("directives_kept", message, file, place)


def _module_id(entry: Entry, parent: str) -> str:
    """A chapter is known by its page, a draft only by where it stands."""
    return f"chapter:{posixpath.normpath(entry.target)}" if entry.target else f"draft:{parent}/{slug_of(entry.title)}"


def _lesson_head(head: YamlDocument, shown: str, faults: Faults) -> LessonHead | None:
    """`minutes` is the duration; what else the page's front matter says is kept as metadata."""
    found = YamlDocument()
    found.value = {"metadata": {key: value for key, value in head.value.items() if key != "minutes"}}
    found.places = {"#/duration_minutes": head.place_of("#/minutes"), "#": head.place_of("#")}
    if "minutes" in head.value:
        found.value["duration_minutes"] = head.value["minutes"]
    return check(found, LessonHead, shown, faults)
