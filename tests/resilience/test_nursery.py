"""What comes out of a hidden nursery keeps its own history."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.nursery import open_hidden_nursery, reraise


async def test_an_error_out_of_a_hidden_nursery_keeps_its_context() -> None:
    first = KeyError("first")

    async def child() -> None:
        try:
            raise first
        except KeyError:
            raise ValueError("second")  # noqa: B904 - the implicit context is what is tested

    with pytest.raises(ValueError, match="second") as caught:
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(child)
    assert caught.value.__context__ is first


async def test_an_error_without_context_has_none_afterwards() -> None:
    async def child() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("alone")

    with pytest.raises(ValueError, match="alone") as caught:
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(child)
    assert caught.value.__context__ is None


def test_an_error_raised_again_in_a_handler_keeps_its_context_and_cause() -> None:
    cause, original = KeyError("cause"), ValueError("original")
    original.__cause__ = cause
    with pytest.raises(ValueError, match="original") as caught:
        try:
            raise RuntimeError("being handled")
        except RuntimeError:
            reraise(original)
    assert (caught.value.__cause__, caught.value.__context__) == (cause, None)
