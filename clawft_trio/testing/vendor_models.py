"""Checks of one request body for reasoning and options that some models refuse. Independent of `llm`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from clawft_trio.chat import JsonObject
from clawft_trio.testing.vendor_checks import Check, Complaint, calls_of, function_of, messages_of

# platform.openai.com, Reasoning and "Using GPT-5.2" (temperature while the effort is none), and for `stop`
# huggingface/smolagents#1671, crewAIInc/crewAI#4149 and rocketride-org/rocketride-server#1538.
OPENAI_REASONS = r"(^|/)(o[1345]($|-)|gpt-5(?!-chat))"
COOL = r"(^|/)gpt-5\.[1-9](?!.*(chat|pro|codex))"
KIMI_THINKS = r"kimi-k2\.[5-9]|kimi-k[3-9]|kimi.*thinking|kimi-for-coding"
DEEPSEEK_THINKS = r"reasoner|deepseek-v[4-9]|deepseek-(flash|pro)"


def reasoning_comes_back(models: str, *, blank_counts: bool) -> Check:
    """Moonshot: "thinking is enabled but reasoning_content is missing in assistant tool call message"
    (anomalyco/opencode#10811), also for an empty one (llmgateway#2093); DeepSeek in thinking mode: "The
    `reasoning_content` in the thinking mode must be passed back to the API." (langchain-ai/langchain#37713).
    """

    def check(body: JsonObject) -> Iterator[Complaint]:
        if not re.search(models, str(body.get("model"))) or _is_off(body):
            return
        for message in messages_of(body):
            reasoning = message.get("reasoning_content")
            if calls_of(message) and (reasoning is None or (blank_counts and reasoning == "")):
                yield Complaint("thinking is enabled but reasoning_content is missing in assistant tool call message")

    return check


def _is_off(body: JsonObject) -> bool:
    options = body.get("thinking")
    return isinstance(options, Mapping) and options.get("type") == "disabled"


def kimi_temperature(body: JsonObject) -> Iterator[Complaint]:
    """Moonshot: "invalid temperature: only 1 is allowed for this model" (CherryHQ/cherry-studio#14573); 0.6 without
    thinking (MoonshotAI/kimi-code#686).
    """
    only = 0.6 if _is_off(body) else 1
    if re.search(KIMI_THINKS, str(body.get("model"))) and body.get("temperature") not in {None, only}:
        yield Complaint(f"invalid temperature: only {only} is allowed for this model")


def no_forced_tools(*values: str, models: str = "") -> Check:
    """The accepted values of `tool_choice`; it cannot name a tool. Moonshot: "does not support the tool_choice=required
    parameter" (its guide to migrating); DeepSeek in thinking mode (pydantic-ai's DeepSeek provider).
    """

    def check(body: JsonObject) -> Iterator[Complaint]:
        choice = body.get("tool_choice")
        if re.search(models, str(body.get("model"))) and choice is not None and choice not in values:
            yield Complaint(f"tool_choice {choice!r} is not supported", param="tool_choice")

    return check


def temperature_only_unreasoned(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: reasoning models accept only a temperature of 1; from gpt-5.1 on any, while the effort is `none`."""
    model, effort = str(body.get("model")), body.get("reasoning_effort")
    if not re.search(OPENAI_REASONS, model) or body.get("temperature") in {None, 1}:
        return
    if re.search(COOL, model) and (effort == "none" or (effort is None and not re.search(r"gpt-5\.[5-9]", model))):
        return
    yield Complaint(
        f"Unsupported value: 'temperature' does not support {body['temperature']} with this model.",
        param="temperature",
        code="unsupported_value",
    )


def calls_are_signed(body: JsonObject) -> Iterator[Complaint]:
    """Gemini 3: "Function call is missing a thought_signature in functionCall parts": in each message with calls, the
    first call has one; `skip_thought_signature_validator` is documented for calls of other models (ai.google.dev,
    Thought signatures; nanbingxyz/5ire#405).
    """
    if "gemini-3" not in str(body.get("model")):
        return
    for message in messages_of(body):
        first = next(iter(calls_of(message)), None)
        if first is None:
            continue
        extra = first.get("extra_content")
        google = extra.get("google") if isinstance(extra, Mapping) else None
        if not isinstance(google, Mapping) or not google.get("thought_signature"):
            yield Complaint(f"Function call `{function_of(first).get('name')}` is missing a `thought_signature`.")


def calls_follow_users(body: JsonObject) -> Iterator[Complaint]:
    """Google: "function call turn comes immediately after a user turn or after a function response turn"."""
    previous = ""
    for message in messages_of(body):
        if message.get("role") in {"system", "developer"}:
            continue
        if calls_of(message) and previous not in {"user", "tool"}:
            yield Complaint("Please ensure that function call turn comes immediately after a user turn")
        previous = str(message.get("role"))


def one_thinking_form(body: JsonObject) -> Iterator[Complaint]:
    """Google: `reasoning_effort` and `thinking_config` together are refused."""
    google = (body.get("extra_body") or {}).get("google") or {}
    if "thinking_config" in google and "reasoning_effort" in body:
        yield Complaint("Expected one of either `reasoning_effort` or `thinking_config`")
