"""The fault server refuses what vendors refuse, in their own error shapes, and nothing else."""

import json

import pytest

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import RequestRejected
from clawft_trio.llm import OpenAICompatible
from clawft_trio.testing import Finish, Say, open_fault_server
from clawft_trio.testing.vendor_checks import Complaint
from clawft_trio.testing.vendor_rules import RULES, check_vendor, refusal, refusal_body

USER = {"role": "user", "content": "q"}
OBJECT = {"type": "object", "properties": {}}


def call(id_="abcdefghi", name="weather", arguments="{}", **more):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calling(*calls, **more):
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(id_="abcdefghi", content="rain"):
    return {"role": "tool", "tool_call_id": id_, "content": content}


def tools(schema=OBJECT, name="weather", description="d"):
    return {
        "tools": [{"type": "function", "function": {"name": name, "description": description, "parameters": schema}}]
    }


def chat(*messages, model="m", **more):
    return {"model": model, "messages": list(messages), **more}


def image(url="data:image/png;base64,UE5H", role="user"):
    return {"role": role, "content": [{"type": "image_url", "image_url": {"url": url}}]}


ACCEPTED = {
    "gemini-openai": chat(USER, calling(call(extra_content={"google": {"thought_signature": "x"}}), content="I look."), result(), model="gemini-3-pro", **tools()),
    "moonshot": chat(USER, calling(call(), reasoning_content=" "), result(), model="kimi-k2.6", temperature=1, **tools()),
    "deepseek": chat(USER, calling(call(), reasoning_content=""), result(), **tools()),
    "perplexity": chat(USER, {"role": "assistant", "content": "A"}, USER),
    "xai": chat(USER, calling(call(), content=""), result(), **tools()),
}  # fmt: skip
OPENAI_LIKE = [vendor for vendor in RULES if vendor not in {"anthropic", "responses"}]


@pytest.mark.parametrize("vendor", OPENAI_LIKE)
def test_a_sound_request_is_accepted(vendor):
    assert refusal(vendor, ACCEPTED.get(vendor, chat(USER, calling(call()), result(), **tools()))) is None
    assert refusal(vendor, chat({"role": "system", "content": "Be brief."}, USER)) is None


