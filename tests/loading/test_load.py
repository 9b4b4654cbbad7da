from pathlib import Path

import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course, CourseStatus
from lms.loading.apply import ChangedSincePlan, apply
from lms.loading.load import FAULTY, OK, REFUSED, CourseReport, LoadOptions, load
from lms.loading.plan import Action
from tests.build import a_course, a_user
from tests.commands import Commands
from tests.loading.trees import School, comprehensive_rust, places

SALT = "tides/02-shore/01-salt.md"


async def only_course() -> Course:
    [course] = await Course.find_all().to_list()
    return course


def codes(courses: list[CourseReport]) -> list[str | None]:
    return [None if one.refusal is None else one.refusal.code for one in courses]


async def test_the_first_load_creates_the_course_as_a_draft_of_its_instructor(school: School, ivy: User) -> None:
    report = await school.load("tides")
    assert (report.exit_code, [one.applied for one in report.courses]) == (OK, [True])
    course = await only_course()
    assert (course.source, course.source_id, course.instructor_id) == ("native", "tides", ivy.id)
    assert (course.title, course.slug, course.tags) == (
        "Plants of the tidal zone",
        "plants-of-the-tidal-zone",
        ["plants", "sea"],
    )
    assert (course.status, course.published_at, course.rev, course.outline_rev) == (CourseStatus.DRAFT, None, 1, 1)
    assert course.seq > 0
    assert [module.title for module in course.modules] == ["First steps", "Shore"]
    assert [(lesson.title, lesson.content, lesson.rev) for lesson in course.lessons] == [
        ("Hello", "Salt and light.\n", 1),
        ("Eelgrass", "It flowers under water.\n", 1),
        ("Salt", "How plants bear it.\n", 1),
    ]
    assert [lesson.module_id for lesson in course.lessons] == [course.modules[index].id for index in (0, 0, 1)]
    assert (course.lessons[0].duration_minutes, course.lessons[0].preview) == (5, True)


async def test_the_second_load_of_the_same_source_writes_nothing(school: School, commands: Commands) -> None:
    await school.load("tides")
    before = await only_course()
    commands.seen.clear()
    report = await school.load("tides")
    assert commands.names == ["find"]
    assert (report.exit_code, report.courses[0].applied) == (OK, False)
    assert report.courses[0].plan is not None
    assert report.courses[0].plan.action is Action.UNCHANGED
    assert await only_course() == before


@pytest.mark.timeout(300)
async def test_the_real_book_is_loaded_once_and_then_unchanged(ivy: User, commands: Commands) -> None:
    options = LoadOptions(instructor_email=ivy.email, publish=True)
    assert (await load([comprehensive_rust()], options)).exit_code == OK
    course = await only_course()
    assert (len(course.lessons), len(course.modules)) == (562, 139)
    assert len({lesson.slug for lesson in course.lessons}) == 562
    commands.seen.clear()
    report = await load([comprehensive_rust()], options)
    assert (report.exit_code, commands.names) == (OK, ["find"])
    assert await only_course() == course


async def test_a_dry_run_writes_nothing_and_says_what_would_be(school: School, commands: Commands) -> None:
    commands.seen.clear()
    report = await school.load("tides", dry_run=True)
    assert (report.dry_run, report.exit_code, report.courses[0].applied) == (True, OK, False)
    assert report.courses[0].plan is not None
    assert report.courses[0].plan.action is Action.CREATE
    await school.load("tides")
    commands.seen.clear()
    school.files[SALT] = "# Salt\n\nOther.\n"
    report = await school.load("tides", dry_run=True)
    assert report.courses[0].plan is not None
    assert report.courses[0].plan.action is Action.UPDATE
    assert set(commands.names) == {"find"}
    assert (await only_course()).lessons[2].content == "How plants bear it.\n"


async def test_publish_is_for_new_courses(school: School) -> None:
    await school.load("tides", publish=True)
    course = await only_course()
    assert (course.status, course.published_at) == (CourseStatus.PUBLISHED, course.created_at)
    await course.set({"status": CourseStatus.DRAFT})
    school.files[SALT] = "# Salt\n\nOther.\n"
    await school.load("tides", publish=True)
    course = await only_course()
    assert (course.status, course.lessons[2].content) == (CourseStatus.DRAFT, "Other.\n")


async def test_a_course_with_faults_is_not_written_and_the_others_are(school: School) -> None:
    school.files |= {
        "salt/course.yaml": "title: Salt\n",
        "salt/1-a/1-b.md": "x",
        "salt/1-a/2-c.md": "---\ntitel: x\nduration_minutes: 0\n---\n",
        "sand/course.yaml": "title: Sand\n",
        "sand/1-a/1-b.md": "x",
    }
    report = await school.load()
    assert report.exit_code == FAULTY
    assert [(one.name, one.applied, one.plan is None) for one in report.courses] == [
        ("salt", False, True),
        ("sand", True, False),
        ("tides", True, False),
    ]
    assert places(report.courses[0].errors) == [
        ("salt/1-a/2-c.md", 2, 1, "unknown_field"),
        ("salt/1-a/2-c.md", 3, 19, "invalid"),
    ]
    assert await Course.find_all().sort("slug").distinct("source_id") == ["sand", "tides"]


