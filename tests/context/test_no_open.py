"""What the file system sees, counted by an audit hook in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from context.skill_files import skill_md, write, write_legacy, write_skill

SESSION = """
import json, os, sys, time
from pathlib import Path

workspace = sys.argv[1]
opened = []

def hook(event, arguments):
    if event in {"open", "os.scandir", "os.listdir"} and str(arguments[0]).startswith(workspace):
        opened.append(os.path.relpath(arguments[0], workspace))

sys.addaudithook(hook)

import trio
from clawft_trio.context import ContextBuilder, Memory, Skills, skill_tool
from clawft_trio.files import FileCache
from clawft_trio.tools import ToolContext

async def main():
    cache = FileCache()
    skills = Skills(cache, user=Path(workspace, "skills"))
    memory = Memory(workspace, cache)
    builder = ContextBuilder(workspace, cache=cache, skills=skills, memory=memory)
    load = skill_tool(skills)

    async def call():
        del opened[:]
        messages = await builder.build_messages([], "hello")
        said = await load.run({"name": "greet"}, ToolContext())
        await memory.search("tea")
        return {"opened": sorted(opened), "prompt": messages[0].text, "notes": messages[-1].text, "skill": said}

    def rewrite(name, old, new):
        # Of one size, in place, and with its old times.
        path = Path(workspace, name)
        times = path.stat()
        path.write_text(path.read_text().replace(old, new))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        # Until the clock has ticked, what was read is read once more, to be sure.
        time.sleep(0.1)

    calls = [await call(), await call(), await call()]
    rewrite("SOUL.md", "kind", "rude")
    calls += [await call(), await call()]
    rewrite("skills/greet/SKILL.md", "hello", "howdy")
    calls += [await call(), await call()]
    rewrite("memory/MEMORY.md", "tea", "rum")
    calls += [await call(), await call()]
    print(json.dumps(calls))

trio.run(main)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    tmp_path = tmp_path_factory.mktemp("workspace")
    write(tmp_path / "SOUL.md", "You are kind.")
    write(tmp_path / "AGENTS.md", "Be brief.")
    write(tmp_path / ".clawft" / "USER.md", "Ana.")
    write(tmp_path / "TOOLS.md", b"\xff")
    write(tmp_path / "memory" / "MEMORY.md", "Ana likes tea.")
    write_skill(tmp_path / "skills", "greet", "Say hello.", description="Greeting")
    write_legacy(tmp_path / "skills", "older")
    write(tmp_path / "skills" / "broken" / "SKILL.md", skill_md("../x"))
    script = f"import time; time.sleep(0.1)\n{SESSION}"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_second_call_of_a_session_opens_nothing(calls: list[dict]) -> None:
    assert calls[0]["opened"] == sorted(
        [
            *(".clawft/USER.md", "AGENTS.md", "SOUL.md", "TOOLS.md", "memory/MEMORY.md"),
            *("skills", "skills/broken/SKILL.md", "skills/greet/SKILL.md"),
            *("skills/older", "skills/older/prompt.md", "skills/older/skill.json"),
        ]
    )
    assert calls[1]["opened"] == calls[2]["opened"] == []
    assert calls[0]["prompt"] == calls[1]["prompt"] == calls[2]["prompt"]


@pytest.mark.parametrize(
    ("index", "name", "where", "new"),
    [
        (3, "SOUL.md", "prompt", "You are rude."),
        (5, "skills/greet/SKILL.md", "skill", "Say howdy."),
        (7, "memory/MEMORY.md", "notes", "Ana likes rum."),
    ],
)
def test_a_change_that_keeps_size_and_mtime_opens_that_file_and_is_told(
    calls: list[dict], index: int, name: str, where: str, new: str
) -> None:
    assert calls[index]["opened"] == [name]
    assert new in calls[index][where] and new not in calls[index - 1][where]
    assert calls[index + 1]["opened"] == []
