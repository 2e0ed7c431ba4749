"""Checks of one request body for what chat completion servers refuse, each with its source.

They are written from the vendors' documentation and error messages, and not from `llm`, so that a mistake there is not
repeated here. A check yields `Complaint`s; `testing.vendor_rules` maps the checks to vendors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import attrs

from clawft_trio.chat import JsonObject
from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidData


@attrs.frozen
class Complaint:
    """A vendor's reason to refuse a request."""

    message: str
    #: the invalid parameter, as the vendor names it
    param: str = attrs.field(default="", kw_only=True)
    code: str = attrs.field(default="", kw_only=True)


Check: TypeAlias = Callable[[JsonObject], Iterator[Complaint]]


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list; empty when *value* is not a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def messages_of(body: JsonObject) -> list[dict[str, Any]]:
    """Return the messages of a body."""
    return objects(body.get("messages"))


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a message."""
    return objects(message.get("tool_calls"))


def function_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the function of a call or of an offered tool."""
    function = entry.get("function")
    return function if isinstance(function, dict) else {}


def is_blank(content: object) -> bool:
    """Return whether a message's content has nothing visible."""
    if isinstance(content, str):
        return not content.strip()
    if content is None:
        return True
    parts = objects(content)
    return all(part.get("type") == "text" and not str(part.get("text") or "").strip() for part in parts)


def parts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message's content; empty when it is a string."""
    return objects(message.get("content"))