REFUSED = [
    ("openai", chat()),
    ("openai", chat(USER, {"role": "assistant", "content": None})),
    ("openai", chat(USER, calling(call()))),
    ("openai", chat(USER, calling(call()), USER)),
    ("openai", chat(USER, result())),
    ("openai", chat(USER, calling(call("x" * 41)), result("x" * 41))),
    ("openai", chat(USER, calling(call(name="my tool")), result())),
    ("openai", chat(USER, **tools({"type": "object"}))),
    ("openai", chat(USER, **tools({**OBJECT, "anyOf": []}))),
    ("openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "array"}}}))),
    ("openai", chat(USER, **tools({"type": "object", "properties": {"x": {"$ref": "#/$defs/no"}}}))),
    ("openai", chat(USER, **tools(name="n" * 65))),
    ("openai", chat(USER, **tools(description="d" * 1025))),
    ("openai", chat(USER, tool_choice="auto")),
    ("openai", chat(USER, model="gpt-5-mini", temperature=0.7)),
    ("openai", chat(USER, model="o3", max_tokens=5)),
    ("openai", chat(USER, model="gpt-4o", reasoning_effort="low")),
    ("openai", chat(USER, stop=list("abcde"))),
    ("openai", chat(image("data:image/tiff;base64,eA=="))),
    ("openai", chat(USER, image(role="assistant"))),
    ("mistral", chat(USER, calling(call("call_0")), result("call_0"), **tools())),
    ("mistral", chat(USER, calling(call()), result(), USER, **tools())),
    ("mistral", chat(USER, {"role": "assistant", "content": "A"})),
    ("mistral", chat(USER, stream_options={"include_usage": True})),
    ("mistral", chat(USER, {"role": "assistant", "content": "A", "reasoning_content": "x"}, USER)),
    ("gemini-openai", chat(USER, calling(call()), result(), model="gemini-3-pro", **tools())),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "format": "uri"}}}))),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": ["string", "null"]}}}))),
    ("gemini-openai", chat(USER, **tools({**OBJECT, "additionalProperties": False}))),
    ("gemini-openai", chat(calling(call()), result(), **tools())),
    ("gemini-openai", chat({"role": "user", "content": ""})),
    ("gemini-openai", chat(USER, **tools(name="9lives"))),
    ("moonshot", chat(USER, calling(call(), reasoning_content=""), result(), model="kimi-k2.6", **tools())),
    ("moonshot", chat(USER, calling(call()), result(content=""), **tools())),
    ("moonshot", chat(USER, model="kimi-k2.5", temperature=0.3)),
    ("moonshot", chat(image("https://example.org/a.png"))),
    ("deepseek", chat(image())),
    ("deepseek", chat(USER, USER)),
    ("deepseek", chat(USER, calling(call()), result(), **tools())),
    ("groq", chat(USER, {"role": "assistant", "content": "A", "reasoning_content": "x"}, USER)),
    ("groq", chat(image())),
    ("xai", chat(USER, {"role": "assistant", "content": ""}, USER)),
    ("xai", chat(USER, model="grok-4", stop=["x"])),
    ("openrouter", chat(USER, calling(call("a b")), result("a b"), **tools())),
    ("perplexity", chat(USER, USER)),
    ("perplexity", chat(USER, **tools())),
    ("vllm", chat(USER, calling(call(arguments='{"a')), result(), **tools())),
    ("vllm", chat(USER, {"role": "system", "content": "x"}, USER)),
    ("bedrock", chat(USER, calling(call("a:b")), result("a:b"), **tools())),
    ("bedrock", chat(USER, model="openai.gpt-oss-120b", stop=["x"])),
    ("openai", chat(USER, model="gpt-5.5", temperature=0.3)),
    ("openai", chat(USER, model="gpt-5.2", temperature=0.3, reasoning_effort="low")),
    ("openai", chat(USER, model="gpt-5.2", reasoning_effort="minimal")),
    ("openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "pattern": "^(?!a)b$"}}}))),
    ("azure", chat({"role": "user", "content": [{"type": "file", "file": {"file_data": "x"}}]})),
    ("mistral", chat(USER, model="mistral-medium-latest", reasoning_effort="low")),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"description": "any"}}}))),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "object", "properties": {}}}}))),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "required": ["a"]}}}))),
    ("gemini-openai", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "enum": ["", "a"]}}}))),
    ("moonshot", chat(USER, model="kimi-k2.6", temperature=1, thinking={"type": "disabled"})),
    ("moonshot", chat(USER, tool_choice="required", **tools())),
    ("moonshot", chat(USER, **tools({"type": "object", "properties": {"x": True}}))),
    ("moonshot", chat(USER, **tools({"type": "object", "properties": {"x": {}}}))),
    ("deepseek", chat(USER, model="deepseek-v4-pro", tool_choice="required", **tools())),
    ("deepseek", chat(USER, reasoning_effort="none")),
    ("deepseek", chat({"role": "developer", "content": "s"}, USER)),
    ("groq", chat(USER, model="qwen/qwen3-32b", reasoning_effort="low")),
    ("xai", chat(USER, calling(call()), result(), **tools())),
    ("xai", chat(USER, model="grok-4.5", reasoning_effort="none")),
    ("xai", chat(USER, model="grok-4", reasoning_effort="low")),
    ("cohere", chat(USER, reasoning_effort="low")),
    ("fireworks", chat(USER, {"role": "assistant", "content": "A", "reasoning": "x"}, USER)),
    ("llama.cpp", chat(USER, {"role": "assistant", "content": "A"})),
    ("llama.cpp", chat(USER, **tools({"type": "object", "properties": {"x": {"description": "any"}}}))),
    ("llama.cpp", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "pattern": "a"}}}))),
    ("llama.cpp", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "maxLength": 10000}}}))),
    ("llama.cpp", chat(USER, **tools({"type": "object", "properties": {"x": {"type": "string", "not": {}}}}))),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "body"), REFUSED)
def test_what_the_vendor_refuses_is_refused(vendor, body):
    assert refusal(vendor, body) is not None


def said(*items, **more):
    return {"model": "gpt-5", "input": [{"role": "user", "content": "q"}, *items], **more}


MADE = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
SHOWN = {"type": "function_call_output", "call_id": "c", "output": "rain"}
THOUGHTS = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
OFFERED = {"type": "function", "name": "weather", "parameters": OBJECT}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "gpt-5", "input": []},
        said(messages=[]),
        said(
            {"type": "message", "role": "assistant", "id": "item_1", "content": [{"type": "output_text", "text": "A"}]}
        ),
        said({"type": "message", "role": "assistant", "content": [{"type": "input_text", "text": "A"}]}),
        said({"type": "message", "role": "assistant", "content": []}),
        said(THOUGHTS),
        said(THOUGHTS, {"role": "user", "content": "q"}),
        said(MADE),
        said(SHOWN),
        said({**MADE, "name": "my tool"}, SHOWN),
        said({**MADE, "call_id": "c" * 65}, {**SHOWN, "call_id": "c" * 65}),
        said(MADE, MADE, SHOWN),
        said(tool_choice="auto"),
        said(max_output_tokens=5),
        said(tools=[{**OFFERED, "parameters": {"type": "object"}}]),
    ],
)
def test_what_the_responses_api_refuses_is_refused(body):
    assert refusal("responses", body) is not None
    assert refusal("openai", body) is not None


