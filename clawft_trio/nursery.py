"""One error out: context managers that hide a nursery, and bounded cleanup.

What reaches the user of a hidden nursery:

* one error, from the body or from a child: that error, bare;
* several: the group of them, because picking one would hide the others;
* KeyboardInterrupt or SystemExit among them: that one first, bare;
* the body raised a group itself: that very group, not the copy that trio makes while splitting it;
* only cancellation: `Cancelled`, which the scope that asked for it catches.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import trio


def check_in_trio() -> None:
    """Refuse to run outside of trio, with what to do instead.

    Raises:
      RuntimeError: the caller is no task of trio.
    """
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "clawft_trio runs on trio: call trio.run(main), not asyncio.run(main). In an asyncio application use "
            "clawft_trio.asyncio_guest.Guest(open_agent(…)), and call the agent through it: "
            "await guest.call(guest.value.ask, question)"
        )


@asynccontextmanager
async def open_hidden_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery that the caller is not meant to know about.

    Raises:
      BaseException: a lone error as it is, several as a group; see the module's rules.

    Cancellation: as any nursery: every child is cancelled and awaited.
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
    """Raise what *group* comes down to, by the module's rules. *body* is what the body itself raised."""
    found = leaves(group)
    real = [exc for exc in found if not isinstance(exc, trio.Cancelled)]
    if isinstance(body, BaseExceptionGroup) and {*map(id, real)} == {*map(id, leaves(body))}:
        reraise(body)
    for exc in real:
        # Inside a group it would slip past `except KeyboardInterrupt`.
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            reraise(exc)
    if len(real) > 1:
        reraise(group)
    reraise(real[0] if real else found[0])


def leaves(exc: BaseException) -> list[BaseException]:
    """The exceptions that are not groups in *exc*, in order; *exc* itself when it is none."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for inner in exc.exceptions for leaf in leaves(inner)]


def reraise(exc: BaseException) -> NoReturn:
    """Raise *exc* as it was raised first, from inside the handler of another error."""
    # `raise exc` would rewrite `__context__` to the error that is being handled, and `from None` would erase the cause.
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context
        del exc, context


@contextmanager
def cleanup_scope(grace: float) -> Iterator[trio.CancelScope]:
    """Give the awaits inside at most *grace* seconds, also when the surroundings are already cancelled.

    For cleanup that has to talk: shielded, so that it happens, and bounded, so that it ends.
    """
    with trio.move_on_after(grace, shield=True) as scope:
        yield scope
