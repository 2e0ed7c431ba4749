"""The providers of an agent: one object per name, shared by all its models, closed with the agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType

from clawft_trio.chat import ChatRequest, Provider
from clawft_trio.llm import provider_named
from clawft_trio.llm.model_options import NO_OPTIONS, ModelOptions
from clawft_trio.nursery import cleanup_scope
from clawft_trio.pipeline.targets import GRACE, Closeable
from clawft_trio.target import Target

_NONE: Mapping[str, ModelOptions] = MappingProxyType({})


class Providers:
    """Returns providers by name; makes them from the catalog at first use. Made by `open_providers`."""

    def __init__(
        self,
        given: Mapping[str, Provider],
        make: Callable[[str], Provider],
        *,
        options: Mapping[str, ModelOptions] = _NONE,
        general: ModelOptions = NO_OPTIONS,
    ) -> None:
        self._given = dict(given)
        self._make = make
        self._options = options
        self._general = general
        self._made: dict[str, Provider] = {}

    def __repr__(self) -> str:
        return f"<Providers {', '.join(sorted({*self._given, *self._made}))}>"

    def at(self, target: Target) -> Provider:
        """Return the provider for *target*; other targets may have the same provider.

        Raises:
          NotConfigured: the provider is unknown or has no key.
        """
        name = target.provider
        if name in self._given:
            return self._given[name]
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def options_of(self, target: Target) -> Callable[[ChatRequest], ChatRequest] | None:
        """Return a function that sets the options of *target* in a request; None when the target has none."""
        options = self._options.get(target.name)
        return None if options is None else partial(options.in_place_of, self._general)

    async def aclose(self) -> None:
        """Close the providers made here; given ones belong to the caller.

        Cancellation: each is closed within its grace.
        """
        while self._made:
            _, provider = self._made.popitem()
            if isinstance(provider, Closeable):
                with cleanup_scope(GRACE):
                    await provider.aclose()


@asynccontextmanager
async def open_providers(
    given: Mapping[str, Provider] | None = None,
    make: Callable[[str], Provider] = provider_named,
    *,
    options: Mapping[str, ModelOptions] = _NONE,
    general: ModelOptions = NO_OPTIONS,
) -> AsyncGenerator[Providers, None]:
    """Open providers for the duration of the block.

    Args:
      given: providers by the name before the slash; they are used unchanged and not closed.
      make: makes any other provider by its name.
      options: options of targets by `provider/model`, which replace *general*.
      general: options of requests without options of their own.

    Cancellation: the providers made here are closed, within their grace.
    """
    providers = Providers(given or {}, make, options=options, general=general)
    try:
        yield providers
    finally:
        with cleanup_scope(GRACE):
            await providers.aclose()
