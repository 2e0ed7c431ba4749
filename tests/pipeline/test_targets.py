"""One provider per target, built at first use, closed by whoever opened the targets."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import EmptyAnswer, NotConfigured
from clawft_trio.pipeline import OneProvider, Target, open_targets
from clawft_trio.pipeline.targets import GRACE, MAX_TARGETS
from clawft_trio.testing import ScriptedProvider, cancel_everywhere


class Bare(ScriptedProvider):
    """A provider that can be closed, slowly or not at all."""

    def __init__(self, target: Target, *, closing: float = 0.0, failing: bool = False) -> None:
        super().__init__([], name=target.provider)
        self.target = target
        self.closed = 0
        self.finished = False
        self._closing = closing
        self._failing = failing

    async def aclose(self) -> None:
        self.closed += 1
        await trio.sleep(self._closing)
        if self._failing:
            raise OSError("cannot close")
        self.finished = True


A, B = Target("p", "a"), Target("p", "b")


async def test_a_target_is_built_once_whatever_the_decision_says_about_it() -> None:
    built: list[Target] = []

    def factory(target: Target) -> Bare:
        built.append(target)
        return Bare(target)

    async with open_targets(factory) as targets:
        first = targets.reach(A)
        assert targets.reach(Target("p", "a", tier="premium", max_context_tokens=5)) is first
        assert targets.reach(B) is not first
        assert targets.statistics().open == ("p/a", "p/b")
    assert built == [A, B]


async def test_what_is_wrapped_around_a_target_is_reached_and_what_was_built_is_closed() -> None:
    wrapped: list[object] = []

    def wrap(provider, target: Target):
        wrapped.append((provider, target))
        return OneProvider(provider).reach(target)

    async with open_targets(Bare, wrap=wrap) as targets:
        reached = targets.reach(A)
        assert reached.name == "p/a"
    ((bare, target),) = wrapped
    assert (bare.closed, target) == (1, A)


async def test_each_is_closed_once() -> None:
    bares: list[Bare] = []

    def factory(target: Target) -> Bare:
        bares.append(Bare(target))
        return bares[-1]

    async with open_targets(factory) as targets:
        for target in (A, B, A):
            targets.reach(target)
    await targets.aclose()
    assert [bare.closed for bare in bares] == [1, 1]


async def test_a_provider_without_anything_to_close_is_left_alone() -> None:
    async with open_targets(lambda target: ScriptedProvider.saying("hi", name=target.name)) as targets:
        targets.reach(A)


async def test_after_the_end_nothing_is_reached() -> None:
    async with open_targets(Bare) as targets:
        targets.reach(A)
    for target in (A, B):
        with pytest.raises(trio.ClosedResourceError):
            targets.reach(target)


async def test_however_many_hang_while_closing_it_takes_one_grace(autojump_clock) -> None:
    bares: list[Bare] = []

    def factory(target: Target) -> Bare:
        bares.append(Bare(target, closing=0.0 if target == A else float("inf")))
        return bares[-1]

    async with open_targets(factory) as targets:
        for target in (A, B, Target("p", "c")):
            targets.reach(target)
    assert trio.current_time() == GRACE
    assert [bare.finished for bare in bares] == [True, False, False]


async def test_one_that_fails_while_closing_does_not_keep_the_others_open() -> None:
    bares: list[Bare] = []

    def factory(target: Target) -> Bare:
        bares.append(Bare(target, failing=target == B))
        return bares[-1]

    with pytest.raises(OSError, match="cannot close"):
        async with open_targets(factory) as targets:
            for target in (A, B, Target("p", "c")):
                targets.reach(target)
    assert [(bare.closed, bare.finished) for bare in bares] == [(1, True), (1, False), (1, True)]


async def test_two_that_fail_while_closing_are_a_group() -> None:
    with pytest.RaisesGroup(OSError, OSError):
        async with open_targets(lambda target: Bare(target, failing=True)) as targets:
            targets.reach(A)
            targets.reach(B)


async def test_what_the_factory_opened_is_closed_also_when_wrapping_fails() -> None:
    bares: list[Bare] = []

    def factory(target: Target) -> Bare:
        bares.append(Bare(target))
        return bares[-1]

    def wrap(provider, target):
        raise NotConfigured("no policy")

    async with open_targets(factory, wrap=wrap) as targets:
        with pytest.raises(NotConfigured):
            targets.reach(A)
        assert targets.statistics().open == ()
    assert bares[0].closed == 1


async def test_made_up_names_do_not_fill_the_memory() -> None:
    async with open_targets(Bare) as targets:
        for n in range(MAX_TARGETS):
            targets.reach(Target("p", str(n)))
        with pytest.raises(NotConfigured):
            targets.reach(Target("p", "one more"))
        targets.reach(Target("p", "0"))


async def test_an_error_in_the_block_is_closed_behind_and_comes_out_bare() -> None:
    bare = Bare(A)
    with pytest.raises(KeyError):
        async with open_targets(lambda target: bare) as targets:
            targets.reach(A)
            raise KeyError
    assert bare.closed == 1


async def test_every_target_is_closed_wherever_the_runtime_is_cancelled() -> None:
    bares: list[Bare] = []

    def factory(target: Target) -> Bare:
        bares.append(Bare(target))
        return bares[-1]

    async def run() -> None:
        bares.clear()
        async with open_targets(factory) as targets:
            targets.reach(A)
            await trio.lowlevel.checkpoint()
            targets.reach(B)
            await trio.lowlevel.checkpoint()

    async def check() -> None:
        assert [(bare.closed, bare.finished) for bare in bares] == [(1, True)] * len(bares)

    assert await cancel_everywhere(run, check) >= 4


async def test_one_provider_goes_by_the_name_of_each_target() -> None:
    provider = ScriptedProvider.saying("hi", name="p")
    reached = OneProvider(provider).reach(A)
    assert reached.name == "p/a"
    response = await reached.complete(ChatRequest([Message.user("?")], model="a"), Call())
    assert response.text == "hi"


async def test_one_provider_for_all_targets_gives_no_empty_answers() -> None:
    class Empty:
        name = "p"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            return ChatResponse(content="")

    with pytest.raises(EmptyAnswer):
        await OneProvider(Empty()).reach(A).complete(ChatRequest([Message.user("q")]), Call())