async def test_faults_go_before_refusals_in_the_exit_code(school: School) -> None:
    school.files |= {"salt/course.yaml": "titel: Salt\n"}
    report = await school.load(instructor_email="nobody@school.example")
    assert codes(report.courses) == [None, "unknown_instructor"]
    assert report.exit_code == FAULTY


async def test_several_paths_name_their_files_from_where_the_command_ran(school: School) -> None:
    school.files |= {"salt/course.yaml": "title: Salt\n", "salt/1-a/1-b.md": "---\ntitel: x\n---\n"}
    report = await school.load("tides", "salt")
    assert [one.name for one in report.courses] == ["tides", "salt"]
    assert places(report.courses[1].errors) == [(f"{school.root}/salt/1-a/1-b.md", 2, 1, "unknown_field")]


async def test_two_folders_that_are_the_same_course_are_a_fault(school: School) -> None:
    school.files |= {f"copy/{name.removeprefix('tides/')}": text for name, text in school.files.items()}
    report = await school.load()
    assert report.exit_code == FAULTY
    assert places(report.courses[1].errors) == [("tides/course.yaml", 1, 1, "duplicate_course")]
    assert "copy/course.yaml" in report.courses[1].errors[0].message


@pytest.mark.parametrize(
    ("of_file", "option", "stored"),
    [("source: shore\n", "option", "shore"), ("", "option", "option"), ("", None, "native")],
)
async def test_the_source_is_that_of_the_file_then_of_the_option(
    school: School, of_file: str, option: str | None, stored: str
) -> None:
    school.files["tides/course.yaml"] = f"id: tides\ntitle: Tides\n{of_file}"
    await school.load("tides", source=option)
    assert (await only_course()).source == stored


async def test_the_same_id_in_another_source_is_another_course_with_other_lessons(school: School) -> None:
    await school.load("tides")
    await school.load("tides", source="other")
    first, second = await Course.find_all().sort("_id").to_list()
    assert (first.slug, second.slug) == ("plants-of-the-tidal-zone", "plants-of-the-tidal-zone-2")
    assert not {lesson.id for lesson in first.lessons} & {lesson.id for lesson in second.lessons}


async def test_a_slug_from_the_title_makes_way_and_is_kept_from_then_on(school: School, ivy: User) -> None:
    other = await a_course(ivy.id).insert()
    school.files |= {"twin/course.yaml": "title: Plants of the Tidal Zone!\n", "twin/1-a/1-b.md": "x"}
    await school.load()
    slugs = {course.source_id: course.slug for course in await Course.find_all().to_list()}
    assert slugs == {
        None: "plants-of-the-tidal-zone",
        "tides": "plants-of-the-tidal-zone-2",
        "twin": "plants-of-the-tidal-zone-3",
    }
    await other.delete()
    school.files["twin/course.yaml"] = "title: Twin\n"
    await school.load()
    twin = await Course.find_one({"source_id": "twin"})
    assert twin is not None
    assert (twin.title, twin.slug) == ("Twin", "plants-of-the-tidal-zone-3")


async def test_a_given_slug_that_another_course_has_is_a_fault(school: School, course: Course) -> None:
    school.files["tides/course.yaml"] = f"id: tides\ntitle: Tides\nslug: {course.slug}\n"
    report = await school.load("tides")
    assert places(report.courses[0].errors) == [("course.yaml", 3, 7, "slug_taken")]
    school.files["tides/course.yaml"] = "id: tides\ntitle: Tides\nslug: tides\n"
    assert (await school.load("tides")).exit_code == OK
    assert (await school.load("tides")).exit_code == OK
    school.files["tides/course.yaml"] = f"id: tides\ntitle: Tides\nslug: {course.slug}\n"
    report = await school.load("tides")
    assert places(report.courses[0].errors) == [("course.yaml", 3, 7, "slug_taken")]


async def test_one_slug_given_to_two_courses_of_a_load_is_a_fault_of_the_second(school: School) -> None:
    for name in ("a", "b"):
        school.files |= {f"{name}/course.yaml": "title: x\nslug: same\n", f"{name}/1-a/1-b.md": "x"}
    report = await school.load()
    assert [one.applied for one in report.courses] == [True, False, True]
    assert places(report.courses[1].errors) == [("b/course.yaml", 2, 7, "slug_taken")]