def has_messages(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: "[] is too short - 'messages'"."""
    if not messages_of(body):
        yield Complaint("[] is too short - 'messages'", param="messages", code="empty_array")


def known_roles(body: JsonObject) -> Iterator[Complaint]:
    """The role is one that the reference lists."""
    for place, message in enumerate(messages_of(body)):
        if message.get("role") not in {"system", "developer", "user", "assistant", "tool"}:
            yield Complaint(f"invalid role {message.get('role')!r}", param=f"messages[{place}].role")


def no_developers(body: JsonObject) -> Iterator[Complaint]:
    """DeepSeek: "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`"
    (earendil-works/pi#1048).
    """
    for place, message in enumerate(messages_of(body)):
        if message.get("role") == "developer":
            yield Complaint(f"messages[{place}].role: unknown variant `developer`")


def content_is_there(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: content is required, and null only beside tool calls ("expected a string, got null")."""
    for place, message in enumerate(messages_of(body)):
        if message.get("content") is None and not calls_of(message):
            yield Complaint(
                "Invalid value for 'content': expected a string, got null.", param=f"messages.[{place}].content"
            )
        if message.get("tool_calls") == []:
            yield Complaint("[] is too short - 'tool_calls'", param=f"messages.[{place}].tool_calls")


def results_follow_calls(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: "messages with role 'tool' must be a response to a preceding message with 'tool_calls'", and "An
    assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'".
    """
    waiting: set[str] = set()
    for message in [*messages_of(body), {"role": "end"}]:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                yield Complaint("messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
            waiting.discard(str(message.get("tool_call_id")))
            continue
        if waiting:
            yield Complaint(f"tool_call_ids did not have response messages: {', '.join(sorted(waiting))}")
        waiting = {str(call.get("id")) for call in calls_of(message)}
        if len(waiting) < len(calls_of(message)):
            yield Complaint("duplicate tool call ids")


def names_fit(pattern: str) -> Check:
    """OpenAI: "string does not match pattern '^[a-zA-Z0-9_-]+$'", 64 characters; others have other patterns."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        entries = [*objects(body.get("tools")), *(call for one in messages_of(body) for call in calls_of(one))]
        for entry in entries:
            name = function_of(entry).get("name")
            if not isinstance(name, str) or not re.fullmatch(pattern, name):
                yield Complaint(f"Invalid function name {name!r}: does not match '^{pattern}$'", code="invalid_value")

    return check


def ids_fit(pattern: str) -> Check:
    """Mistral: "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9"; OpenAI: at most 40 characters."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        for message in messages_of(body):
            ids = [call.get("id") for call in calls_of(message)]
            ids += [message.get("tool_call_id")] if message.get("role") == "tool" else []
            for id_ in ids:
                if not isinstance(id_, str) or not re.fullmatch(pattern, id_):
                    yield Complaint(f"Tool call id was {id_!r} but must match '^{pattern}$'", code="invalid_value")

    return check


def arguments_are_objects(body: JsonObject) -> Iterator[Complaint]:
    """VLLM, llama.cpp and Kimi parse the arguments of earlier calls (vllm-project/vllm#43995)."""
    for message in messages_of(body):
        for call in calls_of(message):
            text = function_of(call).get("arguments")
            try:
                decoded = decode_json(text) if isinstance(text, str) else None
            except InvalidData:
                decoded = None
            if not isinstance(decoded, dict):
                yield Complaint(f"function.arguments must be a JSON object, got {text!r:.80}")


def tools_are_offered(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: "'tool_choice' is only allowed when 'tools' are specified"; an empty list of tools is too short."""
    if "tools" in body and not objects(body["tools"]):
        yield Complaint("[] is too short - 'tools'", param="tools", code="empty_array")
    if "tool_choice" in body and not body.get("tools"):
        yield Complaint("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    choice = body.get("tool_choice")
    names = {function_of(tool).get("name") for tool in objects(body.get("tools"))}
    if isinstance(choice, dict) and function_of(choice).get("name") not in names:
        yield Complaint("Tool choice names a function that is not in 'tools'", param="tool_choice")
    if len(names) < len(objects(body.get("tools"))):
        yield Complaint("Tool names must be unique.", param="tools")


def media_of_users_only(body: JsonObject) -> Iterator[Complaint]:
    """OpenAI: images are user content; "Image URLs are only allowed for messages with role 'user'"."""
    for place, message in enumerate(messages_of(body)):
        for part in parts_of(message):
            if part.get("type") != "text" and message.get("role") != "user":
                yield Complaint(
                    f"content type {part.get('type')!r} is only allowed for messages with role 'user'",
                    param=f"messages.[{place}].content",
                )


def images_are(*types: str, urls: bool = True) -> Check:
    """The formats that a vendor documents for `image_url`; Moonshot and Bedrock accept no web URLs."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        for message in messages_of(body):
            for part in parts_of(message):
                if part.get("type") != "image_url":
                    continue
                image = part.get("image_url")
                url = str(image.get("url") if isinstance(image, dict) else image)
                if not types:
                    yield Complaint("unknown variant `image_url`, expected `text`")
                elif url.startswith("data:"):
                    kind, _, data = url.removeprefix("data:").partition(";base64,")
                    if kind not in types or not data:
                        yield Complaint(f"unsupported image {kind!r}, expected one of {', '.join(types)}")
                elif not urls or not url.startswith(("https://", "http://")):
                    yield Complaint("unsupported image url")

    return check


def text_only(body: JsonObject) -> Iterator[Complaint]:
    """DeepSeek: "unknown variant `image_url`, expected `text`"; Groq: "content must be a string" for most models."""
    for place, message in enumerate(messages_of(body)):
        kinds = {part.get("type") for part in parts_of(message)} - {"text"}
        if kinds:
            yield Complaint(f"messages.{place}.content must be a string, got {', '.join(map(str, kinds))}")


def no_blank_messages(*roles: str) -> Check:
    """Moonshot: "message at position N with role 'user' must not be empty"; xAI: "Each message must have at least
    one content element" (AstrBotDevs/AstrBot#6447); Gemini: "contents.parts must not be empty".
    """

    def check(body: JsonObject) -> Iterator[Complaint]:
        for place, message in enumerate(messages_of(body)):
            if message.get("role") in roles and is_blank(message.get("content")) and not calls_of(message):
                yield Complaint(f"message at position {place} with role {message.get('role')!r} must not be empty")

    return check


def no_blank_parts(body: JsonObject) -> Iterator[Complaint]:
    """Gemini, Moonshot and others: "text content is empty" for an empty part of a list."""
    for message in messages_of(body):
        if message.get("content") == []:
            yield Complaint("content must not be an empty list")
        for part in parts_of(message):
            if part.get("type") == "text" and not str(part.get("text") or "").strip():
                yield Complaint("text content is empty")


def last_is_user_or_tool(body: JsonObject) -> Iterator[Complaint]:
    """Mistral: "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    (0xPlaygrounds/rig#1130); Perplexity: "Last message must have role `user` or `tool`"; llama.cpp: "Assistant response
    prefill is incompatible with enable_thinking" (ggml-org/llama.cpp#20861).
    """
    messages = messages_of(body)
    if messages and messages[-1].get("role") == "assistant" and not messages[-1].get("prefix"):
        yield Complaint(
            "Expected last role User or Tool for serving but got assistant", code="invalid_request_message_order"
        )


def first_is_user(body: JsonObject) -> Iterator[Complaint]:
    """Google: "Please ensure that function call turn comes immediately after a user turn or after a function response
    turn"; Perplexity and the templates of many open models: the first message is the user's.
    """
    rest = [message for message in messages_of(body) if message.get("role") not in {"system", "developer"}]
    if not rest or rest[0].get("role") != "user":
        yield Complaint("the first message after the system's must be the user's")


def no_user_after_tool(body: JsonObject) -> Iterator[Complaint]:
    """Mistral: "Unexpected role 'user' after role 'tool'" (zed-industries/zed#37021, aaif-goose/goose#5998)."""
    messages = messages_of(body)
    for one, other in pairwise(messages):
        if one.get("role") == "tool" and other.get("role") in {"user", "system"}:
            yield Complaint(
                f"Unexpected role '{other.get('role')}' after role 'tool'", code="invalid_request_message_order"
            )


def system_comes_first(body: JsonObject) -> Iterator[Complaint]:
    """VLLM templates: "System message must be at the beginning."; Mistral: one system message, first."""
    roles = [message.get("role") for message in messages_of(body)]
    if "system" in roles[1:]:
        yield Complaint("System message must be at the beginning.")


def roles_alternate(body: JsonObject) -> Iterator[Complaint]:
    """Open models' templates: "Conversation roles must alternate user/assistant/user/assistant/…"; DeepSeek's reasoner:
    "does not support successive user or assistant messages".
    """
    roles = [message.get("role") for message in messages_of(body)]
    for one, other in pairwise(roles):
        if one == other and one in {"user", "assistant"}:
            yield Complaint(f"Conversation roles must alternate: two messages of role {one!r} in a row")


def without(*names: str, models: str = "") -> Check:
    """Parameters that a vendor, or one of its model families, refuses: "Unsupported parameter"."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        if models and not re.search(models, str(body.get("model", ""))):
            return
        for name in names:
            if name in body:
                yield Complaint(
                    f"Unsupported parameter: '{name}' is not supported with this model.",
                    param=name,
                    code="unsupported_parameter",
                )

    return check


def values_of(name: str, *values: str, models: str = "") -> Check:
    """The values of a parameter that a vendor, or one of its model families, accepts: "Unsupported value"."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        if models and not re.search(models, str(body.get("model", ""))):
            return
        value = body.get(name)
        if value is not None and value not in values:
            yield Complaint(
                f"Unsupported value: '{name}' does not support {value!r} with this model.",
                param=name,
                code="unsupported_value",
            )

    return check


def temperature_at_most(limit: float, *, only: float | None = None, models: str = "") -> Check:
    """The documented range of `temperature`; reasoning models accept only 1 ("does not support 0.7 …")."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        temperature = body.get("temperature")
        if temperature is None or (models and not re.search(models, str(body.get("model", "")))):
            return
        if not 0 <= temperature <= limit or (only is not None and temperature != only):
            yield Complaint(
                f"Unsupported value: 'temperature' does not support {temperature} with this model.",
                param="temperature",
                code="unsupported_value",
            )

    return check


def only_fields(*names: str) -> Check:
    """Mistral and Google: an unknown field is refused ("Extra inputs are not permitted", "Unknown name: Cannot find
    field").
    """
    known = frozenset(names)

    def check(body: JsonObject) -> Iterator[Complaint]:
        for name in body.keys() - known:
            yield Complaint(f"Extra inputs are not permitted: {name}", param=name)

    return check


def only_message_fields(*names: str) -> Check:
    """Groq: "property 'reasoning_content' is unsupported" (tashfeenahmed/freellmapi#1070, agentjido/req_llm#772);
    Mistral, Fireworks: extra inputs are not permitted.
    """
    known = frozenset(names)

    def check(body: JsonObject) -> Iterator[Complaint]:
        for place, message in enumerate(messages_of(body)):
            for name in message.keys() - known:
                yield Complaint(f"'messages.{place}': property '{name}' is unsupported")

    return check


def calls_have_content(body: JsonObject) -> Iterator[Complaint]:
    """The content of xAI's messages with calls: not null ("Each message must have at least one content element",
    langchain-ai/langchain#34140; "Grok is looking for `content: string`", pipecat-ai/pipecat#646).
    """
    for place, message in enumerate(messages_of(body)):
        if calls_of(message) and message.get("content") is None:
            yield Complaint("Each message must have at least one content element.", param=f"messages.[{place}].content")


def no_documents(body: JsonObject) -> Iterator[Complaint]:
    """Azure's chat completions, DashScope and others accept only images (pydantic-ai's providers)."""
    for message in messages_of(body):
        if any(part.get("type") in {"file", "document_url"} for part in parts_of(message)):
            yield Complaint("Invalid content type 'file': only 'text' and 'image_url' are supported.")


def at_most(name: str, limit: int) -> Check:
    """Lists with a documented length: OpenAI 128 tools and 4 stop sequences."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        value = body.get(name)
        if isinstance(value, list) and len(value) > limit:
            yield Complaint(f"Invalid '{name}': array too long. Expected at most {limit}", param=name)

    return check


def descriptions_at_most(limit: int) -> Check:
    """OpenAI: "string too long. Expected a string with maximum length 1024"."""

    def check(body: JsonObject) -> Iterator[Complaint]:
        for place, tool in enumerate(objects(body.get("tools"))):
            if len(str(function_of(tool).get("description") or "")) > limit:
                yield Complaint(
                    f"Invalid 'tools[{place}].function.description': string too long.", code="string_above_max_length"
                )

    return check
