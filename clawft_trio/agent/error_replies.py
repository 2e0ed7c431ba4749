"""Error replies: the reply to a message that could not be answered, with the reason in a sentence for the sender."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from clawft_trio.errors import (
    AuthFailed,
    BudgetExceeded,
    ClawftError,
    ContentFiltered,
    ContextLengthExceeded,
    EmptyQuestion,
    InvalidAnswer,
    NotConfigured,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimitExceeded,
    StoreError,
    TurnCancelled,
    TurnInterrupted,
    TurnTimeout,
)
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.nursery import leaves

# By class, the first that matches. The error's own text is not used: it is written for the operator, and may hold more
# than the sender may read.
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (RateLimitExceeded, "You are asking faster than I may answer."),
    (BudgetExceeded, "The budget for your questions is spent."),
    (PermissionDenied, "You do not have the permission for that."),
    (ContextLengthExceeded, "This conversation has become too long for the model. Please start a new one."),
    (ContentFiltered, "The model's provider refuses to answer that."),
    (NotConfigured, "I am not set up completely, so I cannot answer. Please ask the operator to check it."),
    (AuthFailed, "The model's provider does not accept my key. Please ask the operator to check it."),
    (QuotaExhausted, "The account at the model's provider is used up. Please ask the operator to check it."),
    (InvalidAnswer, "The model did not manage to answer in the form that was asked for."),
    (ProviderError, "No model could answer just now. Please try again."),
    (EmptyQuestion, "Your message has no text, image or file that I can read. Please write what you need."),
    (TurnTimeout, "This took too long, and I gave up. Please try again, perhaps with a smaller question."),
    (TurnCancelled, "Stopped."),
    (TurnInterrupted, "I was interrupted several times while working on this, and gave up. Please try again."),
    (StoreError, "I cannot store what I do at the moment, so I stopped. Please try again."),
)
_TRY_AGAIN = " Please try again."
_UNKNOWN = "Something went wrong here, and I cannot answer. It has been noted. Please try again."


def failure_reply(message: InboundMessage, error: BaseException) -> OutboundMessage:
    """Make the final reply to *message* when its turn ended with *error*.

    `metadata["error"]` is the class's name, `metadata["retry_after"]` the seconds until a retry makes sense, if they
    are known.
    """
    cause = decisive_error(error)
    metadata: dict[str, Any] = {"error": type(cause).__name__}
    words = next((words for kind, words in _WORDS if isinstance(cause, kind)), _UNKNOWN)
    if isinstance(cause, BudgetExceeded) and cause.limit is not None:
        if isinstance(cause.spent, Decimal) and isinstance(cause.limit, Decimal) and cause.spent < cause.limit:
            words = "What is left of the budget for your questions does not cover this one."
        words += f" {_figures(cause)}"
        metadata["budget"] = {name: str(getattr(cause, name)) for name in ("unit", *_FIGURES)}
    wait = cause.retry_after if isinstance(cause, ClawftError) else None
    if wait is not None and math.isfinite(wait):
        metadata["retry_after"] = wait
        words = f"{words.removesuffix(_TRY_AGAIN)}{_TRY_AGAIN[:-1]} in {duration(wait)}."
    return OutboundMessage(
        channel=message.channel, chat_id=message.chat_id, content=words, reply_to=message.id, metadata=metadata
    )


_FIGURES = ("limit", "spent", "reserved", "estimate")


def _figures(error: BudgetExceeded) -> str:
    """Return the figures of a budget that did not cover a call, as a sentence."""
    limit, spent, reserved, estimate = (_amount(getattr(error, name), error.unit) for name in _FIGURES)
    asked = f"this needs up to {estimate}" if error.estimate is not None else "what this costs is not known"
    return f"Limit {limit}, spent {spent}, reserved {reserved}; {asked}."


def _amount(amount: object, unit: str) -> str:
    if not isinstance(amount, Decimal):
        return "unknown" if amount is None else str(amount)
    if unit == "usd":
        # Cents, and more digits if the amount would look like 0 otherwise.
        return f"${amount:.2f}" if amount == round(amount, 2) else f"${amount:.3g}" if amount < 1 else f"${amount:.4f}"
    return f"{amount:f} {unit.removesuffix('s') if amount == 1 else unit}"


def decisive_error(error: BaseException) -> BaseException:
    """Return the error of a group that is most useful to the sender."""
    found = leaves(error)
    return next((exc for kind, _ in _WORDS for exc in found if isinstance(exc, kind)), found[0])


def duration(seconds: float) -> str:
    """Return *seconds* as words, such as `5 minutes`."""
    for limit, unit, name in ((100, 1, "second"), (100 * 60, 60, "minute"), (48 * 3600, 3600, "hour")):
        if seconds < limit:
            count = max(1, math.ceil(seconds / unit))
            return f"{count} {name}{'s' if count != 1 else ''}"
    return f"{math.ceil(seconds / 86400)} days"
