"""Protocols and composition: a strategy wraps an attempt and gives an attempt.

One small protocol serves unary calls and streams, model calls, tool calls and MCP calls. Strategies nest in any order,
because each guarantees: when it returns, the content since the last `Reset` is equal to the result; when it raises, the
layer around it has to retract that content.

Four rules hold for all of them:

* `ConsumerLeft` and cancellation pass through: they are not failures of a target.
* The error's fields (`retryable`, `curable_elsewhere`) decide what may be tried again, and where; never its text.
* A failure inside a nursery is a group and is judged by its leaves.
* A wait for a token, a slot or a retry holds nothing.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import attrs

from clawft_trio.asked_targets import AskedTargets
from clawft_trio.chat import Call, Invocation
from clawft_trio.resilience.retry_budget import RetryBudget
from clawft_trio.tracebacks import shorten_traceback

P = ParamSpec("P")
T = TypeVar("T")

Attempt: TypeAlias = Callable[[Call], Awaitable[T]]
"""One attempt as a function: takes the call and returns a result, or raises."""

NO_CALL = Call()
"""The call of plain functions under a policy: no events and no records."""

MAX_KEYS = 1000
"""Number of keys of a policy with `by` that have a state; beyond it the least recently used one is removed."""


class Strategy(Protocol):
    """Any object with this `run`. `compose(strategy)` makes a `Policy` of it."""

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* as often and as long as this strategy does: `await attempt(call)` runs it once.

        Cancellation: running attempts are cancelled and awaited.
        """
        ...


