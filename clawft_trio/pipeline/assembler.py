"""Trim conversations to the limits of a target and a sender.

The history is repaired first. Then its pieces (a message, or a call with its results) are added one by one, in order.
When they exceed the limit, the kept pieces are reduced at once to half of the limit:

1. whole turns (a user message and everything until the next one) are left out, oldest first, up to the turn before
   the current one, which stays if it fits;
2. in the current turn, tool results are replaced by one line each, oldest round first, except the last round;
3. then rounds of the current turn (calls with their results) are left out, oldest first, except the last round;
4. at the end, the results of the last round are cut in the middle, longest first.

So until the next reduction a longer history begins with the same bytes as the shorter one: prompt caches hit.

Never left out: system messages, the last user message, the last round. If these do not fit, the request is not
sent, unless it fits with a shorter answer: `ContextLengthExceeded` is raised at once, and another target may have a
larger window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from clawft_trio.auth import UserPermissions
from clawft_trio.chat import ChatRequest, Message, Text, ToolCall
from clawft_trio.errors import ContextLengthExceeded, PermissionDenied
from clawft_trio.llm.conform import mend
from clawft_trio.pipeline.stages import AssembledContext
from clawft_trio.pipeline.tokens import CountTokens, count_tokens, fixed_tokens, message_tokens
from clawft_trio.replacing import replaced
from clawft_trio.target import Target

CUT = "\n[... {} characters left out to fit ...]\n"

SHORTEST = 200
"""Characters to which a tool result may be cut, without the mark of the cut."""

WORTH_CLEARING = 400
"""Characters; a shorter result is not much longer than the line that would replace it, and is kept."""

_SHOWN_ARGUMENTS = 120
"""Characters of a call's arguments in the line that replaces its result."""


def result_line(call: ToolCall | None, size: int, more: str = "") -> str:
    """Return the line that replaces a result of *size* characters. *more* holds its time, or how to get it again."""
    made = "a tool" if call is None else f"{call.name}({_short_arguments(call.arguments)})"
    return f"[Result of {made}, {size} characters, cleared to save space.{more}]"


def _short_arguments(text: str) -> str:
    return text if len(text) <= _SHOWN_ARGUMENTS else f"{text[:_SHOWN_ARGUMENTS]}…"


@attrs.define
class _Piece:
    """Messages that stay together, their places in the conversation and estimated tokens."""

    messages: list[Message]
    places: list[int]
    tokens: int

    @property
    def role(self) -> str:
        return self.messages[0].role


def _pieces(messages: Sequence[Message], count: CountTokens) -> list[_Piece]:
    """Make a piece of each message, and of each call with its results. *messages* are repaired."""
    pieces: list[_Piece] = []
    for place, message in enumerate(messages):
        tokens = message_tokens(message, count)
        if message.role == "tool":
            pieces[-1].messages.append(message)
            pieces[-1].places.append(place)
            pieces[-1].tokens += tokens
        else:
            pieces.append(_Piece([message], [place], tokens))
    return pieces


@attrs.define(kw_only=True)
class _Kept:
    """The kept part of a conversation, to which pieces are added one by one."""

    #: limit in tokens for all pieces that are not system messages
    budget: int
    count: CountTokens
    system: list[_Piece] = attrs.field(factory=list)
    #: oldest first; the last one is the current turn
    turns: deque[list[_Piece]] = attrs.field(factory=deque)
    tokens: int = 0

    def take(self, piece: _Piece) -> None:
        """Add *piece*, and reduce the kept part if it exceeds the budget."""
        if piece.role == "system":
            self.system.append(piece)
            self.budget -= piece.tokens
        else:
            if piece.role == "user" or not self.turns:
                self.turns.append([])
            self.turns[-1].append(piece)
            self.tokens += piece.tokens
        if self.turns and self.tokens > self.budget:
            self._jump()

    def _jump(self) -> None:
        half = max(0, self.budget) // 2
        while self.tokens > half and len(self.turns) > 2:
            self._leave_out_turn()
        if self.tokens > self.budget and len(self.turns) > 1:
            self._leave_out_turn()
        if self.tokens > self.budget:
            self._clear_results(half)
        if self.tokens > self.budget:
            self._leave_out_rounds(half)

    def _leave_out_turn(self) -> None:
        self.tokens -= sum(piece.tokens for piece in self.turns.popleft())

    def _rounds(self) -> list[_Piece]:
        """Return the pieces of the current turn that may be changed or left out, oldest first."""
        turn = self.turns[-1]
        return turn[1:-1] if turn[0].role == "user" else turn[:-1]

    def _clear_results(self, goal: int) -> None:
        for piece in self._rounds():
            if self.tokens <= goal:
                return
            before = piece.tokens
            _clear(piece, self.count)
            self.tokens += piece.tokens - before

    def _leave_out_rounds(self, goal: int) -> None:
        turn = self.turns[-1]
        for piece in self._rounds():
            if self.tokens <= goal:
                return
            turn.remove(piece)
            self.tokens -= piece.tokens

    def shorten_last_round(self) -> int:
        """Cut the last round's results until everything fits; return how many were cut."""
        if self.tokens <= self.budget or not self.turns:
            return 0
        last = self.turns[-1][-1]
        before = last.tokens
        shortened = _shorten(last, self.tokens - self.budget, self.count)
        self.tokens += last.tokens - before
        return shortened

    def in_order(self) -> tuple[Message, ...]:
        pieces = (*self.system, *(piece for turn in self.turns for piece in turn))
        placed = [pair for piece in pieces for pair in zip(piece.places, piece.messages, strict=True)]
        return tuple(message for _, message in sorted(placed, key=lambda pair: pair[0]))


