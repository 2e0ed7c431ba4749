"""What of a conversation a model gets: the one place that trims.

First the history is mended, then, if it does not fit, trimmed in this order until it does:

1. whole turns (a question and everything that came of it), oldest first;
2. of the current turn, rounds of tool calls with their answers, oldest first, but not the last one;
3. the texts of the last round's tool answers are cut in the middle, longest first.

Never left out: system messages, the last user message, the last round. If that does not fit, the request is not
sent: `ContextLengthExceeded` says so at once, and another target may have a larger window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import attrs
import trio

from clawft_trio.auth import UserPermissions
from clawft_trio.chat import ChatRequest, Message, Text
from clawft_trio.errors import ContextLengthExceeded, PermissionDenied
from clawft_trio.llm.conform import mend
from clawft_trio.pipeline.stages import AssembledContext, Target
from clawft_trio.pipeline.tokens import CountTokens, count_tokens, fixed_tokens, message_tokens

CUT = "\n[... {} characters left out to fit ...]\n"

SHORTEST = 200
"""Characters to which a tool answer may be cut, its mark not counted."""


# --- dividing ----------------------------------------------------------------------------------------


@attrs.define
class _Piece:
    """Messages that stay together, with what they cost and where they stood."""

    messages: list[Message]
    places: list[int]
    tokens: int

    def __iadd__(self, other: _Piece) -> Self:
        self.messages += other.messages
        self.places += other.places
        self.tokens += other.tokens
        return self


def _pieces(messages: Sequence[Message], count: CountTokens) -> list[_Piece]:
    """Each message by itself, but a call together with its answers. *messages* are mended."""
    pieces: list[_Piece] = []
    for place, message in enumerate(messages):
        piece = _Piece([message], [place], message_tokens(message, count))
        if message.role == "tool":
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


@attrs.define
class _Divided:
    """A conversation by what may be left out of it."""

    #: of everything that is still in it
    tokens: int
    #: system messages and the last user message
    pinned: list[_Piece] = attrs.field(factory=list)
    #: earlier turns, oldest first
    turns: list[_Piece] = attrs.field(factory=list)
    #: the current turn's rounds, oldest first
    rounds: list[_Piece] = attrs.field(factory=list)

    def leave_out(self, pieces: list[_Piece]) -> None:
        """Drop the oldest of *pieces*."""
        self.tokens -= pieces.pop(0).tokens

    def shorten_last_round(self, excess: int, count: CountTokens) -> int:
        """Cut the last round's answers by *excess* tokens; returns how many were cut."""
        before = self.rounds[-1].tokens
        shortened = _shorten(self.rounds[-1], excess, count)
        self.tokens -= before - self.rounds[-1].tokens
        return shortened

    def in_order(self) -> tuple[Message, ...]:
        placed = [
            pair for p in (*self.pinned, *self.turns, *self.rounds) for pair in zip(p.places, p.messages, strict=True)
        ]
        return tuple(message for _, message in sorted(placed, key=lambda pair: pair[0]))


def _divide(messages: Sequence[Message], count: CountTokens) -> _Divided:
    pieces = _pieces(messages, count)
    question = max((n for n, piece in enumerate(pieces) if piece.messages[0].role == "user"), default=-1)
    divided = _Divided(tokens=sum(piece.tokens for piece in pieces))
    for number, piece in enumerate(pieces):
        role = piece.messages[0].role
        if role == "system" or number == question:
            divided.pinned.append(piece)
        elif number > question:
            divided.rounds.append(piece)
        elif role == "user" or not divided.turns:
            divided.turns.append(piece)
        else:
            divided.turns[-1] += piece
    return divided


# --- trimming ----------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Trimmed:
    """What is left of a conversation."""

    messages: tuple[Message, ...]
    tokens: int
    #: tool answers whose text was cut
    shortened: int = 0


def trim(messages: Sequence[Message], budget: int, *, count: CountTokens = count_tokens) -> Trimmed:
    """Make mended *messages* fit *budget* tokens, by the module's rules.

    What is left fits, unless nothing more may be left out.
    """
    divided = _divide(messages, count)
    for pieces, kept in ((divided.turns, 0), (divided.rounds, 1)):
        while divided.tokens > budget and len(pieces) > kept:
            divided.leave_out(pieces)
    shortened = 0
    if divided.tokens > budget and divided.rounds:
        shortened = divided.shorten_last_round(divided.tokens - budget, count)
    return Trimmed(messages=divided.in_order(), tokens=divided.tokens, shortened=shortened)


def _shorten(piece: _Piece, excess: int, count: CountTokens) -> int:
    """Cut tool answers of *piece*, longest first, until *excess* tokens are gone or nothing is left to cut."""
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
    """*message* with the middle of its text left out: as much as fits *tokens*, or as little as there may be."""
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


# --- the stage ---------------------------------------------------------------------------------------


def output_limit(request: ChatRequest, target: Target, permissions: UserPermissions) -> int:
    """How many tokens the answer may have: what was asked for, within the sender's limit and half of the window."""
    limits = (request.max_tokens, permissions.max_output_tokens, _half(target.max_context_tokens))
    return min(limit for limit in limits if limit is not None)


def _half(window: int | None) -> int | None:
    return None if window is None else max(1, window // 2)


def input_limit(request: ChatRequest, target: Target, permissions: UserPermissions) -> int:
    """How many tokens may go in: the routed model's window minus the answer's share, within the sender's limit."""
    if target.max_context_tokens is None:
        return permissions.max_context_tokens
    room = target.max_context_tokens - output_limit(request, target, permissions)
    return min(room, permissions.max_context_tokens)


class TokenBudgetAssembler:
    """Fits each request to the target that gets it and to what its sender may send.

    Args:
      count: tokens of a text; the default estimates.
    """

    def __init__(self, *, count: CountTokens = count_tokens) -> None:
        self._count = count

    async def assemble(self, request: ChatRequest, target: Target, permissions: UserPermissions) -> AssembledContext:
        """Mend and trim the conversation, and put in the target's model, the answer's limit and the streaming right.

        Raises:
          ContextLengthExceeded: what must not be left out does not fit. Where it is the sender's own limit, no other
            target helps.
          PermissionDenied: the sender may not have any output.

        Cancellation: nothing is kept.
        """
        await trio.lowlevel.checkpoint()
        output = output_limit(request, target, permissions)
        if output < 1:
            raise PermissionDenied("this sender may not have any output: max_output_tokens is 0")
        mended = mend(request.messages)
        fixed = fixed_tokens(request, self._count)
        limit = input_limit(request, target, permissions)
        trimmed = trim(mended, limit - fixed, count=self._count)
        tokens = fixed + trimmed.tokens
        if tokens > limit:
            raise _too_long(target, tokens, limit, permissions)
        changes: dict[str, Any] = {
            "messages": trimmed.messages,
            "model": target.model,
            "max_tokens": output,
            "stream": request.stream and permissions.streaming_allowed,
        }
        return AssembledContext(
            request=attrs.evolve(request, **changes),
            token_estimate=tokens,
            dropped=len(mended) - len(trimmed.messages),
            shortened=trimmed.shortened,
        )


def _too_long(target: Target, tokens: int, limit: int, permissions: UserPermissions) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"what cannot be left out is about {tokens} tokens, and {limit} may go in; not sent",
        provider=target.provider,
        model=target.model,
        curable_elsewhere=limit < permissions.max_context_tokens,
    )
