"""The algebra: a strategy wraps an attempt, and what it makes is an attempt again.

One small protocol serves unary calls and streams, model calls, tool calls and MCP calls alike. Strategies nest in any
order, because each keeps one promise: at return, what was shown since the last `Reset` is exactly what the result
says; at an exception, what was shown is the next layer's to retract.

Four rules hold for all of them:

* `ConsumerLeft` and cancellation pass through: they are no failure of a target.
* What may be tried again, and where, is the error's own word (`retryable`, `curable_elsewhere`), never its text.
* A failure from inside a nursery arrives as a group and is judged by its leaves.
* Waiting, for a token, a slot or a retry, holds nothing.
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
"""Something that can be tried: it gets the call and returns a result, or raises."""

NO_CALL = Call()
"""The call of plain functions under a policy: nothing is shown and nothing is recorded."""

MAX_KEYS = 1000
"""Keys of a policy with `by` that keep their state; beyond it the least recently used one is dropped."""


class Strategy(Protocol):
    """One way of trying: any object with this `run`. `compose(it)` makes a `Policy` of it."""

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Try *attempt*, as often and as long as this strategy will: `await attempt(call)` runs it once.

        Cancellation: what runs is cancelled and waited for.
        """
        ...


class Policy:
    """A strategy as its user describes it: a frozen value that also wraps plain async functions.

    `await policy(fetch, url)` calls `fetch(url)` under the policy; `@policy` (or `policy(fetch)`) gives a function
    that always does. What a policy has to remember between calls (a breaker's window, a bulkhead's slots) belongs
    to the strategy that `bind` makes; a policy used directly remembers for itself.
    """

    __slots__ = ()

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Try *attempt*, as often and as long as this policy allows.

        Raises:
          Exception: what the last attempt raised, or this policy's own error.

        Cancellation: the running attempt is cancelled and waited for.
        """
        raise AssertionError("every policy runs in its own way")

    def bind(self, target: str) -> Strategy:
        """The strategy for one target, with a memory of its own."""
        return self

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...

    def __call__(self, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function* under this policy; without arguments, wrap it: then `await policy(function)()` calls it.

        Raises:
          TypeError: *function* is a plain `def`, whose caller would get a coroutine; or it is a coroutine already; or
            it is no function.
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
        """Run *attempt* inside all the layers.

        Raises:
          Exception: what the outermost layer raised.

        Cancellation: what runs is cancelled and waited for.
        """
        return await within(self, attempt)(call)

    def bind(self, target: str) -> Strategy:
        """The same layers, each with a memory of its own for *target*."""
        return Composed(tuple(bound(layer, target) for layer in self.layers))


def compose(*layers: Strategy) -> Composed:
    """Put strategies around one another, the outermost first.

    `compose(Timeout(total=120), Retry(), CircuitBreaker(), Timeout(first_content=60, gap=30))`: one bound on all
    attempts together; within it, retries; each attempt asks the breaker first and has clocks of its own.

    Raises:
      TypeError: a layer is a class, or is no strategy.
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
    """*attempt* inside *strategy*: inside each layer of a composed one, without a call for the whole."""
    if not isinstance(strategy, Composed):
        return partial(strategy.run, attempt)
    for layer in reversed(strategy.layers):
        attempt = within(layer, attempt)
    return attempt


def bound(strategy: Strategy, target: str) -> Strategy:
    """*strategy* with a memory of its own, if it is one that remembers."""
    return strategy.bind(target) if isinstance(strategy, Policy) else strategy


def invoking(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """The call of a plain function under a policy."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return attrs.evolve(NO_CALL, invocation=Invocation(name, args, kwargs))


def entered(budget: RetryBudget | None, target: str, call: Call) -> Call:
    """*call* with its first request to *target* entered in *budget*, once however many policies share the budget."""
    asked = call.asked or AskedTargets()
    if budget is None or call.budgeted == target:
        return call if call.asked is asked else call.replaced(asked=asked)
    asked.is_first(budget, target)
    return call.replaced(asked=asked, budgeted=target)


def asked_of(call: Call) -> AskedTargets:
    """The record of what *call* has asked, made by `entered`; one without memory where there is none."""
    return call.asked or AskedTargets()


def target_of(call: Call) -> str:
    """The name of what *call* asks, for a policy that is bound to no target: the function's."""
    return "" if call.invocation is None else call.invocation.name


S_co = TypeVar("S_co", bound=Strategy, covariant=True)


class PerKey(Generic[S_co]):
    """One strategy with state for each key that *by* makes of a call's arguments."""

    def __init__(self, by: Callable[..., Hashable], make: Callable[[Hashable], S_co]) -> None:
        self._by = by
        self._make = make
        self._bound: OrderedDict[Hashable, S_co] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PerKey of {len(self._bound)} keys>"

    def of(self, key: Hashable) -> S_co:
        """The strategy for *key*, made at first use."""
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._make(key)
            if len(self._bound) > MAX_KEYS:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return bound

    def statistics(self) -> Mapping[Hashable, Any]:
        """The statistics of each key's strategy."""
        return {key: bound.statistics() for key, bound in self._bound.items() if hasattr(bound, "statistics")}

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* under the strategy of its key.

        Raises:
          Exception: the strategy's, or what `by` raised.

        Cancellation: the strategy's.
        """
        invocation = call.invocation
        key = self._by() if invocation is None else self._by(*invocation.args, **invocation.kwargs)
        return await self.of(key).run(attempt, call)


def named(target: str, key: Hashable) -> str:
    """The name of a target's part for *key*, in errors and statistics."""
    return f"{target}[{key}]" if target else str(key)
