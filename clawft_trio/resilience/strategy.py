"""The algebra: a strategy wraps an attempt, and what it returns is an attempt again.

One small protocol serves unary calls and streams, model calls, tool calls and MCP calls alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, TypeVar

from clawft_trio.chat import Call

T = TypeVar("T")

Attempt: TypeAlias = Callable[[Call], Awaitable[T]]
"""Something that can be tried: it gets the call and returns a result, or raises."""


class Strategy(Protocol):
    """One way of trying."""

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Try *attempt*, as often and as long as this strategy will.

        What has been shown through `call.emit` since the last `Reset` is, at return, exactly what the returned
        result says; at an exception it is the next layer's to retract.
        """
        ...
