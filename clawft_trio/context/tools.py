"""Tools for the model's use of skills and memory."""

from __future__ import annotations

from clawft_trio.context.memory import Memory
from clawft_trio.context.skill_use import LOAD_SKILL, presented
from clawft_trio.context.skills import SkillReport, Skills
from clawft_trio.errors import InvalidArguments, InvalidData, ToolFailed
from clawft_trio.similar import closest
from clawft_trio.tools.tool import Tool, ToolContext, tool

_TOTAL = 30.0
"""Seconds for a call. Reading a few files takes milliseconds; a call on a mount that hangs has to end."""


def skill_tool(skills: Skills) -> Tool:
    """Make the tool that loads one of *skills*."""

    @tool(name=LOAD_SKILL, mode="read_only", total=_TOTAL)
    async def load_skill(name: str, arguments: str = "", variables: dict[str, str] | None = None) -> str:
        """Load the instructions of a skill. Follow them from then on, for the task that they are for.

        Args:
          name: the skill, as listed.
          arguments: what the skill is to work on, where its instructions ask for arguments.
          variables: values of the variables that the skill declares.
        """
        report = await skills.load()
        skill = report.get(name)
        if skill is None or not skill.model_invocable:
            raise ToolFailed(f"there is no skill {name!r}{_meant(name, report)}", tool=LOAD_SKILL)
        return presented(skill, arguments, variables)

    return load_skill


def memory_tools(memory: Memory) -> tuple[Tool, ...]:
    """Make the tools that read, search and extend *memory*, for the sender of the turn."""

    @tool(mode="read_only", total=_TOTAL)
    async def memory_read(context: ToolContext) -> str:
        """Read all notes from earlier conversations."""
        remembered = await memory.read(context.auth.identity)
        if remembered.problems and not remembered.text:
            raise ToolFailed("; ".join(remembered.problems), tool="memory_read")
        return remembered.text or "There are no notes yet."

    @tool(mode="read_only", total=_TOTAL)
    async def memory_search(query: str, context: ToolContext, limit: int = 10) -> str:
        """Find notes from earlier conversations, newest first.

        Args:
          query: words that all have to be in a note; case does not count.
          limit: how many notes at most.
        """
        found = await memory.search(query, context.auth.identity, limit=limit)
        return "\n\n".join(found) or "No note has all of these words."

    @tool(mode="mutating", total=_TOTAL)
    async def memory_append(entry: str, context: ToolContext) -> str:
        """Note something for later conversations: a fact, a preference, a decision.

        Args:
          entry: a few lines that make sense on their own.
        """
        try:
            kept = await memory.append(entry, context.auth.identity)
        except InvalidData as exc:
            raise InvalidArguments(exc.problems, tool="memory_append") from exc
        return f"Noted: {kept}"

    return memory_read, memory_search, memory_append


def _meant(name: str, report: SkillReport) -> str:
    offered = [skill.name for skill in report.skills if skill.model_invocable]
    close = closest(name, offered, most=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
