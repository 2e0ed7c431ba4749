"""Secrets that are planted in a configuration, and everything that an agent shows while it uses them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
import trio

from clawft_trio import open_agent
from clawft_trio.agent import Agent
from clawft_trio.config import Config
from clawft_trio.errors import ClawftError
from clawft_trio.observe import Observer, Recorder, chrome_trace, open_recording, spans_of, timeline_html

MARK = "hunter2Zq9x"
_NUMBERS = count(100)


def secret() -> str:
    return f"{MARK}{next(_NUMBERS)}"


def told(exc: BaseException) -> str:
    """All that a program can print of *exc*, the locals of every frame included, but for those of these tests."""
    rendered = traceback.TracebackException.from_exception(exc, capture_locals=True)
    waiting = [rendered]
    while waiting:
        one = waiting.pop()
        for frame in one.stack:
            if Path(frame.filename).parent == Path(__file__).parent:
                frame.locals = None
        waiting += [inner for inner in (one.__cause__, one.__context__, *(one.exceptions or ())) if inner is not None]
    return f"{exc} {exc!r} {''.join(rendered.format())}"


async def echo(conversation) -> None:
    """Answer with what was asked, as some gateways do; the interesting part lies across every cut."""
    while (asked := await conversation.request()) is not None:
        message = f"{'x' * 1900} {asked[0].decode(errors='replace')}"
        body = json.dumps({"error": {"message": message}}).encode()
        head = f"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await conversation.send(head.encode() + body)


async def shown_of_a_failed_question(
    config: Config,
    folder: Path,
    *,
    models: Sequence[str],
    failing_servers: int,
    observers: Sequence[Observer],
    while_open: Callable[[Agent], None] = lambda _: None,
) -> dict[str, str]:
    """Ask an agent with *config* when so many of its MCP servers have failed; all that it shows, by where."""
    seen, out = Recorder(), {}
    async with open_recording(folder / "r.jsonl") as record:
        watching = [*observers, seen, record]
        async with open_agent(models, config=config, observers=watching, store=folder / "s.db") as agent:
            with trio.fail_after(60):
                while len(agent.parts.toolset.failures) < failing_servers:
                    await trio.sleep(0.01)
            with pytest.raises(ClawftError) as caught:
                await agent.ask("q")
            records = caught.value.attempts
            out["error"] = told(caught.value) + repr(records)
            out["attempts"] = "".join(told(one.error) + getattr(one.error, "body", "") for one in records if one.error)
            failures = agent.parts.toolset.failures.values()
            out["servers"] = "".join(told(one) + str(vars(one)) for one in failures)
            out["repr"] = f"{config!r} {agent!r} {agent.parts!r} {agent.parts.toolset!r}"
            while_open(agent)
    out["recording"] = (folder / "r.jsonl").read_text()
    out["events"] = "\n".join(map(repr, seen.events))
    tree = spans_of(seen.events, texts=True)
    out["timeline"] = timeline_html(tree) + chrome_trace(tree).decode()
    return out