def _clear(piece: _Piece, count: CountTokens) -> None:
    calls = {call.id: call for call in piece.messages[0].tool_calls}
    for number, message in enumerate(piece.messages):
        if message.role == "tool" and len(message.text) >= WORTH_CLEARING:
            line = result_line(calls.get(message.tool_call_id or ""), len(message.text))
            cleared = Message.tool(line, tool_call_id=message.tool_call_id or "")
            piece.tokens += message_tokens(cleared, count) - message_tokens(message, count)
            piece.messages[number] = cleared


@attrs.frozen(kw_only=True)
class Trimmed:
    """A trimmed conversation."""

    messages: tuple[Message, ...]
    tokens: int
    #: number of tool results with cut text
    shortened: int = 0


def trim(messages: Sequence[Message], budget: int, *, count: CountTokens = count_tokens) -> Trimmed:
    """Trim repaired *messages* to *budget* tokens, by the rules at the top of the module.

    The result fits, unless nothing more may be left out.
    """
    kept = _Kept(budget=budget, count=count)
    for piece in _pieces(messages, count):
        kept.take(piece)
    shortened = kept.shorten_last_round()
    return Trimmed(messages=kept.in_order(), tokens=budget - kept.budget + kept.tokens, shortened=shortened)


def _shorten(piece: _Piece, excess: int, count: CountTokens) -> int:
    """Cut the tool results of *piece*, longest first, until *excess* tokens are saved or nothing is left to cut."""
    shortened = 0
    answers = [n for n, message in enumerate(piece.messages) if message.role == "tool"]
    for number in sorted(answers, key=lambda n: -message_tokens(piece.messages[n], count)):
        if excess <= 0:
            break
        before = piece.messages[number]
        after = _cut_to(before, message_tokens(before, count) - excess, count)
        saved = message_tokens(before, count) - message_tokens(after, count)
        if saved > 0:
            piece.messages[number] = after
            piece.tokens -= saved
            excess -= saved
            shortened += 1
    return shortened


def _cut_to(message: Message, tokens: int, count: CountTokens) -> Message:
    """Cut the middle of *message*'s text until it fits *tokens* or has the shortest length allowed."""
    text = message.text
    low, high = min(SHORTEST, len(text)), len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if message_tokens(_with_text(message, middle), count) <= tokens:
            low = middle
        else:
            high = middle - 1
    return _with_text(message, low)


def _with_text(message: Message, kept: int) -> Message:
    text = message.text
    head = (kept + 1) // 2
    short = text[:head] + CUT.format(len(text) - kept) + text[len(text) - (kept - head) :]
    others = tuple(part for part in message.content if not isinstance(part, Text))
    return attrs.evolve(message, content=(Text(short), *others))


def input_limit(request: ChatRequest, target: Target, permissions: UserPermissions) -> int:
    """Return the limit on input tokens: the target's window less the answer's part, within the sender's limit."""
    limits = [permissions.max_context_tokens]
    if target.max_context_tokens is not None:
        output = permissions.output_limit(request.max_tokens, window=target.max_context_tokens)
        limits.append(target.max_context_tokens - output)
    if target.max_input_tokens is not None:
        limits.append(target.max_input_tokens)
    return min(limits)


class TokenBudgetAssembler:
    """Fits each request to its target's window and to its sender's limits.

    Args:
      count: counts the tokens of a text; the default estimates.
    """

    def __init__(self, *, count: CountTokens = count_tokens) -> None:
        self._count = count

    async def assemble(self, request: ChatRequest, target: Target, permissions: UserPermissions) -> AssembledContext:
        """Repair and trim the conversation; set the target's model, the output limit and the permission to stream.

        Raises:
          ContextLengthExceeded: the part that must be kept does not fit, even with a shorter answer. If the limit is
            the sender's own, no other target helps.
          PermissionDenied: the sender's limit on output is 0.

        Cancellation: nothing is kept.
        """
        await trio.lowlevel.checkpoint()
        output = permissions.output_limit(request.max_tokens, window=target.max_context_tokens)
        if output < 1:
            raise PermissionDenied("this sender may not have any output: max_output_tokens is 0")
        mended = mend(request.messages)
        fixed = fixed_tokens(request, self._count)
        limit = input_limit(request, target, permissions)
        trimmed = trim(mended, limit - fixed, count=self._count)
        tokens = fixed + trimmed.tokens
        if tokens > limit:
            # The part that must be kept may still fit with a shorter answer.
            less = _output_beside(tokens, output, target, permissions)
            if less is None:
                raise _too_long(target, tokens, limit, permissions)
            output = less
        changes: dict[str, Any] = {
            "messages": trimmed.messages,
            "model": target.model,
            "max_tokens": output,
            "stream": request.stream and permissions.streaming_allowed,
        }
        return AssembledContext(
            request=replaced(request, **changes),
            token_estimate=tokens,
            dropped=len(mended) - len(trimmed.messages),
            shortened=trimmed.shortened,
        )


_LEAST_SHARE = 16
"""Divisor of the window for the smallest limit on the answer that is worth a request."""


def _output_beside(tokens: int, output: int, target: Target, permissions: UserPermissions) -> int | None:
    """Return the limit on the answer with which *tokens* fit the window of *target*; None when they do not fit."""
    window, most = target.max_context_tokens, target.max_input_tokens
    if window is None or tokens > permissions.max_context_tokens or (most is not None and tokens > most):
        return None
    room = min(output, window - tokens)
    return room if room >= min(output, window // _LEAST_SHARE) and room > 0 else None


def _too_long(target: Target, tokens: int, limit: int, permissions: UserPermissions) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"the part that must be kept is about {tokens} tokens, and the limit is {limit}; not sent",
        provider=target.provider,
        model=target.model,
        curable_elsewhere=limit < permissions.max_context_tokens,
    )