def test_a_sound_request_is_accepted_by_the_responses_api():
    body = said(THOUGHTS, MADE, SHOWN, THOUGHTS, {"role": "assistant", "content": [{"type": "output_text", "text": "A"}]}, {"role": "user", "content": "q"}, tools=[OFFERED])  # fmt: skip
    assert refusal("responses", body) is None
    assert refusal("azure", body) is None


def claude(*messages, **more):
    return {"model": "claude-sonnet-4-5", "max_tokens": 4000, "messages": list(messages), **more}


def use(id_="toolu_1", name="weather", arguments=None):
    return {"type": "tool_use", "id": id_, "name": name, "input": {} if arguments is None else arguments}


def used(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def results(*ids):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id_, "content": "rain"} for id_ in ids]}


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
THINKING = {"type": "enabled", "budget_tokens": 2000}
REFUSED_BY_ANTHROPIC = [
    claude(),
    {"model": "m", "messages": [USER]},
    claude({"role": "assistant", "content": "A"}, USER),
    claude({"role": "system", "content": "s"}, USER),
    claude({"role": "user", "content": "  "}),
    claude({"role": "user", "content": []}),
    claude(USER, used(use("functions.weather:0")), results("functions.weather:0")),
    claude(USER, used(use()), USER),
    claude(USER, used(use())),
    claude(USER, results("toolu_1")),
    claude(USER, used(use(), use()), results("toolu_1")),
    claude(USER, used(use(arguments="x")), results("toolu_1")),
    claude(USER, used(use(name="my tool")), results("toolu_1")),
    claude(USER, used({"type": "thinking", "thinking": "hm"}, use()), results("toolu_1")),
    claude(USER, used(THOUGHT), USER),
    claude(USER, {"role": "assistant", "content": "A "}),
    claude(USER, {"role": "assistant", "content": "A"}, model="claude-opus-4-8"),
    claude(USER, temperature=1.5),
    claude(USER, temperature=0.5, model="claude-opus-4-8"),
    claude(USER, stop_sequences=["\n"]),
    claude(USER, thinking=THINKING, temperature=0.5),
    claude(USER, thinking={"type": "enabled", "budget_tokens": 500}),
    claude(USER, thinking={"type": "enabled", "budget_tokens": 9000}),
    claude(USER, used(use()), results("toolu_1"), thinking=THINKING),
    claude(USER, {"role": "assistant", "content": "A"}, thinking=THINKING),
    claude(USER, model="claude-fable-5", tools=[{"name": "a", "input_schema": OBJECT}], tool_choice={"type": "any"}),
    claude(USER, output_config={"effort": "low"}),
    claude(USER, tools=[{"name": "a", "input_schema": {}}]),
    claude(USER, tools=[{"name": "a", "input_schema": {**OBJECT, "oneOf": []}}]),
    claude(USER, tools=[{"name": "a", "input_schema": {"type": "object", "properties": {"$filter": {}}}}]),
    claude(USER, tool_choice={"type": "auto"}),
    claude(USER, seed=7),
    claude({"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "eA=="}}]}),
]  # fmt: skip


@pytest.mark.parametrize("body", REFUSED_BY_ANTHROPIC)
def test_what_anthropic_refuses_is_refused(body):
    assert refusal("anthropic", body) is not None


def test_a_sound_request_is_accepted_by_anthropic():
    thinks = claude(USER, used(THOUGHT, use()), results("toolu_1"), thinking=THINKING, tools=[{"name": "weather", "input_schema": OBJECT}])  # fmt: skip
    assert refusal("anthropic", thinks) is None
    assert refusal("anthropic", claude(USER, {"role": "assistant", "content": "A"}, USER)) is None


@pytest.mark.parametrize("vendor", RULES)
def test_each_refusal_has_its_vendors_shape(vendor):
    complaint = refusal(vendor, {"model": "m", "messages": []})
    assert complaint is not None
    body = json.loads(json.dumps(refusal_body(vendor, complaint)))
    inner = body[0] if isinstance(body, list) else body
    assert complaint.message in json.dumps(inner, ensure_ascii=False).replace('\\"', '"')


@pytest.mark.parametrize(
    ("vendor", "highest"),
    [
        *((vendor, 1) for vendor in ("anthropic", "moonshot", "cohere")),
        ("mistral", 1.5),
        *((vendor, 2) for vendor in ("openai", "azure", "responses", "gemini-openai", "deepseek", "groq", "xai")),
        *((vendor, 2) for vendor in ("together", "fireworks")),
    ],
)
def test_a_temperature_above_the_vendors_range_is_refused(vendor, highest):
    def asked(temperature):
        if vendor == "responses":
            return said(temperature=temperature)
        return (claude if vendor == "anthropic" else chat)(USER, temperature=temperature)

    assert refusal(vendor, asked(highest)) is None
    assert "emperature" in refusal(vendor, asked(highest + 0.01)).message


@pytest.mark.parametrize(
    ("vendor", "name", "most"),
    [
        *((vendor, "tools", 128) for vendor in ("openai", "azure", "deepseek", "groq")),
        *((vendor, "stop", 4) for vendor in ("openai", "azure", "groq")),
        *((vendor, "stop", 5) for vendor in ("gemini-openai", "cohere")),
    ],
)
def test_a_list_longer_than_the_vendors_limit_is_refused(vendor, name, most):
    def asked(count):
        many = [f"f{number}" for number in range(count)]
        return chat(USER, **{name: many if name == "stop" else [tools(name=one)["tools"][0] for one in many]})

    assert refusal(vendor, asked(most)) is None
    assert refusal(vendor, asked(most + 1)).param == name


@pytest.mark.parametrize("vendor", ["openai", "azure"])
def test_a_description_may_have_1024_characters(vendor):
    assert refusal(vendor, chat(USER, **tools(description="d" * 1024))) is None
    assert refusal(vendor, chat(USER, **tools(description="d" * 1025))).code == "string_above_max_length"


@pytest.mark.parametrize("vendor", ["moonshot", "bedrock"])
def test_some_vendors_load_no_images(vendor):
    assert refusal(vendor, chat(image())) is None
    assert refusal(vendor, chat(image("https://example.org/a.png"))) is not None


def test_kimi_wants_the_words_of_its_thoughts_back_and_deepseek_only_the_field():
    for vendor, refused in (("moonshot", True), ("deepseek", False)):
        body = chat(USER, calling(call(), reasoning_content=""), result(), model="kimi-k2.6", **tools())
        assert (refusal(vendor, body) is not None) is refused


def test_a_body_with_input_is_one_of_the_responses_api():
    chats = chat(USER, max_output_tokens=1)
    assert refusal("openai", chats) is None
    assert refusal("openai", said(max_output_tokens=1)).param == "max_output_tokens"
    # A body with both is one of chat completions, and one with neither lacks its messages.
    assert refusal("openai", {**chats, "input": []}) is None
    assert refusal("openai", {"model": "m"}).param == refusal("mistral", said()).param == "messages"


NAMED = Complaint("no", param="p", code="c")
BARE = Complaint("no")


@pytest.mark.parametrize(
    ("vendor", "complaint", "body"),
    [
        ("anthropic", NAMED, {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}),
        ("mistral", NAMED, {"object": "error", "message": "no", "type": "c", "param": "p", "code": "3230"}),
        (
            "mistral",
            BARE,
            {"object": "error", "message": "no", "type": "invalid_request_error", "param": None, "code": "3230"},
        ),
        ("gemini-openai", NAMED, [{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}]),
        ("xai", NAMED, {"code": "Client specified an invalid argument", "error": "no"}),
        ("vllm", NAMED, {"error": {"message": "no", "type": "BadRequestError", "param": "p", "code": "c"}}),
        ("openrouter", NAMED, {"error": {"message": "no", "code": 400}}),
        ("groq", NAMED, {"error": {"message": "no", "type": "invalid_request_error", "param": "p", "code": "c"}}),
        ("openai", BARE, {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}),
    ],
)
def test_a_refusal_has_the_fields_of_its_vendor(vendor, complaint, body):
    assert refusal_body(vendor, complaint) == body


def test_a_vendor_has_one_name_among_its_aliases():
    names = {"gemini": "gemini-openai", "vertex": "gemini-openai", "kimi": "moonshot", "ollama": "llama.cpp"}
    assert {name: check_vendor(name) for name in names} == names
    assert [check_vendor(vendor) for vendor in RULES] == list(RULES)


async def test_the_server_answers_400_and_plays_no_script_for_what_its_vendor_refuses():
    async with open_fault_server([Say("hi"), Finish()], accepts="openai") as server:
        async with OpenAICompatible("x", base_url=server.url, model="gpt-5-mini") as provider:
            with pytest.raises(RequestRejected) as caught:
                await provider.complete(ChatRequest([Message.user("q")], extra={"messages": []}), Call())
            answer = await provider.complete(
                ChatRequest([Message.user("q")], extra={"temperature": 0.3, "stop": "a"}), Call()
            )
    assert (caught.value.status, caught.value.code) == (400, "empty_array")
    assert answer.text == "hi"
    assert len(server.requests) == 1
    assert [complaint.param for _, complaint in server.refusals] == ["messages", "temperature", "stop"]


async def test_a_vendor_without_rules_is_an_error_that_names_those_with():
    with pytest.raises(ValueError, match="known are anthropic, openai"):
        async with open_fault_server([Finish()], accepts="acme"):
            raise AssertionError("not reached")