@pytest.mark.parametrize(
    ("role", "active", "refused"),
    [
        (Role.INSTRUCTOR, True, None),
        (Role.ADMIN, True, None),
        (Role.INSTRUCTOR, False, "unknown_instructor"),
        (Role.STUDENT, True, "unknown_instructor"),
    ],
)
async def test_the_owner_must_be_an_active_instructor(
    school: School, role: Role, active: bool, refused: str | None
) -> None:
    owner = await a_user("Una", role, active=active).insert()
    report = await school.load("tides", instructor_email="  UNA@School.example ")
    assert codes(report.courses) == [refused]
    assert report.exit_code == (REFUSED if refused else OK)
    assert [course.instructor_id for course in await Course.find_all().to_list()] == ([] if refused else [owner.id])


async def test_nobody_by_that_address_is_told_apart_from_nothing(school: School) -> None:
    report = await school.load("tides", instructor_email="nobody@school.example")
    assert codes(report.courses) == ["unknown_instructor"]
    assert await Course.count() == 0


async def test_without_a_name_the_only_administrator_owns_new_courses(school: School) -> None:
    report = await school.load("tides", instructor_email=None)
    assert codes(report.courses) == ["no_instructor"]
    assert report.courses[0].refusal is not None
    assert "no administrator" in report.courses[0].refusal.message
    ada = await a_user("Ada", Role.ADMIN).insert()
    await a_user("Al", Role.ADMIN, active=False).insert()
    assert (await school.load("tides", instructor_email=None)).exit_code == OK
    assert (await only_course()).instructor_id == ada.id
    await a_user("Abe", Role.ADMIN).insert()
    school.files |= {"salt/course.yaml": "title: Salt\n", "salt/1-a/1-b.md": "x"}
    school.files[SALT] = "# Salt\n\nOther.\n"
    report = await school.load(instructor_email=None)
    assert [(one.name, one.applied) for one in report.courses] == [("salt", False), ("tides", True)]
    assert codes(report.courses) == ["no_instructor", None]
    assert report.courses[0].refusal is not None
    assert "more than one administrator" in report.courses[0].refusal.message


async def test_a_place_without_courses_is_a_fault(school: School, tmp_path: Path) -> None:
    report = await load([tmp_path / "gone"], LoadOptions())
    assert report.exit_code == FAULTY
    assert [error.code for one in report.courses for error in one.errors] == ["no_folder"]


async def test_a_course_that_nobody_could_complete_is_not_published(school: School) -> None:
    school.files["tides/course.yaml"] = "title: Tides\n"
    for name in [one for one in school.files if one.startswith("tides/") and one.endswith(".md")]:
        school.files[name] = "---\nrequired: false\n---\nRead this.\n"
    report = await school.load("tides", publish=True)
    assert (report.exit_code, codes(report.courses)) == (REFUSED, ["course_not_publishable"])
    assert await Course.count() == 0
    assert (await school.load("tides")).exit_code == OK


def all_optional(school: School) -> None:
    for name in [one for one in school.files if one.startswith("tides/") and one.endswith(".md")]:
        school.files[name] = "---\nrequired: false\n---\nRead this.\n"


async def test_a_published_course_keeps_a_required_lesson(school: School) -> None:
    await school.load("tides", publish=True)
    before = await only_course()
    all_optional(school)
    for dry_run in (True, False):
        report = await school.load("tides", dry_run=dry_run, overwrite_edits=True)
        assert (report.exit_code, codes(report.courses)) == (REFUSED, ["last_required_lesson"])
    assert await only_course() == before
    school.files[SALT] = "# Salt\n\nOther.\n"
    assert (await school.load("tides")).exit_code == OK
    assert [lesson.required for lesson in (await only_course()).lessons] == [False, False, True]


@pytest.mark.parametrize("status", [CourseStatus.DRAFT, CourseStatus.ARCHIVED])
async def test_a_course_that_is_not_open_may_lose_its_last_required_lesson(
    school: School, status: CourseStatus
) -> None:
    await school.load("tides")
    await (await only_course()).set({"status": status})
    all_optional(school)
    assert (await school.load("tides")).exit_code == OK
    assert not any(lesson.required for lesson in (await only_course()).lessons)


async def test_a_required_lesson_that_the_load_leaves_alone_is_enough(school: School) -> None:
    """It is no longer in the source, and stays."""
    await school.load("tides", publish=True)
    all_optional(school)
    del school.files[SALT]
    assert (await school.load("tides")).exit_code == OK
    assert [lesson.required for lesson in (await only_course()).lessons] == [False, False, True]


async def test_who_publishes_after_the_plan_is_not_left_without_a_required_lesson(
    school: School,
) -> None:
    """The plan judged a draft; publishing raises the revision, by which the load finds the course changed."""
    await school.load("tides")
    all_optional(school)
    planned = (await school.load("tides", dry_run=True)).courses[0].plan
    assert planned is not None
    course = await only_course()
    await course.set({"status": CourseStatus.PUBLISHED, "rev": course.rev + 1})
    with pytest.raises(ChangedSincePlan):
        await apply(planned, instructor_id=None, publish=False)
    assert all(lesson.required for lesson in (await only_course()).lessons)