class Policy:
    """The description of a strategy: a frozen value that also wraps plain async functions.

    `await policy(fetch, url)` calls `fetch(url)` under the policy; `@policy` (or `policy(fetch)`) makes a function
    that always does. State between calls (a breaker's window, a bulkhead's slots) belongs to the strategy that `bind`
    makes; a policy that is used directly has its own state.
    """

    __slots__ = ()

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* as often and as long as this policy allows.

        Raises:
          Exception: the error of the last attempt, or of this policy.

        Cancellation: the running attempt is cancelled and awaited.
        """
        raise AssertionError("every policy runs in its own way")

    def bind(self, target: str) -> Strategy:
        """Make the strategy for one target, with separate state."""
        return self

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...

    def __call__(self, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function* under this policy; without arguments, wrap it: then `await policy(function)()` calls it.

        Raises:
          TypeError: *function* is a plain `def`, whose caller would get a coroutine; or it is a coroutine already; or
            it is not a function.
        """
        given: object = function
        if inspect.iscoroutine(given):
            given.close()
            raise TypeError(
                f"{type(self).__name__} calls the function itself, as often as it needs: pass the function and its "
                "arguments, `await policy(fetch, url)`, not the coroutine `fetch(url)`"
            )
        if not callable(given):
            raise TypeError(
                f"{type(self).__name__} wraps async functions, and a {type(given).__name__} is none; a provider under "
                "a policy is Resilient(provider, policy)"
            )
        if args or kwargs:
            return self._called(function, args, kwargs)
        if (
            inspect.isfunction(function)
            and not inspect.iscoroutinefunction(function)
            and function.__name__ != "<lambda>"
        ):
            raise TypeError(
                f"{function.__qualname__} is not async, and {type(self).__name__} is for async functions; put what "
                "blocks into one, with trio.to_thread.run_sync"
            )

        @wraps(function)
        async def wrapped(*args: Any, **kwargs: Any) -> T:
            return await self._called(function, args, kwargs)

        return wrapped

    async def _called(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        try:
            return await self.run(lambda _: function(*args, **kwargs), invoking(function, args, kwargs))
        except Exception as exc:
            shorten_traceback(exc)
            raise


@attrs.frozen
class Composed(Policy):
    """Several strategies as one, the outermost first. Made by `compose`."""

    layers: tuple[Strategy, ...]

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* inside all layers.

        Raises:
          Exception: as the outermost layer raises it.

        Cancellation: running attempts are cancelled and awaited.
        """
        return await within(self, attempt)(call)

    def bind(self, target: str) -> Strategy:
        """Return the same layers, each with separate state for *target*."""
        return Composed(tuple(bound(layer, target) for layer in self.layers))


def compose(*layers: Strategy) -> Composed:
    """Compose strategies, the outermost first.

    `compose(Timeout(total=120), Retry(), CircuitBreaker(), Timeout(first_content=60, gap=30))`: one limit on all
    attempts together; inside it, retries; each attempt first checks the breaker and has separate clocks.

    Raises:
      TypeError: a layer is a class, or not a strategy.
    """
    for layer in layers:
        if isinstance(layer, type):
            raise TypeError(f"{layer.__name__} is a class; compose() takes what it makes: {layer.__name__}(…)")
        if isinstance(layer, (list, tuple)):
            raise TypeError("compose() takes its strategies one by one: compose(Timeout(total=30), Retry())")
        if not callable(getattr(layer, "run", None)):
            raise TypeError(f"compose() takes strategies, and {layer!r} has no method `run`")
    return Composed(layers)


def within(strategy: Strategy, attempt: Attempt[T]) -> Attempt[T]:
    """Wrap *attempt* in *strategy*; of a composed one, in each layer, which saves a call."""
    if not isinstance(strategy, Composed):
        return partial(strategy.run, attempt)
    for layer in reversed(strategy.layers):
        attempt = within(layer, attempt)
    return attempt


def bound(strategy: Strategy, target: str) -> Strategy:
    """Bind *strategy* to *target*, if it is a policy."""
    return strategy.bind(target) if isinstance(strategy, Policy) else strategy


def invoking(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Make the call of a plain function under a policy."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return attrs.evolve(NO_CALL, invocation=Invocation(name, args, kwargs))


def entered(budget: RetryBudget | None, target: str, call: Call) -> Call:
    """Count the first request of *call* to *target* in *budget*, only once for all policies that share the budget."""
    asked = call.asked or AskedTargets()
    if budget is None or call.budgeted == target:
        return call if call.asked is asked else call.replaced(asked=asked)
    asked.is_first(budget, target)
    return call.replaced(asked=asked, budgeted=target)


def asked_of(call: Call) -> AskedTargets:
    """Return the record of targets that *call* has asked, made by `entered`; without one, a new record."""
    return call.asked or AskedTargets()


def target_of(call: Call) -> str:
    """Return the name of the function of *call*, for a policy that is bound to no target."""
    return "" if call.invocation is None else call.invocation.name


S_co = TypeVar("S_co", bound=Strategy, covariant=True)


class PerKey(Generic[S_co]):
    """A separate strategy for each key that *by* returns for a call's arguments."""

    def __init__(self, by: Callable[..., Hashable], make: Callable[[Hashable], S_co]) -> None:
        self._by = by
        self._make = make
        self._bound: OrderedDict[Hashable, S_co] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PerKey of {len(self._bound)} keys>"

    def of(self, key: Hashable) -> S_co:
        """Return the strategy for *key*, which is made at first use."""
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._make(key)
            if len(self._bound) > MAX_KEYS:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return bound

    def statistics(self) -> Mapping[Hashable, Any]:
        """Return the statistics of each key's strategy."""
        return {key: bound.statistics() for key, bound in self._bound.items() if hasattr(bound, "statistics")}

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* under the strategy of its key.

        Raises:
          Exception: as the strategy or `by` raises it.

        Cancellation: as for the strategy.
        """
        invocation = call.invocation
        key = self._by() if invocation is None else self._by(*invocation.args, **invocation.kwargs)
        return await self.of(key).run(attempt, call)


def named(target: str, key: Hashable) -> str:
    """Return the name of the strategy of *target* for *key*, in errors and statistics."""
    return f"{target}[{key}]" if target else str(key)
