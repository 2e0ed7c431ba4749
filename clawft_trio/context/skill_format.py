"""What a skill is, and how it is read from SKILL.md or from the older skill.json with prompt.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs
import cattrs

from clawft_trio.auth import matches_any
from clawft_trio.codec import decode_json, make_converter, structure
from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.context.front_matter import MAX_DEPTH, parse_front_matter, split_front_matter
from clawft_trio.errors import InvalidData, Problem

MAX_BYTES = 50 * 1024
"""Size of SKILL.md, of skill.json and of prompt.md; the original's limit, which it applied to the first only."""

_NAME = re.compile(r"\w[\w.:-]{0,63}\Z")

SkillFormat = Literal["skill_md", "legacy"]

Words: TypeAlias = tuple[str, ...]

# `Bash(git:*)` is one word. The bound keeps the search linear in a text full of opening brackets.
_WORD = re.compile(r"[^\s,(]+(?:\([^()]{0,200}\))?|\(")

_ELSEWHERE: Mapping[str, str] = {
    "Bash": "run_command",
    "Glob": "search_files",
    "Grep": "search_files",
    "Edit": "edit_file",
    "LS": "list_directory",
    "Read": "read_file",
    "WebFetch": "web_fetch",
    "WebSearch": "web_search",
    "Write": "write_file",
}
"""Names that published skills use for the same tools."""


@attrs.frozen(kw_only=True)
class Skill:
    """A set of instructions for one kind of task."""

    #: as it is loaded and invoked
    name: str
    #: what the model is shown before it loads the skill
    description: str = ""
    #: as its author numbers it
    version: str = ""
    #: names of the variables that its instructions contain
    variables: tuple[str, ...] = ()
    #: what to write after its name, for people
    argument_hint: str = ""
    #: patterns of the tools that may be called while it is in use; empty does not restrict
    allowed_tools: tuple[str, ...] = ()
    #: whether a message may start it with `/name`
    user_invocable: bool = False
    #: whether the model is told of it and may load it
    model_invocable: bool = True
    #: what the model follows
    instructions: str = attrs.field(repr=False)
    #: `skill_md`, or `legacy` for skill.json with prompt.md
    format: SkillFormat = "skill_md"
    #: the file it was read from
    source: str
    #: `workspace`, `user` or `built-in`
    level: str = ""
    #: all other keys of its front matter
    metadata: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: what was changed or cannot be honoured, for the report
    notes: tuple[str, ...] = ()

    def allows_tool(self, name: str) -> bool:
        """Whether the tool called *name* may be called while this skill is in use."""
        return not self.allowed_tools or matches_any(name, self.allowed_tools)


@attrs.frozen(kw_only=True)
class _Fields:
    """The keys that are understood, with hyphens as underscores."""

    name: str
    description: str = ""
    version: str = ""
    variables: Words = ()
    allowed_tools: Words = ()
    argument_hint: str = ""
    user_invocable: bool = False
    disable_model_invocation: bool = False


_KNOWN = frozenset(field.name for field in attrs.fields(_Fields))


def parse_skill_md(text: str, *, source: str, level: str = "") -> Skill:
    """A skill from the text of its SKILL.md.

    Raises:
      InvalidData: with everything that is wrong with it.
    """
    front, body = split_front_matter(text)
    return _made(parse_front_matter(front), body, form="skill_md", source=source, level=level)


def parse_legacy(settings: str, prompt: str, *, source: str, level: str = "") -> Skill:
    """A skill from the texts of its skill.json and its prompt.md.

    Raises:
      InvalidData: with everything that is wrong with it.
    """
    data = decode_json(settings)
    if not isinstance(data, dict):
        raise InvalidData([Problem("$", "not an object")])
    if _deeper_than(data, MAX_DEPTH):
        raise InvalidData([Problem("$", f"nested deeper than {MAX_DEPTH}")])
    return _made(data, prompt.replace("\r\n", "\n"), form="legacy", source=source, level=level)


def checked_name(name: str, place: str = "$.name") -> str:
    """*name*, which becomes part of paths, prompts and commands.

    Raises:
      InvalidData: it is not 1 to 64 letters, digits and `. _ : -`, or it contains `..`.
    """
    if not _NAME.match(name) or ".." in name:
        raise InvalidData([Problem(place, f"{name[:80]!r} is not a name: letters, digits and . _ : - only, no ..")])
    return name


def _made(data: Mapping[str, Any], body: str, *, form: SkillFormat, source: str, level: str) -> Skill:
    known, other = _sorted_out(data)
    fields = structure(known, _Fields, converter=_CONVERTER)
    description, instructions = without_control_tokens(fields.description), without_control_tokens(body)
    if not (description.clean and instructions.clean):
        raise InvalidData([Problem("$", "made of control tokens")])
    tools, unknown = _tool_patterns(fields.allowed_tools)
    removed = description.removed + instructions.removed
    notes = [f"{removed} control tokens taken out"] if removed else []
    if unknown:
        others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        notes.append(f"$.allowed-tools: {unknown[0][:80]}{others} limits arguments, which allows nothing here")
    return Skill(
        name=checked_name(fields.name),
        description=" ".join(description.text.split()),
        version=fields.version,
        variables=fields.variables,
        argument_hint=fields.argument_hint,
        allowed_tools=tools,
        user_invocable=fields.user_invocable,
        model_invocable=not fields.disable_model_invocation,
        instructions=instructions.text.strip(),
        format=form,
        source=source,
        level=level,
        metadata=other,
        notes=tuple(notes),
    )


def _sorted_out(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in known:
            raise InvalidData([Problem(f"$.{key}", "given twice")])
        if name in _KNOWN:
            known[name] = value
        else:
            other[str(key)] = value
    return known, other


def _tool_patterns(words: Words) -> tuple[tuple[str, ...], list[str]]:
    """The patterns that *words* stand for, and those words that cannot be honoured by a tool's name alone."""
    unknown = [word for word in words if "(" in word]
    patterns = tuple(_ELSEWHERE.get(word, word) for word in words)
    # What cannot be honoured stays in the list, where it matches no tool: a skill that asked to be restricted is.
    return patterns, unknown


def _deeper_than(data: Any, depth: int) -> bool:
    level = [data]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(data: Any) -> Iterator[Any]:
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return (value for value in values if isinstance(value, dict | list))


def _yes_or_no(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise TypeError("expected true or false")


def _words(value: Any, _: Any) -> Words:
    """A list of words, also written as one text with spaces or commas between them."""
    if isinstance(value, str):
        return tuple(_WORD.findall(value))
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(word.strip() for word in value if word.strip())
    raise TypeError("expected a list of words")


def _make_converter() -> cattrs.Converter:
    converter = make_converter()
    converter.register_structure_hook(bool, _yes_or_no)
    converter.register_structure_hook_func(lambda kind: kind == Words, _words)
    return converter


_CONVERTER = _make_converter()
