"""Changes of the offered tools, prompts and resources, for the clients that requested notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import attrs

Kind: TypeAlias = Literal["tools", "prompts", "resources", "resource"]


@attrs.frozen
class Change:
    """A change of a list, or with the kind `resource` of the one resource at `uri`."""

    kind: Kind
    uri: str = ""

    @property
    def method(self) -> str:
        """Method of the notification that reports it."""
        return (
            "notifications/resources/updated" if self.kind == "resource" else f"notifications/{self.kind}/list_changed"
        )


class Changes:
    """Passes each change to every watcher, at once and in order. Watchers are sync, cheap and do not raise."""

    def __init__(self) -> None:
        self._watchers: dict[object, Callable[[Change], None]] = {}

    @property
    def watchers(self) -> int:
        """Number of watchers."""
        return len(self._watchers)

    @contextmanager
    def watching(self, watcher: Callable[[Change], None]) -> Iterator[None]:
        """Call *watcher* for each change inside the block."""
        key = object()
        self._watchers[key] = watcher
        try:
            yield
        finally:
            del self._watchers[key]

    def report(self, change: Change) -> None:
        """Pass *change* to all watchers."""
        for watcher in list(self._watchers.values()):
            watcher(change)


@attrs.frozen
class Filter:
    """The changes that a `subscriptions/listen` request asked for."""

    kinds: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()

    def wants(self, change: Change) -> bool:
        """Return whether *change* was requested."""
        return change.uri in self.uris if change.kind == "resource" else change.kind in self.kinds
