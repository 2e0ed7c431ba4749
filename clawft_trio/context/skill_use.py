"""Skills in use: their list for the model, their instructions filled in, and the calls that they pre-approve."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from clawft_trio.chat import Message
from clawft_trio.codec import decode_json
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skills import SkillReport
from clawft_trio.errors import InvalidData

LOAD_SKILL = "load_skill"
"""Name of the tool with which the model loads a skill."""

_LONGEST_DESCRIPTION = 1024
"""Characters; what the Agent Skills format allows."""

_PLACE = re.compile(r"\$ARGUMENTS\b|\$\{(\w+)\}|\{\{\s*(\w+)\s*\}\}|\{baseDir\}")

_FOLDER_VARIABLES = frozenset({"CLAUDE_SKILL_DIR", "SKILL_DIR"})
"""Names that published skills use for the folder of their SKILL.md."""

_COMMAND = re.compile(r"/(\S+)(?:\s+(.*))?\Z", re.DOTALL)


def listing(report: SkillReport, *, limit: int = 32_768) -> str:
    """The list in the system prompt: name and description of every skill that the model may load; empty without any.

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
    name if the skill declares it, `${CLAUDE_SKILL_DIR}` and `{baseDir}` its folder. A place without a value becomes
    empty; anything else of that shape is text. Values are not scanned again, so they cannot add places.
    """
    words = arguments.split()
    given = variables or {}

    def value(place: re.Match[str]) -> str:
        if place[0] == "{baseDir}" or place[1] in _FOLDER_VARIABLES:
            return skill.folder
        name = place[1] or place[2] or "ARGUMENTS"
        if name == "ARGUMENTS" and not place[2]:
            return arguments
        if name.isdecimal() and place[1]:
            return words[int(name) - 1] if 0 < int(name) <= len(words) else ""
        return given.get(name, "") if name in skill.variables else place[0]

    return _PLACE.sub(value, skill.instructions)


def presented(skill: Skill, arguments: str = "", variables: Mapping[str, str] | None = None) -> str:
    """*skill* filled in and under its heading, as the model reads it, with the folder that its files are in."""
    files = (
        f"Its folder: {skill.folder}\nPaths in these instructions are relative to that folder. Its files can be read "
        "by their absolute paths."
    )
    return f"# Skill: {skill.name}\n\n{rendered(skill, arguments, variables)}\n\n{files}"


def invoked(report: SkillReport, text: str) -> tuple[Skill, str] | None:
    """The skill that a user's message starts with `/name`, and the arguments after it; None when it starts none."""
    command = _COMMAND.match(text.strip())
    if command is None:
        return None
    skill = _named(report, command[1])
    if skill is not None:
        return skill, (command[2] or "").strip()
    # Names with spaces are not in the specification and are published all the same.
    rest = text.strip()[1:]
    for one in sorted(report.skills, key=lambda one: -len(one.name)):
        if " " in one.name and one.user_invocable and rest.lower().startswith(one.name.lower()):
            after = rest[len(one.name) :]
            if not after or after[0].isspace():
                return one, after.strip()
    return None


def _named(report: SkillReport, word: str) -> Skill | None:
    """The skill that users may invoke as *word*: by its exact name, else by one that differs in case only."""
    exact = report.get(word)
    if exact is not None:
        return exact if exact.user_invocable else None
    return next((one for one in report.skills if one.user_invocable and one.name.lower() == word.lower()), None)


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
class Preapproval:
    """The skills in use, and the calls that they approve in advance. It refuses nothing."""

    skills: tuple[Skill, ...] = ()

    def approves(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a skill in use pre-approves a call of *tool* with *arguments*."""
        return any(skill.preapproves(tool, arguments) for skill in self.skills)


def preapproval(report: SkillReport, messages: Sequence[Message]) -> Preapproval:
    """The calls that the skills in use in *messages* approve, to be asked before each tool call of a turn.

    *messages* include the assistant's message with the calls in question: a skill that is loaded beside a call does
    not yet approve it, for the model had not read it.
    """
    before = messages[:-1] if messages and messages[-1].role == "assistant" else messages
    return Preapproval(skills=tuple(skill for skill in in_use(report, before) if skill.allowed_tools))
