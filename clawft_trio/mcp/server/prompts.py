"""Prompts: messages with parameters, offered to a person (slash commands and the like)."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.server.resources import Complete, call_function, converted
from clawft_trio.mcp.types import Prompt, PromptArgument
from clawft_trio.tools.docstring import read_docstring
from clawft_trio.tools.tool import ToolContext

Fill: TypeAlias = Callable[[Mapping[str, str], ToolContext], Awaitable[object]]
"""Fills in a prompt; returns text, a content block, a `PromptMessage`, or several of these."""


@attrs.frozen(kw_only=True)
class ServedPrompt:
    """A prompt and the function that fills it in."""

    name: str
    fill: Fill = attrs.field(repr=False)
    title: str | None = None
    description: str | None = None
    arguments: tuple[PromptArgument, ...] = ()
    #: 0 zero trust, 1 user, 2 admin
    required_level: int = 0
    #: completion functions by argument name
    complete: Mapping[str, Complete] = attrs.field(factory=dict, repr=False)

    @property
    def definition(self) -> Prompt:
        """The definition that lists contain."""
        return Prompt(name=self.name, title=self.title, description=self.description, arguments=self.arguments or None)

    def check(self, given: Mapping[str, str]) -> None:
        """Check that *given* has the arguments of this prompt.

        Raises:
          PeerError: an argument is missing or unknown.
        """
        missing = [one.name for one in self.arguments if one.required and one.name not in given]
        unknown = [name for name in given if name not in {one.name for one in self.arguments}]
        if missing or unknown:
            what = f"missing argument {missing[0]!r}" if missing else f"unknown argument {unknown[0][:60]!r}"
            raise PeerError(what, code=INVALID_PARAMS)


def prompt_of(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    required_level: int = 0,
    complete: Mapping[str, Complete] | None = None,
) -> ServedPrompt:
    """Return a prompt for a function: its parameters are the arguments, one may be a `ToolContext`.

    Arguments are text on the wire and are converted to the hints. Arguments of a `Literal` type have completions.
    """
    hints = typing.get_type_hints(function)
    text, notes = read_docstring(inspect.getdoc(function) or "")
    parameters = inspect.signature(function).parameters.values()
    context = next((one.name for one in parameters if hints.get(one.name) is ToolContext), None)
    blanks = [one for one in parameters if one.name != context]

    async def fill(given: Mapping[str, str], in_context: ToolContext) -> object:
        arguments = converted(given, hints)
        if context is not None:
            arguments[context] = in_context
        return await call_function(function, arguments)

    return ServedPrompt(
        name=name or function.__name__,
        fill=fill,
        title=title,
        description=text if description is None else description,
        arguments=tuple(
            PromptArgument(name=one.name, description=notes.get(one.name), required=one.default is one.empty)
            for one in blanks
        ),
        required_level=required_level,
        complete={
            **{one.name: _among(values) for one in blanks if (values := _literals(hints.get(one.name)))},
            **(complete or {}),
        },
    )


def _literals(hint: Any) -> tuple[str, ...]:
    return tuple(map(str, typing.get_args(hint))) if typing.get_origin(hint) is Literal else ()


def _among(values: Sequence[str]) -> Complete:
    return lambda typed, _: [value for value in values if value.startswith(typed)]
