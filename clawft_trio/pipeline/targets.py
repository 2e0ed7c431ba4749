"""Providers by target, made once, so that breakers and bulkheads keep their state."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias, runtime_checkable

import attrs
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.errors import NotConfigured
from clawft_trio.nursery import cleanup_scope, open_hidden_nursery
from clawft_trio.observe.recorded import recorded
from clawft_trio.target import Target

Factory: TypeAlias = Callable[[Target], Provider]
"""Makes the bare provider of a target; raises `NotConfigured` when it cannot."""

Wrap: TypeAlias = Callable[[Provider, Target], Provider]
"""Wraps a target's provider: with the meter first, so that every attempt is metered, then with the policy."""

MAX_TARGETS = 1000
"""Largest number of open targets. Configurations have a handful; more means that names are invented outside."""

GRACE = 5.0
"""Seconds in which all providers together must close."""


@runtime_checkable
class Closeable(Protocol):
    """A provider that has to be closed."""

    async def aclose(self) -> None:
        """Close it. Called once.

        Cancellation: closing stops early.
        """
        ...


def unwrapped(provider: Provider, target: Target) -> Provider:  # noqa: ARG001 - the shape of a Wrap
    """Return *provider* itself."""
    return provider


@attrs.frozen(kw_only=True)
class TargetsStatistics:
    """The open providers of a `Targets`."""

    #: names of the targets, in the order in which they were first reached
    open: tuple[str, ...]
    closed: bool


class Targets:
    """Returns the provider of a target, which is built at first use. Made by `open_targets`."""

    def __init__(self, factory: Factory, wrap: Wrap = unwrapped) -> None:
        self._factory = factory
        self._wrap = wrap
        self._wrapped: dict[str, Provider] = {}
        self._bare: list[Provider] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<Targets {', '.join(self._wrapped)}{' closed' if self._closed else ''}>"

    def statistics(self) -> TargetsStatistics:
        """Return the open targets."""
        return TargetsStatistics(open=tuple(self._wrapped), closed=self._closed)

    def reach(self, target: Target) -> Provider:
        """Return the provider for *target*: the same object every time.

        Tier, price and window make no difference: one `provider/model` is one target.

        Raises:
          NotConfigured: the factory cannot make it, or too many targets are open.
          trio.ClosedResourceError: the targets are closed.
        """
        if self._closed:
            raise trio.ClosedResourceError(f"{target.name} is asked after the end of the runtime")
        if target.name not in self._wrapped:
            self._wrapped[target.name] = self._open(target)
        return self._wrapped[target.name]

    def _open(self, target: Target) -> Provider:
        if len(self._wrapped) >= MAX_TARGETS:
            raise NotConfigured(
                f"{MAX_TARGETS} targets are open, and this would be one more",
                provider=target.provider,
                model=target.model,
            )
        bare = self._factory(target)
        # Added before it is wrapped, so that it is closed also when wrapping fails.
        self._bare.append(bare)
        return self._wrap(bare, target)

    async def aclose(self) -> None:
        """Close every provider that can be closed, concurrently, within `GRACE`.

        Raises:
          Exception: closing a provider failed; a group when several failed. All others are closed.

        Cancellation: closing continues, shielded and bounded; then `Cancelled` is raised.
        """
        self._closed = True
        opened, self._bare = self._bare, []
        failed: list[Exception] = []
        with cleanup_scope(GRACE):
            async with open_hidden_nursery() as nursery:
                for provider in opened:
                    if isinstance(provider, Closeable):
                        nursery.start_soon(_close, provider, failed)
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise ExceptionGroup("closing providers failed", failed)


async def _close(provider: Closeable, failed: list[Exception]) -> None:
    try:
        await provider.aclose()
    except Exception as exc:  # noqa: BLE001 - the others must be closed, too; the caller raises it
        failed.append(exc)


@asynccontextmanager
async def open_targets(factory: Factory, *, wrap: Wrap = unwrapped) -> AsyncGenerator[Targets, None]:
    """Open targets for the duration of the block.

    Args:
      factory: makes the bare provider of a target. One that has an `aclose` is closed at the end.
      wrap: wraps the provider of every target, innermost first: `lambda p, t: Resilient(Metered(p, ...), policy)`.

    Raises:
      Exception: closing failed.

    Cancellation: every provider is closed, within `GRACE`.
    """
    targets = Targets(factory, wrap)
    try:
        yield targets
    finally:
        # Shielded here, too: a cancellation that comes while an error is raised must not replace it.
        with cleanup_scope(GRACE):
            await targets.aclose()  # noqa: ASYNC102 - `cleanup_scope` is shielded and bounded


class OneProvider:
    """A transport with one provider for all targets, for tests and for providers that choose the model themselves."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def reach(self, target: Target) -> Provider:
        """Return the provider under the name of *target*."""
        return recorded(_Named(self._provider, target.name), refuse_empty=True)


class _Named:
    """A provider under another name."""

    def __init__(self, provider: Provider, name: str) -> None:
        self._provider = provider
        self._name = name
        self.keeps_records = getattr(provider, "keeps_records", False)

    @property
    def name(self) -> str:
        return self._name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        return await self._provider.complete(request, call)
