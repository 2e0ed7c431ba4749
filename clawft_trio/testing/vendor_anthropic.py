"""Checks of one request body for what Anthropic's Messages API refuses.

Sources: docs.claude.com, "Messages", "Tool use", "Extended thinking", "Errors"; the texts of its 400s are in
maximhq/bifrost#5097 for ids, anthropics/claude-code#6774 for empty content, #8612 for pairs, #4378 for unknown fields.
Independent of `llm`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clawft_trio.chat import JsonObject
from clawft_trio.testing.vendor_checks import Complaint, messages_of, objects
from clawft_trio.testing.vendor_schemas import inner_schemas

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# docs.claude.com, "What's new"; pydantic-ai's profile of Anthropic's models (August 2026).
_NO_PREFILL = r"claude-(opus|sonnet)-4-6|claude-opus-4-[789]|claude-(opus|sonnet|haiku|fable|mythos)-[5-9]"
_NO_SAMPLING = r"claude-opus-4-[789]|claude-(opus|sonnet|haiku|fable|mythos)-[5-9]"
_ADAPTIVE = r"claude-(opus|sonnet)-4-[6-9]|claude-(opus|sonnet|haiku|fable|mythos)-[5-9]"
_NO_FORCED_TOOLS = r"claude-(fable|mythos)"
_EFFORTS = r"claude-opus-4-[5-9]|claude-sonnet-4-[6-9]|claude-(opus|sonnet|haiku|fable|mythos)-[5-9]"
_KNOWN = frozenset(
    {"model", "messages", "max_tokens", "system", "stream", "tools", "tool_choice", "temperature", "top_p", "top_k",
     "stop_sequences", "thinking", "output_config", "metadata", "service_tier", "container", "mcp_servers",
     "context_management", "cache_control", "inference_geo", "output_format", "speed"}
)  # fmt: skip


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the content blocks of a message; a string is one text block."""
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)


def required_fields(body: JsonObject) -> Iterator[Complaint]:
    """`model`, `max_tokens` and `messages` are required ("messages: at least one message is required")."""
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield Complaint("max_tokens: Field required")
    if not messages_of(body):
        yield Complaint("messages: at least one message is required")
    for name in body.keys() - _KNOWN:
        yield Complaint(f"{name}: Extra inputs are not permitted")


def roles(body: JsonObject) -> Iterator[Complaint]:
    """The first message is the user's; from Opus and Sonnet 4.6 on so is the last ("This model does not support
    assistant message prefill. The conversation must end with a user message.").
    """
    messages = messages_of(body)
    for place, message in enumerate(messages):
        if message.get("role") not in {"user", "assistant"}:
            yield Complaint(f"messages.{place}.role: Input should be 'user' or 'assistant'")
    if messages and messages[0].get("role") != "user":
        yield Complaint('messages: first message must use the "user" role')
    if messages and messages[-1].get("role") == "assistant":
        if re.search(_NO_PREFILL, str(body.get("model"))):
            yield Complaint("This model does not support assistant message prefill.")
        last = blocks_of(messages[-1])
        if last and last[-1].get("type") == "text" and last[-1]["text"] != last[-1]["text"].rstrip():
            yield Complaint("messages: final assistant content cannot end with trailing whitespace")


def contents(body: JsonObject) -> Iterator[Complaint]:
    """"all messages must have non-empty content except for the optional final assistant message", "text content blocks
    must be non-empty", "text content blocks must contain non-whitespace text".
    """  # fmt: skip
    for place, message in enumerate(messages_of(body)):
        blocks = blocks_of(message)
        if not blocks:
            yield Complaint(f"messages.{place}: all messages must have non-empty content")
        for block in [*blocks, *(inner for one in blocks for inner in objects(one.get("content")))]:
            if block.get("type") == "text" and not str(block.get("text") or "").strip():
                yield Complaint(f"messages.{place}: text content blocks must contain non-whitespace text")
    for block in objects(body.get("system")):
        if not str(block.get("text") or "").strip():
            yield Complaint("system: text content blocks must be non-empty")


