"""Notifications to the listeners of a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.store.interface import Listener

_log = logging.getLogger("clawft_trio")


class Listeners:
    """Callables that get every notification of a store, in the trio thread."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    @contextmanager
    def added(self, listener: Listener) -> Iterator[None]:
        """Call *listener* while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def notify(self, text: str) -> None:
        """Pass a topic, a line feed and a payload to the listeners; an empty text means that some were lost."""
        topic, _, payload = text.partition("\n")
        for listener in tuple(self._listeners):
            try:
                listener(topic, payload)
            except Exception:  # noqa: BLE001 - it may fail in any way; the others get theirs
                _log.exception("a listener of the store failed")
