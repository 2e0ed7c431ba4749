"""A small world around a whole agent: people who write, models, tools and a server that fail in every way they can.

Everything in it is drawn from one `random.Random`, and everything that it saw is in its `Books`, for `check` to
balance. The same world goes around an agent in memory and mock time (`test_simulation`) and around one with real
sockets, real processes and a real clock (`test_soak`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
from integration.accounting import Books

from clawft_trio.tools import Tool, ToolContext, tool

_SLOW, _NOTE = 2.0, 10.0
"""Units that these tools may take."""


@attrs.define
class World:
    """Chance, and what happens by it.

    Args:
      seed: decides everything.
      unit: seconds of one ordinary pause; everything else takes a multiple of it.
      chats: conversations at the same time.
      messages: that each of them has.
      deaths: share of the tool-calling answers that kill the server.
      outages: share of the deliveries that fail.
      late: seconds by which a deadline may be missed; none where time is mocked.
      log: keep every event, too.
    """

    seed: int
    unit: float = 1.0
    chats: int = 6
    messages: int = 5
    deaths: float = 0.1
    outages: float = 0.1
    late: float = 1e-6
    log: bool = True
    chance: random.Random = attrs.field(init=False)
    accounting: Books = attrs.field(init=False)
    #: nothing fails on purpose any more
    calm: bool = False
    #: everybody has written everything
    quiet: trio.Event = attrs.field(factory=trio.Event)
    _number: int = 0
    #: the paths that notes are being written to
    _open: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        bounds = {"slow": _SLOW * self.unit + self.late, "note": _NOTE * self.unit + self.late}
        self.accounting = Books(bounds, log=self.log)
        self.accounting.fate = {f"{chat}.{n}": Counter() for chat in range(self.chats) for n in range(self.messages)}

    def maybe(self, share: float) -> bool:
        """Whether something happens that happens in this share of cases."""
        return not self.calm and self.chance.random() < share

    async def pause(self, times: float = 1.0) -> None:
        """Take a while."""
        await trio.sleep(self.chance.expovariate(1 / (times * self.unit)))

    def new_number(self) -> int:
        """A number that nobody had before."""
        self._number += 1
        return self._number

    def new_call_id(self) -> str:
        """An id that no other tool call has."""
        return f"call-{self.new_number()}-"

    def tools(self) -> list[Tool]:
        """Tools that look, write, fail and take too long, each of them once for a call."""

        @tool(mode="read_only")
        async def look(place: str, context: ToolContext) -> str:
            """Look."""
            self.accounting.note_run(context.call_id)
            await self.pause()
            return f"{place}: fine"

        @tool(writes="path", total=_NOTE * self.unit)
        async def note(path: str, text: str, context: ToolContext) -> str:
            """Write it down, one at a time for each path."""
            self.accounting.note_run(context.call_id)
            with self._alone(path):
                await self.pause(2)
                if self.maybe(0.2):
                    raise OSError("no room")
            return text

        @tool
        async def fails(context: ToolContext) -> str:
            """Fails."""
            self.accounting.note_run(context.call_id)
            await self.pause()
            raise ValueError("no")

        @tool(total=_SLOW * self.unit)
        async def slow(context: ToolContext) -> str:
            """Takes longer than it may."""
            self.accounting.note_run(context.call_id)
            await trio.sleep_forever()
            return "never"

        @tool(mode="read_only")
        def reckon(n: int, context: ToolContext) -> int:
            """Reckons, in a thread."""
            self.accounting.note_run(context.call_id)
            return n * n

        return [look, note, fails, slow, reckon]

    @contextmanager
    def _alone(self, path: str) -> Iterator[None]:
        """Be where nobody else is: at a path, with everything above and below it."""
        others = [other for other in self._open if f"{other}/".startswith(f"{path}/") or path.startswith(f"{other}/")]
        self.accounting.expect(not others, "together in", path, others)
        self._open.append(path)
        try:
            yield
        finally:
            self._open.remove(path)