def tool_use(body: JsonObject) -> Iterator[Complaint]:
    """Ids match `^[a-zA-Z0-9_-]+$` and are unique; `input` is an object; each `tool_use` has its `tool_result` at the
    beginning of the next message ("tool_use ids were found without tool_result blocks immediately after").
    """
    seen: set[str] = set()
    waiting: set[str] = set()
    for place, message in enumerate(messages_of(body)):
        blocks = blocks_of(message)
        results = [block for block in blocks if block.get("type") == "tool_result"]
        answered = {str(block.get("tool_use_id")) for block in results}
        if waiting - answered:
            yield Complaint(f"messages.{place}: tool_use ids were found without tool_result blocks immediately after")
        if answered - waiting or len(answered) < len(results):
            yield Complaint(f"messages.{place}: unexpected tool_use_id found in tool_result blocks")
        kinds = [block.get("type") for block in blocks]
        if results and kinds[: len(results)] != ["tool_result"] * len(results):
            yield Complaint(f"messages.{place}: tool_result blocks must come first")
        waiting = set()
        for block in blocks:
            if block.get("type") != "tool_use":
                continue
            if message.get("role") != "assistant":
                yield Complaint(f"messages.{place}: `tool_use` blocks can only be in assistant messages")
            id_ = str(block.get("id"))
            yield from _one_use(block, id_, place)
            if id_ in seen:
                yield Complaint(f"messages.{place}: `tool_use` ids must be unique")
            seen.add(id_)
            waiting.add(id_)
    if waiting:
        yield Complaint("messages: tool_use ids were found without tool_result blocks immediately after")


