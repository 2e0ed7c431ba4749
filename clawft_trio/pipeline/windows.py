"""Context windows of targets: known sizes, and limits learnt from refusals.

A window comes from the router's target (a tier of the configuration), from the configuration's `context_windows`, from
an installed list of models, or from the table of models below. A refusal lowers the limit for later requests to that
target: to the size in a typed field of the refusal, or below the refused size. Sizes decide, never the text of an
error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TypeAlias

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.errors import ContextLengthExceeded, RequestRejected, ServerError
from clawft_trio.llm.catalog import KNOWN
from clawft_trio.pipeline.stages import AssembledContext
from clawft_trio.target import Target

WindowOf: TypeAlias = Callable[[Target], int | None]
"""Returns the context window of a target in tokens, input and output together; None when it is not known."""

MODEL_WINDOWS: Mapping[str, int] = MappingProxyType(
    {
        # From the vendors' model pages and genai-prices 0.2.3, November 2026. The first pattern that matches applies;
        # a pattern has the smallest of its models' windows, because too small a value only leaves a part unused.
        "anthropic/claude-sonnet-5*": 1_000_000,
        "anthropic/claude-opus-5*": 1_000_000,
        "anthropic/claude-haiku-5*": 1_000_000,
        "anthropic/claude-[fm]*-5*": 1_000_000,
        "anthropic/claude-sonnet-4-6*": 1_000_000,
        "anthropic/claude-opus-4-[678]*": 1_000_000,
        "anthropic/claude-*": 200_000,
        "openai/gpt-3.5*": 16_385,
        "openai/gpt-4.1*": 1_000_000,
        "openai/gpt-4o*-realtime*": 16_000,
        "openai/gpt-4o*-transcribe*": 16_000,
        "openai/gpt-4o*": 128_000,
        "openai/gpt-4-turbo*": 128_000,
        "openai/gpt-4-[0v1]*-preview": 128_000,
        "openai/gpt-4-32k*": 32_000,
        "openai/gpt-4*": 8_192,
        "openai/gpt-5*chat*": 128_000,
        "openai/gpt-5.3": 128_000,
        "openai/gpt-5.4-[mn]*": 400_000,
        "openai/gpt-5.[456]*": 1_000_000,
        "openai/gpt-5*": 400_000,
        "openai/gpt-6*": 1_050_000,
        "openai/gpt-oss*": 131_072,
        "openai/o1-mini*": 128_000,
        "openai/o1-preview*": 128_000,
        "openai/o[134]*": 200_000,
        "gemini/gemini-*tts*": 8_192,
        "gemini/gemini-*": 1_000_000,
        "deepseek/deepseek-v4*": 1_000_000,
        "deepseek/*": 128_000,
        "xai/grok-4*fast*": 2_000_000,
        "xai/grok-4.[2-3]*": 1_000_000,
        "xai/grok-4.*": 500_000,
        "xai/grok-4*": 256_000,
        "xai/grok-code*": 256_000,
        "xai/grok-3*": 131_072,
        "mistral/mistral-[lms]*": 128_000,
        "mistral/codestral-2*": 128_000,
        "mistral/[dm][ei]*stral-*": 128_000,
        "moonshot/kimi-k3*": 1_048_576,
        "moonshot/kimi-k2-0711*": 131_072,
        "moonshot/kimi-k2*": 262_144,
        "moonshot/moonshot-v1-8k*": 8_192,
        "moonshot/moonshot-v1-32k*": 32_768,
        "moonshot/moonshot-v1-128k*": 131_072,
        "groq/openai/gpt-oss*": 131_072,
        "cerebras/gpt-oss*": 131_072,
        "zhipu/glm-4.7*": 200_000,
        "zhipu/glm-5*": 200_000,
        "zhipu/glm-4.[56]*": 128_000,
        "minimax/MiniMax-M2*": 204_800,
        "perplexity/sonar*": 128_000,
    }
)
"""Windows of models at their own vendors, by pattern of `provider/model`."""

KEPT_FOR_OUTPUT: Mapping[str, int] = MappingProxyType(
    {
        # "Input tokens exceed the configured limit of 272000 tokens", of 400 000: the rest is reserved for the answer,
        # however short it is. Likewise for 1 050 000, of which input may take 922 000.
        "openai/gpt-[5-9]*": 128_000,
        "azure/gpt-[5-9]*": 128_000,
    }
)
"""Tokens of large windows that only output may use, by pattern of `provider/model`."""

LARGE = 400_000
"""Tokens of a window from which a part of it is reserved for output."""

NEAR = 0.75
"""Share of a known window from which a refusal without a reason counts as one of length. The estimate of tokens may be
a fifth too low, and some vendors add the allowed output."""

_SHORTEST = 256
"""Estimated tokens: no model has a smaller window."""

_WITHOUT_REASON = frozenset({"BadRequestError", "validation"})
"""Codes of vLLM, SGLang and text-generation-inference for every request that they refuse, too much output included. Of
servers with codes for lengths, a refusal of a first message is about something else."""

LEAST_OUTPUT = 256
"""Tokens of output; a limit on output is not lowered below it."""

_TARGETS = 1000
"""Number of targets whose refusals are stored: as many as can be open."""


def by_pattern(windows: Mapping[str, int]) -> WindowOf:
    """Make a lookup of windows by patterns of `provider/model`; the first that matches applies."""

    def look_up(target: Target) -> int | None:
        return next((tokens for pattern, tokens in windows.items() if fnmatchcase(target.name, pattern)), None)

    return look_up


def input_window(target: Target, window: int) -> int:
    """Return the part of *window* for a request to *target* with its answer: some vendors reserve a part for output."""
    kept = by_pattern(KEPT_FOR_OUTPUT)(target)
    return window if kept is None or window < LARGE else window - kept


def is_self_hosted(target: Target) -> bool:
    """Whether *target* is a local server, or a provider that is not in the catalog, rather than a known vendor."""
    known = KNOWN.get(target.provider)
    return known is None or known.local


@attrs.define
class _Learnt:
    """Limits learnt from one target, in estimated input tokens."""

    #: largest allowed size; None when nothing was refused
    limit: int | None = None
    #: size of the largest answered request
    accepted: int = 0
    #: largest sum of the tokens and the allowed output of an answered request
    accepted_sum: int = 0
    #: largest limit on output to request; None when no output was refused
    output: int | None = None


class Windows:
    """The windows of targets, and the limits learnt from refusals.

    Args:
      known: returns the windows of targets that have none themselves.
      self_hosted: returns whether a target is the user's own server, which may answer a long request with status 500.
    """

    def __init__(
        self,
        known: WindowOf = by_pattern(MODEL_WINDOWS),  # noqa: B008 - pure, and made once
        *,
        self_hosted: Callable[[Target], bool] = is_self_hosted,
    ) -> None:
        self._known = known
        self._self_hosted = self_hosted
        self._learnt: OrderedDict[str, _Learnt] = OrderedDict()
        #: called whenever a refusal lowers a limit
        self.on_learnt: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Windows {dict(self.learnt())}>"

    def learnt(self) -> Mapping[str, int]:
        """Return the learnt limits in estimated tokens, by target."""
        return {name: learnt.limit for name, learnt in self._learnt.items() if learnt.limit is not None}

    def restore(self, target: str, limit: int) -> None:
        """Set the limit that `learnt` returned in an earlier process for *target*."""
        self._of(target).limit = max(1, limit)

    def applied(self, target: Target) -> Target:
        """Return *target* with its known window and learnt limit."""
        window = self._known(target) if target.max_context_tokens is None else target.max_context_tokens
        learnt = self._learnt.get(target.name)
        limit = None if learnt is None else learnt.limit
        if window == target.max_context_tokens and limit is None:
            return target
        limits = [tokens for tokens in (limit, target.max_input_tokens) if tokens is not None]
        return attrs.evolve(target, max_context_tokens=window, max_input_tokens=min(limits, default=None))

    def output_limit(self, target: Target) -> int | None:
        """Return the largest limit on output for *target*; None when it refused none."""
        learnt = self._learnt.get(target.name)
        return None if learnt is None else learnt.output

    def accepted(self, target: Target, tokens: int, output: int = 0) -> None:
        """Record that *target* answered a request of *tokens* that allowed *output*."""
        learnt = self._of(target.name)
        if learnt.limit is not None and tokens > learnt.limit:
            # The earlier refusal was of the allowed output, not of the length.
            learnt.limit = None
        learnt.accepted = max(learnt.accepted, tokens)
        learnt.accepted_sum = max(learnt.accepted_sum, tokens + output)

    def refused_output(self, target: Target, output: int) -> None:
        """Record that *target* refused a request for its allowed output, and answered it with a limit of *output*."""
        self._of(target.name).output = output

    def refused(self, target: Target, tokens: int, error: ContextLengthExceeded | None = None) -> None:
        """Record that *target* refused a request of *tokens* as too long; *error* may name the window.

        After longer requests were answered, the target must refuse a length twice: the first refusal may have had
        another cause.
        """
        learnt = self._of(target.name)
        limit = tokens - 1
        if error is not None and error.window is not None:
            # The server counts with its own tokenizer: the ratio of the two counts converts its window to our tokens.
            ratio = tokens / error.prompt_tokens if error.prompt_tokens else 1.0
            limit = min(limit, int(error.window * ratio))
        elif tokens <= learnt.accepted:
            learnt.accepted = tokens - 1
            return
        before = learnt.limit
        learnt.limit = max(1, limit if before is None else min(before, limit))
        if learnt.limit != before:
            self.on_learnt()

    def means_too_long(self, error: Exception, target: Target, tokens: int, output: int = 0) -> bool:
        """Whether *error*, a refusal of *tokens* by *target* without a reason, counts as a refusal of length.

        It does when the request is near what the target's known window leaves beside *output*, or exceeds it.
        """
        window = self.applied(target).max_context_tokens
        return window is not None and tokens >= NEAR * (window - output) and self._is_unexplained(error, target)

    def may_be_too_long(self, error: Exception, target: Target, sent: AssembledContext) -> bool:
        """Whether a shorter request should test if *error* is a refusal of length.

        Only for a target without a known window: when *sent* continues a conversation and is longer than every request
        that this target has answered, or nearly as long, as tokens are estimated; or when *sent* allows more output
        than it has input, and the server is one that counts both and gives no reasons.
        """
        if self.applied(target).max_context_tokens is not None or not self._is_unexplained(error, target):
            return False
        learnt = self._learnt.get(target.name) or _Learnt()
        longer = sent.token_estimate > max(_SHORTEST, NEAR * learnt.accepted)
        return (longer and _continues(sent.request)) or self._may_allow_too_much(error, sent, learnt)

    def allows_too_much(self, target: Target, sent: AssembledContext) -> bool:
        """Whether the allowed output of *sent* is the likely reason: it is the larger part, and *target* has answered
        nothing yet.
        """
        learnt = self._learnt.get(target.name)
        return is_mostly_output(sent) and (learnt is None or not learnt.accepted)

    def _may_allow_too_much(self, error: Exception, sent: AssembledContext, learnt: _Learnt) -> bool:
        output = sent.request.max_tokens or 0
        both = sent.token_estimate + output
        # No server answers with status 500 because of the limit on output.
        if not isinstance(error, RequestRejected) or error.code not in _WITHOUT_REASON:
            return False
        return is_mostly_output(sent) and both > learnt.accepted_sum

    def _is_unexplained(self, error: Exception, target: Target) -> bool:
        # Not subclasses, which have a reason. Anthropic and vLLM refuse long requests with a bare 400, text-generation
        # servers with a bare 422; inside a stream there is no status. Ollama shortens the conversation itself, and
        # answers with status 500 if nothing is left to answer, or if its runner has failed.
        if type(error) is RequestRejected:
            return error.status in {400, 422, None}
        return type(error) is ServerError and error.status == 500 and self._self_hosted(target)

    def _of(self, target: str) -> _Learnt:
        learnt = self._learnt.setdefault(target, _Learnt())
        self._learnt.move_to_end(target)
        while len(self._learnt) > _TARGETS:
            self._learnt.popitem(last=False)
        return learnt


def is_mostly_output(sent: AssembledContext) -> bool:
    """Whether *sent* allows more output than it has input, and more than `LEAST_OUTPUT`."""
    return (sent.request.max_tokens or 0) > max(LEAST_OUTPUT, sent.token_estimate)


def _continues(request: ChatRequest) -> bool:
    """Whether *request* holds more than the beginning of a conversation: only then can it be shortened."""
    roles = [message.role for message in request.messages]
    return "assistant" in roles or roles.count("user") > 1
