"""Our own format: a folder with `course.yaml`, numbered folders as modules and numbered Markdown files as lessons."""

import re
from pathlib import Path

from lms.loading.checking import check, check_course
from lms.loading.faults import START, Faults
from lms.loading.files import SourceFolder
from lms.loading.front_matter import first_heading, lesson_text, read_page
from lms.loading.source import CourseHead, LessonHead, ModuleHead, SourceCourse, SourceLesson, SourceModule
from lms.loading.yaml_lines import read_yaml

SOURCE = "native"
COURSE_FILE = "course.yaml"
MODULE_FILE = "module.yaml"
MAX_DEPTH = 2
_NUMBERED = re.compile(r"(?P<number>\d+)[-_. ]*(?P<name>.*)", re.DOTALL)


def read_native(folder: SourceFolder, source: str | None, faults: Faults) -> SourceCourse | None:
    """The folder as a course; None where `course.yaml` cannot be used."""
    shown = folder.shown(COURSE_FILE)
    text = folder.read(COURSE_FILE, faults)
    document = None if text is None else read_yaml(text, shown, faults)
    head = None if document is None else check(document, CourseHead, shown, faults)
    stand_in = CourseHead(title=folder.name)
    course = SourceCourse(source="", source_id="", file=shown, head=head or stand_in)
    course.source = course.head.source or source or SOURCE
    course.source_id = course.head.id or folder.name
    # The lessons are read in any case, so that one run tells every fault.
    _Builder(folder, course, faults).read_folder("", None, 0)
    if document is None or head is None:
        return None
    course.slug_place = document.place_of("#/slug") if head.slug else START
    check_course(course, faults)
    return course


class _Builder:
    def __init__(self, folder: SourceFolder, course: SourceCourse, faults: Faults) -> None:
        self.folder = folder
        self.course = course
        self.faults = faults

    def read_folder(self, directory: str, module: str | None, depth: int) -> None:
        """`module` is the source id of the folder's own module; lessons beside `course.yaml` get an untitled one."""
        order = 0
        for entry in sorted(self.folder.children(directory, self.faults), key=_by_number):
            file = f"{directory}/{entry.name}" if directory else entry.name
            if not self.folder.holds(file):
                message = "This link leads out of the course's folder."
                self.faults.error("outside_source", message, self.folder.shown(file))
            elif entry.is_dir():
                order += self.read_module(file, module, order, depth + 1)
            elif not (entry.suffix.lower() == ".md" and _NUMBERED.fullmatch(entry.stem)):
                self.note_not_loaded(file, entry.name, depth)
            else:
                self.read_lesson(file, self.untitled_module(order) if module is None else module, order)
                order += 1

    def read_module(self, directory: str, parent: str | None, order: int, depth: int) -> int:
        """Whether the folder took a place among its siblings: 1 or 0."""
        shown = self.folder.shown(directory)
        if not _NUMBERED.fullmatch(Path(directory).name):
            self.faults.note("not_loaded", "Not loaded: a module's folder starts with a number.", shown)
            return 0
        if depth > MAX_DEPTH:
            message = "Modules nest at most two deep."
            self.faults.error("too_deep", message, shown, hint="Move its lessons one folder up.")
            return 0
        file = f"{directory}/{MODULE_FILE}"
        head = self.read_module_head(file) if self.folder.is_file(file) else ModuleHead()
        module = SourceModule(
            source_id=head.id or _id_of(directory),
            title=head.title or _title_of(directory),
            file=self.folder.shown(file) if self.folder.is_file(file) else shown,
            order=order,
            parent=parent,
        )
        self.course.modules.append(module)
        self.read_folder(directory, module.source_id, depth)
        return 1

    def read_module_head(self, file: str) -> ModuleHead:
        shown = self.folder.shown(file)
        text = self.folder.read(file, self.faults)
        document = None if text is None else read_yaml(text, shown, self.faults)
        head = None if document is None else check(document, ModuleHead, shown, self.faults)
        return head or ModuleHead()

    def untitled_module(self, order: int) -> str:
        if not any(module.source_id == "." for module in self.course.modules):
            self.course.modules.append(SourceModule(source_id=".", title="", file=self.course.file, order=order))
        return "."

    def read_lesson(self, file: str, module: str, order: int) -> None:
        shown = self.folder.shown(file)
        text = self.folder.read(file, self.faults)
        page = None if text is None else read_page(text, shown, self.faults)
        head = None if page is None else check(page.head, LessonHead, shown, self.faults)
        if page is None or head is None:
            return
        title = head.title or (first_heading(page.body) or "")[:255] or _title_of(file)
        self.course.lessons.append(
            SourceLesson(
                source_id=head.id or _id_of(file),
                module=module,
                title=title,
                file=shown,
                place=page.head.place_of("#/id") if head.id else START,
                order=order,
                content=lesson_text(page.body, title),
                slug=head.slug,
                slug_place=page.head.place_of("#/slug") if head.slug else START,
                content_type=head.content_type,
                video_url=head.video_url,
                duration_minutes=head.duration_minutes,
                preview=head.preview,
                required=head.required,
                metadata=head.metadata,
            )
        )

    def note_not_loaded(self, file: str, name: str, depth: int) -> None:
        """Says of everything that is left alone that it is, but for the files that were read already."""
        if name != (MODULE_FILE if depth else COURSE_FILE):
            why = ": a lesson's name starts with a number" if name.lower().endswith(".md") else ""
            self.faults.note("not_loaded", f"Not loaded{why}.", self.folder.shown(file))


def _by_number(entry: Path) -> tuple[bool, int, str]:
    match = _NUMBERED.fullmatch(entry.name)
    return (match is None, int(match["number"][:18]) if match else 0, entry.name)


def _id_of(file: str) -> str:
    """The path without the numbers and the ending: a file that is only renumbered stays the same lesson."""
    parts = file.removesuffix(Path(file).suffix if file.lower().endswith(".md") else "").split("/")
    names = (match["name"] or part if (match := _NUMBERED.fullmatch(part)) else part for part in parts)
    return "/".join(names)


def _title_of(file: str) -> str:
    """`01-first-steps` -> `First steps`."""
    words = re.split(r"[-_\s]+", _id_of(file).rpartition("/")[2])
    title = " ".join(word for word in words if word)
    return title[:1].upper() + title[1:]
