"""Using skills: what the model is told of them, how one is filled in, and what it allows while it is in use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from clawft_trio.auth import matches_any
from clawft_trio.chat import Message
from clawft_trio.codec import decode_json
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skills import SkillReport
from clawft_trio.errors import InvalidData

LOAD_SKILL = "load_skill"
"""Name of the tool with which the model loads a skill."""

_LONGEST_DESCRIPTION = 1024
"""Characters; what the Agent Skills format allows."""

_PLACE = re.compile(r"\$ARGUMENTS\b|\$\{(\w+)\}|\{\{\s*(\w+)\s*\}\}")

_COMMAND = re.compile(r"/(\S+)(?:\s+(.*))?\Z", re.DOTALL)


def listing(report: SkillReport, *, limit: int = 32_768) -> str:
    """What the model is told: the name and description of every skill that it may load; empty when there is none.

    Args:
      report: the skills that there are.
      limit: characters. Names come without their descriptions once half of it is used, and end when all of it is.
    """
    lines: list[str] = []
    used = 0
    offered = [skill for skill in report.skills if skill.model_invocable]
    for skill in offered:
        line = f"- {skill.name}"
        if skill.description and used < limit // 2:
            line += f": {skill.description[:_LONGEST_DESCRIPTION]}"
        used += len(line) + 1
        if used > limit:
            lines.append(f"- and {len(offered) - len(lines)} more that do not fit here")
            break
        lines.append(line)
    return "\n".join(lines)


def rendered(skill: Skill, arguments: str = "", variables: Mapping[str, str] | None = None) -> str:
    """The instructions of *skill*, filled in.

    `$ARGUMENTS` is all of *arguments*, `${1}` its first word and so on, `${name}` and `{{name}}` the variable of that
    name if the skill declares it. What has no value becomes empty; anything else that looks alike is text. Values
    are not looked at again, so they cannot bring in places of their own.
    """
    words = arguments.split()
    given = variables or {}

    def value(place: re.Match[str]) -> str:
        name = place[1] or place[2] or "ARGUMENTS"
        if name == "ARGUMENTS" and not place[2]:
            return arguments
        if name.isdecimal() and place[1]:
            return words[int(name) - 1] if 0 < int(name) <= len(words) else ""
        return given.get(name, "") if name in skill.variables else place[0]

    return _PLACE.sub(value, skill.instructions)


def presented(skill: Skill, arguments: str = "", variables: Mapping[str, str] | None = None) -> str:
    """*skill* filled in and under its heading, as the model reads it."""
    allowed = f"\n\nOnly these tools may be called: {', '.join(skill.allowed_tools)}." if skill.allowed_tools else ""
    return f"# Skill: {skill.name}\n\n{rendered(skill, arguments, variables)}\n\nIts file: {skill.source}{allowed}"


def invoked(report: SkillReport, text: str) -> tuple[Skill, str] | None:
    """The skill that a user's message starts with `/name`, and the arguments after it; None when it starts none."""
    command = _COMMAND.match(text.strip())
    skill = report.get(command[1]) if command else None
    if command is None or skill is None or not skill.user_invocable:
        return None
    return skill, (command[2] or "").strip()


def in_use(report: SkillReport, messages: Sequence[Message]) -> tuple[Skill, ...]:
    """The skills of the current turn: those that the last user message started or the model has loaded since."""
    start = max((number for number, message in enumerate(messages) if message.role == "user"), default=0)
    found: dict[str, Skill] = {}
    for message in messages[start:]:
        command = invoked(report, message.text) if message.role == "user" else None
        if command is not None:
            found[command[0].name] = command[0]
        for name in _loaded(message):
            skill = report.get(name)
            if skill is not None and skill.model_invocable:
                found[name] = skill
    return tuple(found.values())


def _loaded(message: Message) -> Iterable[str]:
    for call in message.tool_calls:
        if call.name == LOAD_SKILL:
            try:
                arguments = decode_json(call.arguments)
            except InvalidData:
                continue
            name = arguments.get("name") if isinstance(arguments, dict) else None
            if isinstance(name, str):
                yield name


@attrs.frozen(kw_only=True)
class ToolRestriction:
    """What the skills in use leave of the tools. A sender's own permissions come on top."""

    #: names of the skills in use that restrict
    skills: tuple[str, ...] = ()
    #: patterns of the tools that they allow together
    patterns: tuple[str, ...] = ()

    def allows(self, tool: str) -> bool:
        """Whether the tool called *tool* may be called. Loading a skill always may."""
        return not self.skills or tool == LOAD_SKILL or matches_any(tool, self.patterns)

    def refusal(self, tool: str) -> str:
        """Why *tool* may not be called, for the model."""
        return f"{tool} may not be called while using {', '.join(self.skills)}; allowed: {', '.join(self.patterns)}"


def restriction(report: SkillReport, messages: Sequence[Message]) -> ToolRestriction:
    """What the skills in use in *messages* allow, to be asked before each tool call of a turn.

    *messages* include the assistant's message with the calls in question. A skill without `allowed-tools` allows
    nothing that another one in use does not: else loading it would be the way around.
    """
    restricting = [skill for skill in in_use(report, messages) if skill.allowed_tools]
    patterns = dict.fromkeys(pattern for skill in restricting for pattern in skill.allowed_tools)
    return ToolRestriction(skills=tuple(skill.name for skill in restricting), patterns=tuple(patterns))
