"""Observers: cheap synchronous callables that receive events; their exceptions are contained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from clawft_trio.observe.events import Event

Observer: TypeAlias = Callable[[Event], None]

E = TypeVar("E", bound=Event)

_log = logging.getLogger("clawft_trio.observe")


def fan_out(observers: Iterable[Observer]) -> Observer:
    """Return one observer that passes events to all of *observers*; exceptions of an observer are logged."""
    everyone = tuple(observers)

    def pass_on(event: Event) -> None:
        for observer in everyone:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # foreign code; the observed program goes on
                _log.exception("observer %r failed on %s", observer, type(event).__name__)

    return pass_on


class Recorder:
    """An observer that keeps the last *limit* events: for tests, and to inspect after a failure."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) > self._limit:
            del self.events[: self._limit // 10 or 1]

    def of(self, kind: type[E]) -> list[E]:
        """Return the kept events of one class."""
        return [event for event in self.events if isinstance(event, kind)]
