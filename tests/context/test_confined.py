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
