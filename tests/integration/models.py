"""What the models of a world say: answers that repeat what they were asked, calls of tools, and all ways to break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from integration.conversations import LOST, Line, asked, faults
from integration.world import World

from clawft_trio import Usage
from clawft_trio.errors import AuthFailed, RateLimited, ServerError, TransportFailed
from clawft_trio.llm.conform import NO_RESULT
from clawft_trio.testing import (
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fail,
    Finish,
    Hang,
    ResetConnection,
    Say,
    Status,
    Think,
    Wait,
)

_MOST_TOOLS = 4
"""Tool answers after which a model of this world comes to an end."""


def script(world: World, lines: Sequence[Line], *, typed: bool, wire: bool = False) -> list[Any]:
    """What a model does with a conversation: answers, asks for tools, or breaks."""
    last = max((number for number, line in enumerate(lines) if line.role == "user"), default=0)
    for fault in faults(lines):
        world.accounting.expect(False, "a model was shown", fault)
    # The calls of stopped turns are given answers on the way to a model; those of this turn have their own.
    mended = [line for line in lines[last:] if line.text == NO_RESULT]
    world.accounting.expect(not mended, "a model was shown no answer:", mended)
    if world.maybe(0.3):
        broken = _break(world, wire=wire)
        # A status comes before any words.
        return broken if broken and isinstance(broken[0], Status) else [*_words(world, LOST), *broken]
    finish = Finish(usage=_usage(world) if world.maybe(0.7) else None)
    used = sum(line.role == "tool" for line in lines[last:])
    if used < _MOST_TOOLS and world.maybe(0.4):
        return [*_words(world), *_calls(world), finish]
    if typed and not world.maybe(0.5):
        return [Say('{"ok": true}'), finish]
    return [*_words(world), Say(f"[{asked(lines)}] done."), finish]


def _usage(world: World) -> Usage:
    return Usage(input_tokens=world.chance.randrange(1, 2000), output_tokens=world.chance.randrange(1, 500))


def _words(world: World, word: str = "so ") -> Iterator[Any]:
    for _ in range(world.chance.randrange(4)):
        yield Wait(world.chance.choice([0.0, 0.2, 1.0, 3.0]) * world.unit)
        yield world.chance.choice([Say(word), Say(word), Think("hm ")])


def _break(world: World, *, wire: bool) -> list[Any]:
    ends: list[list[Any]] = [[Hang()], [CallTool("look", '{"pla')]]
    if wire:
        ends += [[ResetConnection()], [CloseConnection()], [EndBody()], [ErrorEvent("overloaded_error", status=529)]]
        ends += [[Status(500)], [Status(429, retry_after=world.unit)], [Status(503)]]
    else:
        errors = [
            ServerError("down"),
            RateLimited("slow down", retry_after=2.0),
            TransportFailed("reset"),
            AuthFailed("no"),
        ]
        ends += [[], *([Fail(error)] for error in errors)]
    return world.chance.choice(ends)


def _calls(world: World) -> Iterator[CallTool]:
    ids = [world.new_call_id() for _ in range(world.chance.randrange(1, 5))]
    if world.maybe(world.deaths):
        yield CallTool("far__die", {"code": 3}, id=ids[0])
        return
    for id_ in ids:
        kinds: list[tuple[str, Any]] = [
            ("look", {"place": id_}), ("look", {}), ("fails", {}), ("slow", {}), ("reckon", {"n": 3}),
            ("note", {"path": "a", "text": "x"}), ("note", {"path": "a", "text": "x"}),
            ("note", {"path": "a/b", "text": "x"}), ("no_such_tool", {}), ("far__nonsense", {}),
            ("far__echo", {"text": id_}),
            ("far__sleep", {"seconds": world.chance.choice([0.0, 1.0, 30.0]) * world.unit}),
            ("write_file", {"path": "notes/a.txt", "content": "x"}), ("read_file", {"path": "notes/a.txt"}),
        ]  # fmt: skip
        name, arguments = world.chance.choice(kinds)
        yield CallTool(name, arguments, id=id_)
