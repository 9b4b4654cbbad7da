import os
from pathlib import Path

import pytest

from lms.loading.detect import read_path
from lms.loading.faults import Faults
from lms.loading.files import MAX_FILE_BYTES, SourceFolder
from tests.loading.trees import places, write_tree

pytestmark = pytest.mark.quick


def read(root: Path, raw: bytes) -> tuple[str | None, list[tuple[str, int, int, str]]]:
    write_tree(root, {"a.md": raw})
    faults = Faults()
    return SourceFolder(root).read("a.md", faults), places(faults.errors)


def test_line_ends_and_a_byte_order_mark_make_no_difference(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\n") == ("a\nb\nc\n", [])


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b"a\r\nb\xffc", (2, 2, "not_utf8")),
        ("é\n".encode() + b"\xc3", (2, 1, "not_utf8")),
        ("ü".encode("latin-1"), (1, 1, "not_utf8")),
        (b"\xef\xbb\xbfab\x00", (1, 3, "nul_byte")),
        (b"a\nb\n\x00", (3, 1, "nul_byte")),
        (b"x" * (MAX_FILE_BYTES + 1), (1, 1, "file_too_large")),
    ],
)
def test_what_is_no_text_is_a_fault_with_its_place(tmp_path: Path, raw: bytes, place: tuple[int, int, str]) -> None:
    text, faults = read(tmp_path, raw)
    assert text is None
    assert faults == [("a.md", *place)]


def test_a_file_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    text, faults = read(tmp_path, b"x" * MAX_FILE_BYTES)
    assert text is not None
    assert not faults


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    folder = SourceFolder(write_tree(tmp_path / "course", {"a.md": "inside"}))
    write_tree(tmp_path, {"secret": "outside"})
    (tmp_path / "course" / "in.md").symlink_to("a.md")
    (tmp_path / "course" / "out.md").symlink_to("../secret")
    (tmp_path / "course" / "round.md").symlink_to("round.md")
    faults = Faults()
    assert folder.read("in.md", faults) == "inside"
    assert [folder.read(name, faults) for name in ("out.md", "../secret", "/etc/passwd", "gone.md")] == [None] * 4
    assert sorted(place[3] for place in places(faults.errors)) == ["missing_file", *["outside_source"] * 3]
    assert folder.read("round.md", faults) is None
    assert not folder.is_file("x" * 5000)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.md")
    faults = Faults()
    assert SourceFolder(tmp_path).read("a.md", faults) is None
    assert places(faults.errors) == [("a.md", 1, 1, "missing_file")]


def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path: Path) -> None:
    faults = Faults()
    assert SourceFolder(tmp_path).children("gone", faults) == []
    assert places(faults.errors) == [("gone", 1, 1, "unreadable")]


def test_names_that_start_with_a_dot_are_nobodys_business(tmp_path: Path) -> None:
    write_tree(tmp_path, {".git/config": "", ".hidden": "", "a/.b": "", "a/c.md": ""})
    folder = SourceFolder(tmp_path)
    assert [entry.name for entry in folder.children("", Faults())] == ["a"]
    assert list(folder.walk(".")) == ["a/c.md"]


def test_a_name_that_is_no_text_is_a_fault_and_never_breaks_the_reader(tmp_path: Path) -> None:
    write_tree(tmp_path, {"course.yaml": "title: x\n", "1-a/1-b.md": "x", "src/SUMMARY.md": "- [A](chapter.md)\n"})
    for name in (b"1-a/2-\xff.md", b"src/chapter\xff.md"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    [found] = read_path(tmp_path, None)
    assert places(found.faults.errors) == [("1-a/2-\\udcff.md", 1, 1, "bad_name")]
    (tmp_path / "course.yaml").unlink()
    (tmp_path / "book.toml").touch()
    [found] = read_path(tmp_path, None)
    assert found.faults.errors[0].hint == "Did you mean chapter\\udcff.md?"
    gone = tmp_path / os.fsdecode(b"\xfe")
    [found] = read_path(gone, None)
    assert found.name.encode().endswith(b"\\udcfe")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_a_file_that_cannot_be_read_is_a_fault() -> None:
    faults = Faults()
    assert SourceFolder(Path("/proc/self")).read("mem", faults) is None
    assert places(faults.errors) == [("mem", 1, 1, "unreadable")]


@pytest.mark.parametrize("deep", [50, 101, 3000])
def test_a_path_of_many_folders_is_no_trouble(tmp_path: Path, deep: int) -> None:
    faults = Faults()
    folder = SourceFolder(tmp_path)
    assert folder.read("a/" * deep + "x.md", faults) is None
    assert [fault.code for fault in faults.errors] in (["missing_file"], ["outside_source"])


def test_a_folder_that_is_a_link_holds_what_it_leads_to(tmp_path: Path) -> None:
    inside, outside = tmp_path / "course", tmp_path / "elsewhere"
    (inside / "real").mkdir(parents=True)
    outside.mkdir()
    for folder in (inside / "real", outside):
        (folder / "x.md").write_text("text")
    (inside / "near").symlink_to(inside / "real")
    (inside / "far").symlink_to(outside)
    folder = SourceFolder(inside)
    held = {
        name: folder.holds(name) for name in ("near/x.md", "far/x.md", "real/../../elsewhere/x.md", f"{outside}/x.md")
    }
    assert held == {"near/x.md": True, "far/x.md": False, "real/../../elsewhere/x.md": False, f"{outside}/x.md": False}
