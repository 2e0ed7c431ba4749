"""Context managers that hide a nursery and raise one error, and bounded cleanup.

What the caller of a hidden nursery gets:

* one error, from the body or from a child: that error itself;
* several errors: the group of them, because one alone would hide the others;
* KeyboardInterrupt or SystemExit among them: that exception itself, before all others;
* a group that the body raised itself: that same group, not the copy that trio makes when it splits one;
* only cancellation: `Cancelled`, which its cancel scope catches.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

import trio


def check_in_trio() -> None:
    """Check that the caller runs in trio; the error describes what to do instead.

    Raises:
      RuntimeError: the caller is not a trio task.
    """
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "clawft_trio runs on trio: call trio.run(main), not asyncio.run(main). In an asyncio application use "
            "clawft_trio.asyncio_guest.Guest(open_agent(…)), and call the agent through it: "
            "await guest.call(guest.value.ask, question)"
        )


@asynccontextmanager
async def open_hidden_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery that stays hidden from the caller.

    Raises:
      BaseException: a single error itself, several as a group; see the rules at the top of the module.

    Cancellation: as in any nursery: every child is cancelled and awaited.
    """
    body: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as exc:
                body = exc
                raise
    except BaseExceptionGroup as group:
        raise_one(group, body)


def raise_one(group: BaseExceptionGroup[BaseException], body: BaseException | None = None) -> NoReturn:
    """Raise the errors of *group* by the rules at the top of the module. *body* is the body's own exception."""
    found = leaves(group)
    real = [exc for exc in found if not isinstance(exc, trio.Cancelled)]
    if isinstance(body, BaseExceptionGroup) and {*map(id, real)} == {*map(id, leaves(body))}:
        reraise(body)
    for exc in real:
        # `except KeyboardInterrupt` does not catch it inside a group.
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            reraise(exc)
    if len(real) > 1:
        reraise(group)
    reraise(real[0] if real else found[0])


def leaves(exc: BaseException) -> list[BaseException]:
    """Return the exceptions in *exc* that are not groups, in order; *exc* itself when it is no group."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for inner in exc.exceptions for leaf in leaves(inner)]


def reraise(exc: BaseException) -> NoReturn:
    """Raise *exc* with the context it already has, from inside the handler of another error."""
    # `raise exc` would set `__context__` to the error that is being handled, and `from None` would erase the cause.
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context
        del exc, context


def cleanup_scope(grace: float) -> trio.CancelScope:
    """Limit the awaits of a `with` block to *grace* seconds and shield them from outer cancellation.

    For cleanup that does I/O: it runs even in a cancelled scope, and it ends.
    """
    return trio.move_on_after(grace, shield=True)
