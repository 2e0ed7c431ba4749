"""Assembles tool calls from their fragments.

Some servers omit `index`, others send zero for every call; `id` comes with the first fragment, with every fragment,
late, empty, twice or never. So neither is trusted alone: a fragment continues a call unless something in it marks the
start of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import attrs
import msgspec

from clawft_trio.chat import ChatRequest, GrowingText, ToolCall, ToolCallDelta, ToolCallReady, ToolCallSealed
from clawft_trio.codec import is_json_object

# Bounds memory: a provider that starts more calls than this in one answer is broken.
MAX_CALLS = 512


# Characters. Longer arguments are not parsed to test whether they are complete: done per fragment, that is quadratic.
_MOST_PARSED = 64 * 1024


@attrs.define(eq=False)
class _Growing:
    """A tool call whose fragments are arriving."""

    position: int
    id: str = ""
    name: str = ""
    text: GrowingText = attrs.field(factory=GrowingText)
    #: whether the first fragment of the arguments was `{}`: either all of them, or a placeholder before the real ones
    placeholder: bool = False
    #: whether `text` has been written to
    begun: bool = False
    #: whether its `ToolCallSealed` was created, or not created because the arguments do not parse
    sealed: bool = False

    @property
    def arguments(self) -> str:
        return self.text.getvalue() or ("{}" if self.placeholder else "")

    def given(self, blank: str) -> str:
        """Return the arguments, or *blank* for blank ones."""
        text = self.arguments
        return blank if text.isspace() else text or blank

    def is_started(self) -> bool:
        return self.placeholder or self.begun

    def is_whole(self) -> bool:
        return self.text.tell() <= _MOST_PARSED and is_json_object(self.arguments)

    def repeats(self, id_: str, name: str, arguments: str) -> bool:
        """Return whether a fragment is this whole call once more, as some servers send it after its pieces."""
        same = (id_, name, arguments) == (self.id, self.name, self.arguments)
        return same and self.is_started() and self.is_whole()

    def extend_name(self, name: str) -> None:
        # Servers send a name once, or with every fragment, or in pieces, or as a growing prefix.
        if not self.name or name.startswith(self.name):
            self.name = name
        elif name != self.name:
            self.name += name

    def extend(self, piece: str) -> str:
        """Append *piece* to the arguments; return the part of it that is emitted."""
        if not self.begun:
            if not self.placeholder and piece.strip() == "{}":
                self.placeholder = True
                return ""
            if self.placeholder and not piece.strip():
                return ""
            self.begun = True
        elif piece[:1] == "{" and len(piece) == self.text.tell() and self.is_whole() and piece == self.text.getvalue():
            # Some gateways send all arguments once more after their pieces.
            return ""
        self.text.write(piece)
        return piece


class TooManyCalls(ValueError):
    """An answer has more than `MAX_CALLS` tool calls."""


class ToolCallAssembler:
    """The tool calls of one answer while they arrive.

    Args:
      taken: ids that a generated id must not repeat: those of the conversation so far.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = frozenset(taken)
        self._calls: list[_Growing] = []
        self._by_index: dict[int | None, _Growing] = {}
        self._by_id: dict[str, _Growing] = {}
        #: number of calls that `seal_before` has already checked
        self.passed: int = 0
        #: number of characters of all names, ids and arguments
        self.size: int = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, *, index: int | None, id: str, name: str, arguments: str, begins: bool = False) -> ToolCallDelta:
        """Add one fragment and return the event for its tool call.

        Args:
          index: as it was sent; None when it is missing.
          id: empty when it is missing.
          name: empty when it is missing.
          arguments: the next piece of the JSON text.
          begins: the server has marked the fragment as the first one of another call.

        Raises:
          TooManyCalls: there are already `MAX_CALLS`.
        """
        # Nearly every fragment is more arguments of a call that has begun.
        call = None if name or begins else self._by_index.get(index)
        if call is None:
            call = (None if begins else self._continued(index, id, name, arguments)) or self._begin()
        if id and name and call.repeats(id, name, arguments):
            return ToolCallDelta(call.position, id, name, "")
        call.id = call.id or id
        if name:
            call.extend_name(name)
        shown = call.extend(arguments) if arguments else ""
        if index is not None:
            self._by_index[index] = call
        if id:
            self._by_id.setdefault(id, call)
        self.size += len(id) + len(name) + len(arguments)
        return ToolCallDelta(call.position, id, call.name if name else "", shown)

    def _begin(self) -> _Growing:
        if len(self._calls) == MAX_CALLS:
            raise TooManyCalls(f"more than {MAX_CALLS} tool calls in one answer")
        call = _Growing(len(self._calls))
        self._calls.append(call)
        return call

    def _continued(self, index: int | None, id_: str, name: str, arguments: str) -> _Growing | None:
        call = self._addressed(index, id_, name)
        if call is None or not name:
            return call
        if id_ and call.id and id_ != call.id:
            return None
        if call.name and name != call.name:
            return call if self._continues_name(call, index) else None
        if call.placeholder and id_ and id_ == call.id:
            return call
        if id_ and call.repeats(id_, name, arguments):
            return call
        # The name is repeated: in every fragment of one call, or because the next call is to the same tool.
        return None if arguments and call.is_whole() else call

    def _continues_name(self, call: _Growing, index: int | None) -> bool:
        """Return whether a second, different name under the same index is the rest of the first one."""
        return index is not None and self._by_index.get(index) is call and not call.is_started()

    def _addressed(self, index: int | None, id_: str, name: str) -> _Growing | None:
        known = self._by_index.get(index) if index is not None else None
        known = known or (self._by_id.get(id_) if id_ else None)
        if known is not None or name or not self._calls:
            return known
        if id_ and index is not None:
            return None
        # Arguments without an index or id, or with an unknown one, belong to the last call.
        return self._calls[-1]

    def correct(self, index: int, arguments: str) -> bool:
        """Replace the arguments of the call with the server's number *index*, if only the new ones are complete."""
        call = self._by_index.get(index)
        if call is None or is_json_object(call.arguments) or not is_json_object(arguments):
            return False
        call.text, call.begun = GrowingText(), True
        call.text.write(arguments)
        self.size += len(arguments)
        return True

    def text_of(self, index: int) -> str:
        """Return the arguments that have arrived for the call with the server's number *index*."""
        call = self._by_index.get(index)
        return "" if call is None else call.text.getvalue()

    def seal_before(self, position: int) -> list[ToolCallSealed]:
        """Return the calls before *position* that are complete, because the server has begun the next one.

        Calls with blank arguments or the placeholder `{}` are skipped: some servers name all calls before any
        arguments.
        """
        if position <= self.passed:
            return []
        passed, self.passed = self._calls[self.passed : position], position
        return self._seal(call for call in passed if call.begun)

    def seal_at(self, index: int) -> list[ToolCallSealed]:
        """Return the call with the server's number *index*, if it is complete, because the server has ended it."""
        call = self._by_index.get(index)
        return [] if call is None else self._seal([call])

    def seal_all(self) -> list[ToolCallSealed]:
        """Return the calls that are complete, because the server has ended its answer; placeholders are skipped."""
        return self._seal(call for call in self._calls if call.begun)

    def _seal(self, calls: Iterable[_Growing]) -> list[ToolCallSealed]:
        sealed = []
        for call in calls:
            if call.sealed:
                continue
            call.sealed = True
            arguments = call.given("{}")
            if call.name and is_json_object(arguments):
                given = next(islice(self._ids(), call.position, None))
                sealed.append(ToolCallSealed(ToolCall(id=given, name=call.name, arguments=arguments)))
        return sealed

    def late_fragments(self) -> list[ToolCallDelta]:
        """Return events with the arguments that were held back while they might have been a placeholder."""
        late = [call for call in self._calls if call.placeholder and not call.begun]
        return [ToolCallDelta(call.position, "", "", "{}") for call in late]

    def calls(self, *, whole: bool) -> tuple[ToolCall, ...]:
        """Return the calls so far in order, with arguments as they came and a unique id each.

        Args:
          whole: nothing is missing. Blank arguments then mean no arguments, and become `{}`.
        """
        blank = "{}" if whole else ""
        return tuple(
            ToolCall(id=given, name=call.name, arguments=call.given(blank))
            for call, given in zip(self._calls, self._ids(), strict=True)
        )

    def _ids(self) -> Iterator[str]:
        used = set(self._taken)
        spare = (f"call_{number}" for number in range(len(used) + 2 * len(self._calls) + 1))
        for call in self._calls:
            own = call.id and call.id not in used
            given = call.id if own else next(name for name in spare if name not in used and name not in self._by_id)
            used.add(given)
            yield given


def ready(calls: Iterable[ToolCall]) -> list[ToolCallReady]:
    """Return the calls that can be executed: with a name, and arguments that are strictly a JSON object."""
    return [ToolCallReady(call) for call in calls if call.name and is_json_object(call.arguments)]


def as_text(arguments: Any) -> str:
    """Return arguments as JSON text: some servers send the object itself, and some send null."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def ids_in(request: ChatRequest) -> Iterator[str]:
    """Return the ids of all tool calls in a conversation."""
    return (call.id for message in request.messages for call in message.tool_calls)