def _one_use(block: Mapping[str, Any], id_: str, place: int) -> Iterator[Complaint]:
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", id_):
        yield Complaint(f"messages.{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(block.get("name"))):
        yield Complaint(f"messages.{place}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block.get("input"), dict):
        yield Complaint(f"messages.{place}.tool_use.input: Input should be a valid dictionary")


def tools(body: JsonObject) -> Iterator[Complaint]:
    """Names have 1 to 128 letters, digits, `_` and `-`, each once; `tool_choice` needs tools, and names one of them;
    some models cannot be forced to use a tool.
    """
    offered = [tool for tool in objects(body.get("tools")) if "input_schema" in tool]
    names = [str(tool.get("name")) for tool in offered]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            yield Complaint("tools.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
    if len(set(names)) < len(names):
        yield Complaint("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    forced = isinstance(choice, Mapping) and choice.get("type") in {"any", "tool"}
    if forced and re.search(_NO_FORCED_TOOLS, str(body.get("model"))):
        yield Complaint("tool_choice forces tool use, which is not supported by this model")
    if not body.get("tools"):
        yield Complaint("tool_choice may only be specified while providing tools")
    if isinstance(choice, Mapping) and choice.get("type") == "tool" and choice.get("name") not in names:
        yield Complaint("Tool choice names a tool that is not in tools")


def media(body: JsonObject) -> Iterator[Complaint]:
    """Images are JPEG, PNG, GIF or WebP; documents are PDF or plain text; URLs are https."""
    for place, message in enumerate(messages_of(body)):
        blocks = blocks_of(message)
        nested = [inner for block in blocks for inner in objects(block.get("content"))]
        for block in [*blocks, *nested]:
            source = block.get("source")
            if block.get("type") not in {"image", "document"} or not isinstance(source, Mapping):
                continue
            if message.get("role") != "user":
                yield Complaint(f"messages.{place}: {block['type']} blocks are not permitted in assistant messages")
            kinds = _IMAGES if block["type"] == "image" else ("application/pdf",)
            if source.get("type") == "base64" and (source.get("media_type") not in kinds or not source.get("data")):
                yield Complaint(f"messages.{place}.{block['type']}.source.media_type: Input should be {kinds}")
            if source.get("type") == "url" and not str(source.get("url")).startswith("https://"):
                yield Complaint(f"messages.{place}.{block['type']}.source.url: Only HTTPS URLs are supported")


def thinking(body: JsonObject) -> Iterator[Complaint]:
    """Thinking needs a signature ("Invalid `signature` in `thinking` block"). With thinking on: a budget of at least
    1024 and below `max_tokens`, no forced tool, temperature 1, and a turn that continues begins with thinking.
    """
    for place, message in enumerate(messages_of(body)):
        blocks = blocks_of(message)
        for block in blocks:
            if block.get("type") == "thinking" and not block.get("signature"):
                yield Complaint(f"messages.{place}: thinking.signature: Field required")
            if str(block.get("type")).startswith("openai:") or "reasoning_content" in block:
                yield Complaint(f"messages.{place}: Input tag does not match any of the expected tags")
        if blocks and blocks[-1].get("type") in {"thinking", "redacted_thinking"}:
            yield Complaint(f"messages.{place}: The final block in an assistant message cannot be `thinking`.")
    yield from _thinking_options(body)


def _thinking_options(body: JsonObject) -> Iterator[Complaint]:
    options = body.get("thinking")
    if not isinstance(options, Mapping) or options.get("type") == "disabled":
        return
    if options.get("type") == "enabled":
        budget = options.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            yield Complaint("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        elif budget >= body.get("max_tokens", 0):
            yield Complaint("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if re.search(_NO_SAMPLING, str(body.get("model"))):
            yield Complaint("thinking.type: 'enabled' is not supported by this model")
    if options.get("type") == "adaptive" and not re.search(_ADAPTIVE, str(body.get("model"))):
        yield Complaint("thinking.type: adaptive thinking is not supported by this model")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") in {"any", "tool"}:
        yield Complaint("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature") not in {None, 1}:
        yield Complaint("`temperature` may only be set to 1 when thinking is enabled.")
    messages = messages_of(body)
    begun = blocks_of(messages[-1]) if messages and messages[-1].get("role") == "assistant" else []
    if begun and begun[0].get("type") not in {"thinking", "redacted_thinking"}:
        # docs.claude.com, Extended thinking: "you cannot pre-fill responses when thinking is enabled".
        yield Complaint("When `thinking` is enabled, a final `assistant` message must start with a thinking block.")
    if options.get("type") == "enabled" and _goes_on_unthought(messages):
        yield Complaint("Expected `thinking` or `redacted_thinking`, but found `tool_use`.")


def _goes_on_unthought(messages: list[dict[str, Any]]) -> bool:
    if len(messages) < 2 or not any(block.get("type") == "tool_result" for block in blocks_of(messages[-1])):
        return False
    first = next(iter(blocks_of(messages[-2])), {})
    return first.get("type") not in {"thinking", "redacted_thinking"}


def sampling(body: JsonObject) -> Iterator[Complaint]:
    """Temperature from 0 to 1, none from Opus 4.7 on; stop sequences have visible characters."""
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        yield Complaint("temperature: range: 0..1")
    if temperature is not None and re.search(_NO_SAMPLING, str(body.get("model"))):
        yield Complaint("temperature: sampling parameters are not supported by this model")
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and (
        effort not in {"low", "medium", "high", "xhigh", "max"} or not re.search(_EFFORTS, str(body.get("model")))
    ):
        yield Complaint("output_config.effort: This model does not support the effort parameter.")
    for stop in body.get("stop_sequences") or ():
        if not str(stop).strip():
            yield Complaint("stop_sequences: each stop sequence must contain non-whitespace")


def answers(body: JsonObject) -> Iterator[Complaint]:
    """Structured outputs: closed objects, no recursion, no limits ("For 'integer' type, properties maximum, minimum are
    not supported"); none before Sonnet 4.5 and Opus 4.1 (docs.claude.com, Structured outputs).
    """
    form = (body.get("output_config") or {}).get("format")
    if not isinstance(form, Mapping):
        return
    if re.search(r"claude-3|claude-(opus|sonnet)-4-(0|2)", str(body.get("model"))):
        yield Complaint("output_config.format: This model does not support structured outputs.")
    for place, one in inner_schemas(form.get("schema")):
        if one.get("type") == "object" and one.get("additionalProperties") is not False:
            yield Complaint(f"output_config.format.schema: 'additionalProperties' must be false, at {place}")
        for keyword in (
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "maxItems",
            "oneOf",
            "prefixItems",
        ):
            if keyword in one:
                yield Complaint(f"output_config.format.schema: {keyword} is not supported, at {place}")


CHECKS = (required_fields, roles, contents, tool_use, tools, media, thinking, sampling, answers)
