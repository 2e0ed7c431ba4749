"""What the rules say of each vendor, written down a second time, so that no change of a rule goes unnoticed.

Whether the rules are right is tested by the recorded answers and the cases of refusals, not here.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from clawft_trio.llm.catalog import KNOWN, vendor_at
from clawft_trio.llm.conform.rules import Rules
from clawft_trio.llm.vendors import VENDORS

# Tools in a request, characters of a tool's description, stop sequences, and the highest temperature. None: no limit is
# known.
LIMITS = {
    "openai": (128, 1024, 4, 2.0),
    "azure": (128, 1024, 4, 2.0),
    "anthropic": (None, None, None, 1.0),
    "gemini": (None, None, 5, 2.0),
    "vertex": (None, None, 5, 2.0),
    "mistral": (None, None, None, 1.5),
    "deepseek": (128, None, None, 2.0),
    "moonshot": (None, None, None, 1.0),
    "groq": (128, None, 4, 2.0),
    "xai": (128, None, None, 2.0),
    "zhipu": (None, None, 1, 1.0),
    "minimax": (None, None, None, 1.0),
    "cohere": (None, None, 5, 1.0),
}


@pytest.mark.parametrize("vendor", LIMITS)
def test_limits_of_requests_are_those_written_down(vendor: str) -> None:
    rules = VENDORS[vendor].common
    assert (rules.most_tools, rules.description_length, rules.most_stops, rules.hottest) == LIMITS[vendor]


# Order of messages that the servers or chat templates require: (first from the user, last not from the
# assistant, roles alternate, system messages first, a question may follow a tool result).
ORDERS = {
    "openai": (False, False, False, False, True),
    "anthropic": (True, False, False, False, True),
    "gemini": (True, True, False, True, True),
    "vertex": (True, True, False, True, True),
    "bedrock": (True, True, False, False, True),
    "mistral": (True, True, False, True, False),
    "deepseek": (False, True, True, False, True),
    "moonshot": (False, True, False, False, True),
    "openrouter": (True, False, False, False, True),
    "perplexity": (True, True, True, True, True),
    "zhipu": (False, True, False, False, True),
    "minimax": (False, True, True, True, True),
    "cohere": (False, True, False, False, True),
    "dashscope": (False, True, False, False, True),
    "ollama": (False, True, True, True, True),
    "vllm": (False, True, True, True, True),
}


@pytest.mark.parametrize("vendor", ORDERS)
def test_the_order_of_messages_is_the_one_that_a_vendor_requires(vendor: str) -> None:
    rules = VENDORS[vendor].common
    found = (rules.first_user, rules.last_user, rules.alternate, rules.system_first, rules.user_after_tool)
    assert found == ORDERS[vendor]


@pytest.mark.parametrize(
    ("vendor", "model", "facts"),
    [
        ("anthropic", "claude-sonnet-4-5", {"name_length": 128, "blank_end": False, "visible_stops": True}),
        ("anthropic", "claude-sonnet-4-5", {"media_in_results": True, "file_urls": True, "adaptive_thinking": False}),
        ("anthropic", "claude-sonnet-4-5", {"last_user": False, "named_choice": True}),
        *(
            ("anthropic", model, {"adaptive_thinking": True, "last_user": True})
            for model in ("claude-opus-4-6", "claude-opus-4.8", "claude-sonnet-4-6", "claude-opus-5", "claude-haiku-5")
        ),
        ("mistral", "mistral-large-latest", {"id_length": 9, "file_urls": True}),
        ("vllm", "mistral-small", {"id_length": 9, "user_after_tool": False}),
        ("vllm", "qwen3", {"id_length": 29, "image_urls": False}),
        ("deepseek", "deepseek-chat", {"named_choice": True, "image_types": ()}),
        ("deepseek", "deepseek-reasoner", {"named_choice": False, "reasoning_stand_in": " "}),
        ("deepseek", "deepseek-v4-pro", {"named_choice": False}),
        ("moonshot", "kimi-k2.6", {"named_choice": False, "image_urls": False, "reasoning_stand_in": " "}),
        ("zhipu", "glm-4.6", {"named_choice": False}),
        ("cohere", "command-a-03-2025", {"named_choice": False}),
        ("xai", "grok-4", {"null_content": False}),
        ("openai", "gpt-4o", {"null_content": True, "image_urls": True, "named_choice": True}),
        ("openrouter", "anthropic/claude-sonnet-4.5", {"file_urls": True}),
        ("bedrock", "openai.gpt-oss-120b", {"image_urls": False}),
        ("gemini", "gemini-2.5-flash", {"calls_after_user": True}),
        ("dashscope", "qwen3-omni-flash", {"audio_addresses": True}),
        ("dashscope", "qwen3-max", {"audio_addresses": False}),
    ],
)
def test_a_model_is_sent_what_its_vendor_takes(vendor: str, model: str, facts: dict[str, Any]) -> None:
    rules = VENDORS[vendor].of(model)
    assert {name: getattr(rules, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("vendor", "facts"),
    [
        ("openai", {"typed": False, "refs": True, "type_lists": True, "mixed_enums": True, "loose_properties": True}),
        (
            "gemini",
            {"typed": True, "refs": False, "type_lists": False, "mixed_enums": False, "loose_properties": False},
        ),
        (
            "vertex",
            {"typed": True, "refs": False, "type_lists": False, "mixed_enums": False, "loose_properties": False},
        ),
        ("moonshot", {"typed": True, "refs": False, "typed_alternatives": False, "type_lists": True}),
        ("vllm", {"typed": True, "refs": True, "typed_alternatives": True}),
        ("llamacpp", {"typed": True, "refs": True}),
    ],
)
def test_schemas_are_of_the_subset_that_a_vendor_takes(vendor: str, facts: dict[str, bool]) -> None:
    schemas = VENDORS[vendor].common.schemas
    assert {name: getattr(schemas, name) for name in facts} == facts


def test_an_unknown_server_is_taken_for_a_tolerant_one() -> None:
    rules = attrs.asdict(Rules(), recurse=False)
    strict = {"first_user", "last_user", "alternate", "calls_after_user", "system_first", "visible_stops"}
    more = {"media_in_results", "file_urls", "audio_addresses", "adaptive_thinking"}
    for name in strict | more:
        assert rules[name] is False, name
    for name in ("blank_end", "user_after_tool", "null_content", "image_urls", "named_choice"):
        assert rules[name] is True, name
    assert (rules["hottest"], rules["name_length"], rules["id_length"]) == (2.0, 64, 29)
    assert all(rules[name] is None for name in ("most_tools", "most_stops", "description_length", "efforts"))


@pytest.mark.parametrize(
    ("name", "local", "azure", "field"),
    [
        ("openai", False, False, "max_completion_tokens"),
        ("azure", False, True, "max_completion_tokens"),
        ("groq", False, False, "max_tokens"),
        ("ollama", True, False, "max_tokens"),
        ("lmstudio", True, False, "max_tokens"),
    ],
)
def test_the_output_limit_has_the_name_that_a_server_knows(name: str, local: bool, azure: bool, field: str) -> None:
    spec = KNOWN[name]
    assert (spec.local, spec.azure, spec.quirks.max_tokens_field) == (local, azure, field)


@pytest.mark.parametrize(
    ("name", "usage", "tags", "cache_key"),
    [
        ("openai", True, False, True),
        ("mistral", False, False, True),
        ("groq", True, False, False),
        ("ollama", True, True, False),
        ("vllm", True, True, False),
    ],
)
def test_the_habits_of_a_server_are_known(name: str, usage: bool, tags: bool, cache_key: bool) -> None:
    quirks = KNOWN[name].quirks
    assert (quirks.include_usage, quirks.think_tags, quirks.prompt_cache_key) == (usage, tags, cache_key)


@pytest.mark.parametrize(
    ("url", "vendor"),
    [
        ("https://api.openai.com/v1", "openai"),
        (" https://api.openai.com/v1/ ", "openai"),
        ("https://api.openai.com/v2", ""),
        ("https://api.openai.com.example.org/v1", ""),
        ("https://x.openai.azure.com/openai/v1", "azure"),
        ("https://x.services.ai.azure.com", "azure"),
        ("https://x.azure.com", ""),
        ("https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://bedrock-runtime.a/b.amazonaws.com/openai/v1", ""),
        (
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/openapi",
            "vertex",
        ),
        ("http://localhost:11434/v1", ""),
        ("", ""),
    ],
)
def test_a_vendor_is_known_by_its_address(url: str, vendor: str) -> None:
    assert vendor_at(url) == vendor
    assert vendor_at(url, {}) == (vendor if vendor == "azure" else "")
