"""Files of a workspace that lead out of it by a link are not read into the prompt; a problem reports each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clawft_trio.config import Config
from clawft_trio.context import ContextBuilder, Memory, Skills
from clawft_trio.files import FileCache
from clawft_trio.files.confinement import Confinement

SECRET = "the outside secret"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    for name in ("AGENTS.md", "MEMORY.md", "file"):
        (outside / name).write_text(SECRET)
    (outside / "SKILL.md").write_text(f"---\nname: evil\ndescription: {SECRET}\n---\n{SECRET}")
    return root, outside


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


LINKS = {
    "a bootstrap file": ("AGENTS.md", "AGENTS.md"),
    "an identity file": ("SOUL.md", "file"),
    "a bootstrap folder": (".clawft", "."),
    "the notes": ("memory/MEMORY.md", "MEMORY.md"),
    "the folder of the notes": ("memory", "."),
    "a skill": (".clawft/skills/evil", "."),
    "a skill's file": (".clawft/skills/evil/SKILL.md", "SKILL.md"),
    "the folder of the skills": (".clawft/skills", ".."),
}


@pytest.mark.parametrize(("place", "target"), LINKS.values(), ids=LINKS)
async def test_a_link_that_leads_outside_is_a_problem_and_not_read(
    places: tuple[Path, Path], place: str, target: str
) -> None:
    root, outside = places
    link(root / place, outside / target)
    cache = FileCache()
    # Known already by its device and number: that must not open it either.
    await cache.read_many([outside / "AGENTS.md", outside / "MEMORY.md", outside / "SKILL.md", outside / "file"])
    skills = Skills(cache, workspace=root / ".clawft" / "skills", trust_workspace=True)
    builder = ContextBuilder(root, cache=cache, skills=skills, memory=Memory(root, cache))
    for _ in range(2):
        prompt = await builder.explain()
        assert SECRET not in prompt.text
        assert any("link leads out of the workspace" in problem for problem in prompt.problems), prompt.problems


async def test_a_link_inside_the_workspace_is_followed(places: tuple[Path, Path]) -> None:
    root, _ = places
    (root / "docs").mkdir()
    (root / "docs" / "guide.md").write_text("inside")
    (root / "AGENTS.md").symlink_to("docs/guide.md")
    prompt = await ContextBuilder(root).explain()
    assert "inside" in prompt.text
    assert prompt.problems == ()


async def test_a_workspace_that_is_itself_reached_by_a_link_works(places: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = places
    (root / "AGENTS.md").write_text("inside")
    (tmp_path / "alias").symlink_to(root)
    assert "inside" in (await ContextBuilder(tmp_path / "alias").explain()).text


async def test_a_link_that_is_made_later_is_seen(places: tuple[Path, Path]) -> None:
    root, outside = places
    (root / "AGENTS.md").write_text("inside")
    builder = ContextBuilder(root)
    assert "inside" in (await builder.explain()).text
    (root / "AGENTS.md").unlink()
    link(root / "AGENTS.md", outside / "AGENTS.md")
    assert SECRET not in (await builder.explain()).text


def test_what_was_opened_is_checked_by_its_descriptor(places: tuple[Path, Path]) -> None:
    root, outside = places
    (root / "file").write_text("inside")
    confinement = Confinement((str(root),))
    for path, found in ((outside / "file", True), (root / "file", False)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            assert confinement.opened_outside(descriptor, str(root)) is found
        finally:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "target", "leaves"),
    [
        ("link", "../outside/file", True),
        ("link", "../outside", True),
        ("link", "..", True),
        ("link", "../root-2", True),
        ("link", "real", False),
        ("link", ".", False),
        ("link", "folder/real", False),
        ("link", "missing", False),
        ("link", "../missing", True),
        ("folder/link", "../real", False),
        ("folder/link", "../../outside/file", True),
        ("outer/file", "../outside", True),
        ("inner/real", "folder", False),
    ],
)
def test_a_path_leaves_its_root_by_a_link_at_its_end_or_in_its_folders(
    places: tuple[Path, Path], path: str, target: str, leaves: bool
) -> None:
    root, _ = places
    (root / "folder").mkdir()
    (root.parent / "root-2").mkdir()
    for name in ("real", "folder/real"):
        (root / name).write_text("inside")
    made = path if path.endswith("link") else path.partition("/")[0]
    (root / made).symlink_to(target)
    assert Confinement((str(root),)).leaves(str(root / path), str(root)) is leaves


def test_a_file_a_folder_and_the_root_itself_do_not_leave_the_root(places: tuple[Path, Path]) -> None:
    root, outside = places
    (root / "file").write_text("inside")
    confinement = Confinement((str(root),))
    assert confinement.leaves(str(root), str(root)) is confinement.leaves(str(root / "file"), str(root)) is False
    assert confinement.leaves(str(outside / "file"), str(root)) is True
    with pytest.raises(FileNotFoundError):
        confinement.leaves(str(root / "missing"), str(root))


@pytest.mark.parametrize(
    ("roots", "path", "root"),
    [
        ((), "/a/b", None),
        (("/a",), "/a/b", "/a"),
        (("/a",), "/a", "/a"),
        (("/a",), "/ab", None),
        (("/a",), "/a/../b", None),
        (("/a",), "/b/../a/c", "/a"),
        (("/a/b", "/a", "/a/b/c"), "/a/b/c/d", "/a"),
        (("/a/b", "/c"), "/a/b/c", "/a/b"),
        (("/",), "/a", "/"),
        (("/a/",), "/a/b", "/a/"),
    ],
)
def test_a_path_belongs_to_the_outermost_root_that_contains_it(
    roots: tuple[str, ...], path: str, root: str | None
) -> None:
    assert Confinement(roots).root_of(path) == root


def test_a_descriptor_without_an_entry_is_not_outside(places: tuple[Path, Path]) -> None:
    assert Confinement(()).opened_outside(1 << 20, str(places[0])) is False


async def test_senders_of_channels_have_notes_of_their_own_by_default(tmp_path: Path) -> None:
    memory = Memory(tmp_path, FileCache(), per_sender=Config().memory.per_sender)
    await memory.append("ana likes tea", "telegram:ana")
    await memory.append("shared", "local:user")
    assert (await memory.read("telegram:ben")).text == ""
    assert (await memory.read("telegram:ana")).text == "ana likes tea"
    assert (await memory.read("local:other")).text == "shared"
    assert (await memory.read()).text == "shared"
    shared = Memory(tmp_path, FileCache(), per_sender=False)
    assert (await shared.read("telegram:ben")).text == "shared"
