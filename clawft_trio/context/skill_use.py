"""Skills in use: their list for the model, their instructions with arguments, and the calls that they pre-approve."""

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
"""Characters, by the Agent Skills format."""

_PLACE = re.compile(r"\$ARGUMENTS\b|\$\{(\w+)\}|\{\{\s*(\w+)\s*\}\}|\{baseDir\}")

_FOLDER_VARIABLES = frozenset({"CLAUDE_SKILL_DIR", "SKILL_DIR"})
"""Names that published skills use for the folder of their SKILL.md."""

_COMMAND = re.compile(r"/(\S+)(?:\s+(.*))?\Z", re.DOTALL)


def listing(report: SkillReport, *, limit: int = 32_768) -> str:
    """Return the list for the system prompt: name and description of every skill that the model may load.

    Args:
      report: the known skills.
      limit: characters. After half of it, names have no descriptions; after all of it, the list ends.
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
    """Return the instructions of *skill* with arguments and variables filled in.

    `$ARGUMENTS` is all of *arguments*, `${1}` its first word and so on, `${name}` and `{{name}}` the variable of that
    name if the skill declares it, `${CLAUDE_SKILL_DIR}` and `{baseDir}` its folder. A placeholder without a value
    becomes empty; other text of that form stays. Values are not scanned again, so they cannot add placeholders.
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
    """Return *skill* as the model gets it: heading, instructions with arguments, and the folder of its files."""
    files = (
        f"Its folder: {skill.folder}\nPaths in these instructions are relative to that folder. Its files can be read "
        "by their absolute paths."
    )
    return f"# Skill: {skill.name}\n\n{rendered(skill, arguments, variables)}\n\n{files}"


def invoked(report: SkillReport, text: str) -> tuple[Skill, str] | None:
    """Return the skill that a message starts with `/name`, and the arguments after it; None without one."""
    command = _COMMAND.match(text.lstrip())
    if command is None:
        return None
    skill = _named(report, command[1])
    if skill is not None:
        return skill, (command[2] or "").strip()
    # The specification forbids spaces in names, but published skills have them.
    rest = text.strip()[1:]
    for one in sorted(report.skills, key=lambda one: -len(one.name)):
        if " " in one.name and one.user_invocable and rest.lower().startswith(one.name.lower()):
            after = rest[len(one.name) :]
            if not after or after[0].isspace():
                return one, after.strip()
    return None


def _named(report: SkillReport, word: str) -> Skill | None:
    """Return the skill that users may invoke as *word*: by its exact name, else by a name that differs only in case."""
    exact = report.get(word)
    if exact is not None:
        return exact if exact.user_invocable else None
    return next((one for one in report.skills if one.user_invocable and one.name.lower() == word.lower()), None)


def in_use(report: SkillReport, messages: Sequence[Message]) -> tuple[Skill, ...]:
    """Return the skills of the current turn: started by the last user message, or loaded by the model since."""
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
    """The skills in use, and the calls that they pre-approve. It refuses nothing."""

    skills: tuple[Skill, ...] = ()

    def approves(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a skill in use pre-approves a call of *tool* with *arguments*."""
        return any(skill.preapproves(tool, arguments) for skill in self.skills)


def preapproval(report: SkillReport, messages: Sequence[Message]) -> Preapproval:
    """Return the calls that the skills in use in *messages* pre-approve; call it before each tool call of a turn.

    *messages* include the assistant's message with the calls: a skill that is loaded beside a call does not approve it
    yet, because the model had not read the skill.
    """
    before = messages[:-1] if messages and messages[-1].role == "assistant" else messages
    return Preapproval(skills=tuple(skill for skill in in_use(report, before) if skill.allowed_tools))
