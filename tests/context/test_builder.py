from __future__ import annotations

import pytest

from clawft_trio.context import ContextBuilder, Memory
from clawft_trio.files import FileCache

pytestmark = pytest.mark.filterwarnings("error")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


async def test_without_any_file_the_agent_introduces_itself(tmp_path):
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith("You are clawft")
    assert str(tmp_path) in prompt


@pytest.mark.parametrize("name", ["SOUL.md", "IDENTITY.md"])
async def test_an_identity_file_replaces_the_introduction(tmp_path, name):
    write(tmp_path / name, "I am Ferdinand.")
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith(f"## {name}\n\nI am Ferdinand.")
    assert "clawft" not in prompt.replace(str(tmp_path), "")


async def test_guides_alone_do_not_replace_the_introduction(tmp_path):
    write(tmp_path / "AGENTS.md", "Be brief.")
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith("You are clawft") and "## AGENTS.md\n\nBe brief." in prompt


async def test_files_come_in_their_order_with_memory_last(tmp_path):
    for name in ("TOOLS.md", "AGENTS.md", "SOUL.md", "USER.md", "IDENTITY.md", "memory/MEMORY.md"):
        write(tmp_path / name, f"text of {name}")
    cache = FileCache()
    builder = ContextBuilder(tmp_path, cache=cache, memory=Memory(tmp_path, cache))
    titles = [part.title for part in (await builder.explain()).parts]
    assert titles == ["SOUL.md", "IDENTITY.md", "Configuration", "AGENTS.md", "USER.md", "TOOLS.md", "Memory"]


async def test_the_first_place_that_is_not_blank_wins(tmp_path):
    write(tmp_path / "SOUL.md", " \n\t\n")
    write(tmp_path / ".clawft" / "SOUL.md", "from the hidden folder")
    write(tmp_path / "USER.md", "from the top")
    write(tmp_path / ".clawft" / "USER.md", "never read")
    explained = await ContextBuilder(tmp_path).explain()
    assert "from the hidden folder" in explained.text and "from the top" in explained.text
    assert "never read" not in explained.text
    assert explained.problems == (f"{tmp_path / 'SOUL.md'}: empty",)
