"""Skills as an agent uses them: their files, their approvals, and `/name`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judged import ScriptedProvider

from clawft_trio import open_agent, parse_config, tool
from clawft_trio.testing import CallTool, Finish, Say
from clawft_trio.tools import ApprovalRequest
from tests.context.skill_files import write, write_skill


@tool(mode="mutating")
async def run_command(argv: list[str]) -> str:
    """Run a command."""
    return "ran " + " ".join(argv)


@pytest.mark.parametrize(
    ("path", "outcome", "text"),
    [
        ("{skill}/reference.md", "ok", "Use pypdf."),
        ("{skill}/references/forms.md", "ok", "Fill it."),
        ("{skill}/SKILL.md", "ok", "See reference.md"),
        ("{skill}/../secret.txt", "refused", ""),
        ("{skill}/references/../../secret.txt", "refused", ""),
        ("{skill}/link.txt", "refused", ""),
        ("{skill}-other/a.txt", "refused", ""),
        ("{root}/secret.txt", "refused", ""),
        ("{root}", "refused", ""),
        ("/etc/passwd", "refused", ""),
        ("{skill}/missing.md", "error", "not found"),
    ],
)
async def test_files_beside_a_skill_can_be_read_and_nothing_else(
    tmp_path: Path, path: str, outcome: str, text: str
) -> None:
    root, workspace = tmp_path / "skills", tmp_path / "workspace"
    workspace.mkdir()
    write_skill(root, "pdf", "See reference.md")
    write(root / "pdf" / "reference.md", "Use pypdf.")
    write(root / "pdf" / "references" / "forms.md", "Fill it.")
    write(root / "secret.txt", "secret")
    write(root / "pdf-other" / "a.txt", "secret")
    (root / "pdf" / "link.txt").symlink_to(root / "secret.txt")
    path = path.format(skill=root / "pdf", root=root)
    model = ScriptedProvider([CallTool("read_file", {"path": path}), Finish()], [Say("done"), Finish()])
    config = parse_config(json.dumps({"skills": {"user": str(root)}}))
    async with open_agent(["s/m"], providers={"s": model}, workspace=workspace, config=config) as agent:
        reply = await agent.ask("q")
    assert (reply.tools[0].outcome, text in reply.tools[0].text) == (outcome, True)
    assert "secret" not in reply.tools[0].text.replace("secret.txt", "")


async def test_a_file_of_a_skill_cannot_be_written(tmp_path: Path) -> None:
    root, workspace = tmp_path / "skills", tmp_path / "workspace"
    workspace.mkdir()
    write_skill(root, "pdf")
    target = root / "pdf" / "SKILL.md"
    before = target.read_text()
    calls = [
        CallTool("write_file", {"path": str(target), "content": "mine"}),
        CallTool("edit_file", {"path": str(target), "old_text": "Do it.", "new_text": "mine"}),
    ]
    model = ScriptedProvider([*calls, Finish()], [Say("done"), Finish()])
    config = parse_config(json.dumps({"skills": {"user": str(root)}, "tools": {"unapproved": True}}))
    async with open_agent(["s/m"], providers={"s": model}, workspace=workspace, config=config) as agent:
        reply = await agent.ask("q")
    assert [result.outcome for result in reply.tools] == ["refused", "refused"] and target.read_text() == before


async def test_a_skill_in_use_approves_its_calls_and_leaves_the_others_to_the_user(tmp_path: Path) -> None:
    root, workspace = tmp_path / "skills", tmp_path / "workspace"
    workspace.mkdir()
    write_skill(root, "git-helper", allowed_tools="Bash(git:*) Read")
    asked: list[object] = []

    async def approve(request: ApprovalRequest) -> bool | str:
        asked.append(request.arguments["argv"])
        return "not today"

    log, remove = CallTool("run_command", {"argv": ["git", "log"]}), CallTool("run_command", {"argv": ["rm", "x"]})
    model = ScriptedProvider(
        [log, Finish()],
        [CallTool("load_skill", {"name": "git-helper"}), Finish()],
        [log, remove, Finish()],
        [Say("done"), Finish()],
    )
    config = parse_config(json.dumps({"skills": {"user": str(root)}}))
    async with open_agent(
        ["s/m"], providers={"s": model}, tools=[run_command], workspace=workspace, config=config, approve=approve
    ) as agent:
        reply = await agent.ask("q")
    assert asked == [["git", "log"], ["rm", "x"]]
    assert [result.outcome for result in reply.tools] == ["refused", "ok", "ok", "refused"]


LOAD = CallTool("load_skill", {"name": "git-helper"})
LOG = CallTool("run_command", {"argv": ["git", "log"]})
UNREAD = {
    "loaded beside the call": [[LOAD, LOG, Finish()]],
    "loaded with wrong arguments": [
        [CallTool("load_skill", {"name": "git-helper", "x": 1}), Finish()],
        [LOG, Finish()],
    ],
    "loaded by an answer that was cut off": [[LOAD, Finish("length")], [LOG, Finish()]],
    "not there": [[CallTool("load_skill", {"name": "git_helper"}), Finish()], [LOG, Finish()]],
    "loaded under the id of a call that succeeded": [
        [CallTool("note", {}, id="a"), Finish()],
        [CallTool("load_skill", {"name": "git-helper", "x": 1}, id="a"), Finish()],
        [LOG, Finish()],
    ],
    "loaded in an earlier turn": [[LOAD, Finish()], [Say("loaded"), Finish()], [LOG, Finish()]],
}


@pytest.mark.parametrize("rounds", UNREAD.values(), ids=UNREAD)
async def test_a_skill_that_the_model_has_not_read_in_this_turn_approves_nothing(tmp_path: Path, rounds: list) -> None:
    @tool(mode="mutating")
    async def note() -> str:
        return "noted"

    asked: list[str] = []

    async def approve(request: ApprovalRequest) -> bool:
        asked.append(request.tool.name)
        return request.tool.name == "note"

    (tmp_path / "workspace").mkdir()
    write_skill(tmp_path / "skills", "git-helper", allowed_tools="Bash(git:*)")
    config = parse_config(json.dumps({"skills": {"user": str(tmp_path / "skills")}}))
    model = ScriptedProvider(*rounds, [Say("done"), Finish()])
    async with open_agent(
        ["s/m"],
        providers={"s": model},
        tools=[run_command, note],
        workspace=tmp_path / "workspace",
        config=config,
        approve=approve,
    ) as agent:
        while (reply := await agent.ask("q", session="s")).text != "done":
            pass
    assert asked[-1] == "run_command"
    assert (reply.tools[-1].name, reply.tools[-1].outcome) == ("run_command", "refused")


@pytest.mark.parametrize(
    ("text", "loaded"),
    [("/pdf fill form.pdf", True), ("/PDF x", True), ("/pdf", True), ("/hidden x", False), ("/pdfs x", False)],
)
async def test_a_message_starts_every_skill_that_users_may_invoke(tmp_path: Path, text: str, loaded: bool) -> None:
    root, workspace = tmp_path / "skills", tmp_path / "workspace"
    workspace.mkdir()
    write_skill(root, "pdf", "Use pypdf.")
    write_skill(root, "hidden", "Use pypdf.", user_invocable=False)
    model = ScriptedProvider.saying("ok")
    config = parse_config(json.dumps({"skills": {"user": str(root)}}))
    async with open_agent(["s/m"], providers={"s": model}, workspace=workspace, config=config) as agent:
        await agent.ask(text)
    assert ("Use pypdf." in model.requests[0].messages[-1].text) is loaded
