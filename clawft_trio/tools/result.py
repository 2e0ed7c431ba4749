"""Results of tool calls, and errors as text that a model can act on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs
import trio

from clawft_trio.chat import File, Image, Message, Text
from clawft_trio.codec import encode_json
from clawft_trio.errors import (
    InvalidArguments,
    OutcomeUnknown,
    Refused,
    ToolDenied,
    ToolError,
    ToolFailed,
    ToolTimeout,
    UnknownTool,
)
from clawft_trio.nursery import leaves
from clawft_trio.observe.redaction import cut_redacted

ToolOutcome = Literal["ok", "error", "timeout", "refused", "unknown", "invalid", "cancelled", "discarded"]
"""`refused`: not permitted. `unknown`: no such tool. `invalid`: the arguments do not fit. `discarded`: the call started
before its answer was complete, and the answer was not used; only journals receive it."""

_LONGEST_MESSAGE = 2000
"""Characters of an exception's text that are sent to a model."""

# By class, the first that matches: the outcome, and the word for it in the text for the model.
_KINDS: tuple[tuple[type[Exception], ToolOutcome, str], ...] = (
    (UnknownTool, "unknown", "unknown_tool"),
    # The same word, because it must not reveal whether the tool exists.
    (ToolDenied, "refused", "unknown_tool"),
    (InvalidArguments, "invalid", "invalid_arguments"),
    (ToolTimeout, "timeout", "timeout"),
    (OutcomeUnknown, "error", "outcome_unknown"),
    (Refused, "refused", "refused"),
    (ToolError, "error", "failed"),
)


def _parts(value: Iterable[Image | File]) -> tuple[Image | File, ...]:
    return tuple(value)


@attrs.frozen
class ToolResult:
    """The result of a tool call.

    A tool function may return one, with `text` for the model, `data` for the program and `parts` (images, files) for
    both; the registry fills in the other fields. Any other return value is converted to a result.
    """

    #: the id of the call
    call_id: str = ""
    #: the name of the tool
    name: str = attrs.field(default="", kw_only=True)
    #: text for the model; a failure is a JSON object with `error` and `message`
    text: str = attrs.field(default="", kw_only=True)
    #: value for the program: the return value of the tool function; None when it failed
    data: object = attrs.field(default=None, kw_only=True, eq=False, repr=False)
    #: images and files, which the model receives beside the text
    parts: tuple[Image | File, ...] = attrs.field(default=(), kw_only=True, converter=_parts)
    #: `ok`, `error`, `timeout`, `refused`, `unknown`, `invalid` (arguments), `cancelled` or `discarded`
    outcome: ToolOutcome = attrs.field(default="ok", kw_only=True)
    #: seconds that the call ran
    duration: float = attrs.field(default=0.0, kw_only=True)
    #: seconds that the call waited for a worker, for approval and for locks
    waited: float = attrs.field(default=0.0, kw_only=True)
    #: the error of a failed call; if `approve` failed, its error is the `__cause__`
    error: Exception | None = attrs.field(default=None, kw_only=True, eq=False)

    @property
    def message(self) -> Message:
        """The result as a message for the next request."""
        if not self.parts:
            return Message.tool(self.text, tool_call_id=self.call_id)
        text = (Text(self.text),) if self.text else ()
        return Message("tool", (*text, *self.parts), tool_call_id=self.call_id)


def outcome_of(error: Exception) -> ToolOutcome:
    """Return the outcome of a call that ended with *error*."""
    return next((outcome for kind, outcome, _ in _KINDS if isinstance(error, kind)), "error")


def error_text(error: Exception) -> str:
    """Return *error* as text for a model: short JSON with `error`, `message` and, if there are several, `problems`."""
    word = next((word for kind, _, word in _KINDS if isinstance(error, kind)), "failed")
    shown: dict[str, object] = {"error": word, "message": _short(str(error))}
    if isinstance(error, InvalidArguments):
        shown |= {
            "message": "The arguments do not fit.",
            "problems": [_short(str(one)) for one in error.problems],
        }
    return encode_json(shown).decode()


def contained(exc: BaseException, *, tool: str) -> ToolError | Refused:
    """Convert *exc*, raised by a tool, to the error of its call.

    Everything that a tool raises, `sys.exit` included, becomes the error of its call. Other exceptions are raised
    unchanged: cancellation from outside, KeyboardInterrupt, control flow of the caller.

    Raises:
      BaseException: the first part of *exc* that is not the tool's own, KeyboardInterrupt before others.
    """
    found = leaves(exc)
    foreign = [leaf for leaf in found if not isinstance(leaf, Exception | SystemExit)]
    if foreign:
        raise next((leaf for leaf in foreign if isinstance(leaf, KeyboardInterrupt)), foreign[0])
    if len(found) == 1 and isinstance(found[0], ToolError | Refused):
        return found[0]
    kind = ToolTimeout if all(isinstance(leaf, trio.TooSlowError) for leaf in found) else ToolFailed
    failed = kind("; ".join(map(_described, found)), tool=tool)
    failed.__cause__ = exc
    return failed


def _described(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return "the tool tried to end the program"
    try:
        # The output of another program may hold keys, in any of its lines; they are removed before the text is cut.
        text = cut_redacted(str(exc), _LONGEST_MESSAGE)
    except Exception:  # noqa: BLE001 - the error may be of any class; its class name is enough
        text = ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _short(text: str) -> str:
    return cut_redacted(text, _LONGEST_MESSAGE).encode(errors="replace").decode()
