"""Parsing of skills, from SKILL.md or from the older skill.json with prompt.md.

Published skills are written for other programs and violate the specification in small ways. Their valid parts are used,
and a note describes each problem; only a file without front matter or instructions is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.codec import decode_json
from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.context.front_matter import MAX_DEPTH, read_front_matter, split_front_matter
from clawft_trio.context.tool_grants import ToolGrant, parse_grants
from clawft_trio.errors import InvalidData, Problem

MAX_BYTES = 1 << 20
"""Largest size of SKILL.md, skill.json and prompt.md. The specification has no limit; this one bounds memory."""

MAX_NAME = 64
"""Characters of a name, by the specification. Up to 128 are accepted, with a note."""

MAX_DESCRIPTION = 1024
"""Characters of a description, by the specification. More are kept, and cut in the list of skills."""

# Looser than the specification, because published skills have names such as `Frontend Design`, `plugin:task`, `-2chat`.
_USABLE_NAME = re.compile(r"[\w-][\w .:&+,()'-]{0,127}\Z")

# The specification: lower case, digits and single hyphens inside.
_SPECIFIED_NAME = re.compile(r"[^\W_]+(?:-[^\W_]+)*\Z")

SkillFormat = Literal["skill_md", "legacy"]

Words: TypeAlias = tuple[str, ...]

_YES = frozenset({"true", "yes", "on", "y", "1"})
_NO = frozenset({"false", "no", "off", "n", "0", ""})


@attrs.frozen(kw_only=True)
class Skill:
    """A set of instructions for one kind of task."""

    #: name to load and to invoke it by
    name: str
    #: text for the model before it loads the skill
    description: str = ""
    #: version as its author states it
    version: str = ""
    #: names of the variables in its instructions
    variables: tuple[str, ...] = ()
    #: arguments to write after the name, for people
    argument_hint: str = ""
    #: tool calls that need no approval while it is in use; other tools stay allowed
    allowed_tools: tuple[ToolGrant, ...] = ()
    #: whether a message may start it with `/name`
    user_invocable: bool = True
    #: whether it is listed for the model, which may load it
    model_invocable: bool = True
    #: instructions for the model
    instructions: str = attrs.field(repr=False)
    #: `skill_md`, or `legacy` for skill.json with prompt.md
    format: SkillFormat = "skill_md"
    #: path of its file
    source: str
    #: `workspace`, `user` or `built-in`
    level: str = ""
    #: all other keys of its front matter
    metadata: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: repairs, and violations of the specification
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The folder of its file; the model may read the files there."""
        return os.path.dirname(self.source)

    def preapproves(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a call of *tool* with *arguments* needs no approval while this skill is in use."""
        return any(grant.covers(tool, arguments) for grant in self.allowed_tools)


_KNOWN = frozenset(
    {
        "name",
        "description",
        "version",
        "variables",
        "allowed_tools",
        "argument_hint",
        "user_invocable",
        "disable_model_invocation",
    }
)


def parse_skill_md(text: str, *, source: str, level: str = "") -> Skill:
    """Parse the text of a SKILL.md.

    Raises:
      InvalidData: it has no readable front matter, or consists of control tokens.
    """
    front, body = split_front_matter(text)
    read = read_front_matter(front)
    return _Maker(read.values, source, list(read.notes)).make(body, form="skill_md", level=level)


def parse_legacy(settings: str, prompt: str, *, source: str, level: str = "") -> Skill:
    """Parse the texts of a skill.json and its prompt.md.

    Raises:
      InvalidData: skill.json is not an object, is nested too deeply, or the texts consist of control tokens.
    """
    data = decode_json(settings)
    if not isinstance(data, dict):
        raise InvalidData([Problem("$", "not an object")])
    if _deeper_than(data, MAX_DEPTH):
        raise InvalidData([Problem("$", f"nested deeper than {MAX_DEPTH}")])
    return _Maker(data, source, []).make(prompt.replace("\r\n", "\n"), form="legacy", level=level)


class _Maker:
    """Makes a skill from the data of its file, with notes on repairs."""

    def __init__(self, data: Mapping[str, Any], source: str, notes: list[str]) -> None:
        self._source = source
        self._notes = notes
        self._known, self._other = self._sorted_out(data)

    def make(self, body: str, *, form: SkillFormat, level: str) -> Skill:
        instructions = self._cleaned(body).strip()
        grants = self._grants()
        return Skill(
            name=self._name(),
            description=self._description(instructions),
            version=self._text("version"),
            variables=self._words("variables"),
            argument_hint=self._text("argument_hint"),
            allowed_tools=grants,
            user_invocable=self._flag("user_invocable", default=True),
            model_invocable=not self._flag("disable_model_invocation", default=False),
            instructions=instructions,
            format=form,
            source=self._source,
            level=level,
            metadata=self._other,
            notes=tuple(self._notes),
        )

    def _sorted_out(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        known: dict[str, Any] = {}
        other: dict[str, Any] = {}
        for key, value in data.items():
            name = str(key).replace("-", "_").lower()
            if name in known:
                self._notes.append(f"$.{key}: given twice; the first counts")
            elif name in _KNOWN:
                known[name] = value
            else:
                other[str(key)] = value
        return known, other

    def _cleaned(self, text: str) -> str:
        cleaned = without_control_tokens(text)
        if not cleaned.clean:
            raise InvalidData([Problem("$", "made of control tokens")])
        if cleaned.removed:
            self._notes.append(f"{cleaned.removed} control tokens removed")
        return cleaned.text

    def _name(self) -> str:
        folder = os.path.basename(os.path.dirname(self._source))
        given = " ".join(self._text("name").split())
        name = given if is_usable_name(given) else folder
        if not is_usable_name(name):
            raise InvalidData([Problem("$.name", f"{(given or folder)[:80]!r} is not a name")])
        if not given:
            self._notes.append(f"$.name: missing; the folder's name {name!r} is used")
        elif name != given:
            self._notes.append(f"$.name: {given[:80]!r} is not a name; the folder's name {name!r} is used")
        elif len(name) > MAX_NAME or not _SPECIFIED_NAME.match(name) or name != name.lower():
            self._notes.append(f"$.name: {name!r} is not 1 to {MAX_NAME} lower-case letters, digits and single hyphens")
        elif folder != name:
            self._notes.append(f"$.name: {name!r} is not the name of its folder, {folder!r}")
        return name

    def _description(self, instructions: str) -> str:
        text = " ".join(self._cleaned(self._text("description")).split())
        if not text:
            text = _first_paragraph(instructions)
            self._notes.append("$.description: missing" + ("; the first paragraph is used" if text else ""))
        elif len(text) > MAX_DESCRIPTION:
            self._notes.append(f"$.description: {len(text)} characters are more than {MAX_DESCRIPTION}")
        return text

    def _grants(self) -> tuple[ToolGrant, ...]:
        given = self._known.get("allowed_tools", "")
        if isinstance(given, list):
            given = [word for word in given if isinstance(word, str)]
        elif not isinstance(given, str):
            self._notes.append("$.allowed-tools: expected a list of tools; ignored")
            return ()
        grants = parse_grants(given)
        unknown = [str(grant) for grant in grants if not grant.understood]
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            self._notes.append(f"$.allowed-tools: {unknown[0][:80]}{more} is not understood, and approves nothing")
        return grants

    def _text(self, name: str) -> str:
        value = self._known.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, bool | int | float):
            return str(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            # YAML reads `[task]` without quotes as a list, and most skills write `argument-hint: [task]`.
            return "[" + ", ".join(value) + "]" if name == "argument_hint" else " ".join(value)
        self._notes.append(f"$.{name}: expected text; ignored")
        return ""

    def _words(self, name: str) -> Words:
        value = self._known.get(name, [])
        if isinstance(value, str):
            return tuple(value.replace(",", " ").split())
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return tuple(word.strip() for word in value if word.strip())
        self._notes.append(f"$.{name}: expected a list of words; ignored")
        return ()

    def _flag(self, name: str, *, default: bool) -> bool:
        value = self._known.get(name, default)
        word = str(value).strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        self._notes.append(f"$.{name.replace('_', '-')}: expected true or false; {str(default).lower()} is used")
        return default


def is_usable_name(name: str) -> bool:
    """Whether *name* can be used in prompts and commands: words of letters, digits and plain marks, no path."""
    return _USABLE_NAME.match(name) is not None and ".." not in name and any(map(str.isalnum, name))


def _first_paragraph(text: str) -> str:
    """Return the first paragraph of Markdown *text* that is no heading, cut to the length of a description."""
    for paragraph in re.split(r"\n\s*\n", text[: 16 * MAX_DESCRIPTION]):
        lines = [line.strip() for line in paragraph.splitlines() if not line.lstrip().startswith(("#", "---", "```"))]
        if any(lines):
            return " ".join(" ".join(lines).split())[:MAX_DESCRIPTION]
    return ""


def _deeper_than(data: Any, depth: int) -> bool:
    level = [data]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(data: Any) -> Iterator[Any]:
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return (value for value in values if isinstance(value, dict | list))
