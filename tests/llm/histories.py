"""Histories as any mix of vendors can have written them, and the targets that they are sent to."""

import json

import attrs
from hypothesis import strategies as st

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.llm import provider_named

#: provider and model of the catalog, and the vendor with the rules that apply
TARGETS = [
    ("anthropic", "claude-sonnet-4-5", "anthropic"),
    ("anthropic", "claude-opus-4-8", "anthropic"),
    ("openai", "gpt-4o", "openai"),
    ("openai", "gpt-5-mini", "openai"),
    ("azure", "gpt-5", "azure"),
    ("mistral", "mistral-large-latest", "mistral"),
    ("gemini", "gemini-3-pro-preview", "gemini-openai"),
    ("gemini", "gemini-2.5-flash", "gemini-openai"),
    ("moonshot", "kimi-k2.6", "moonshot"),
    ("moonshot", "kimi-k2-thinking", "moonshot"),
    ("deepseek", "deepseek-chat", "deepseek"),
    ("deepseek", "deepseek-reasoner", "deepseek"),
    ("groq", "llama-3.3-70b-versatile", "groq"),
    ("xai", "grok-4", "xai"),
    ("openrouter", "google/gemini-3-pro", "openrouter"),
    ("perplexity", "sonar", "perplexity"),
    ("vllm", "qwen3", "vllm"),
    ("ollama", "llama3.2", "vllm"),
    ("bedrock", "openai.gpt-oss-120b", "bedrock"),
    ("openai", "gpt-5-pro", "openai"),
    ("deepseek", "deepseek-v4-pro", "deepseek"),
    ("xai", "grok-4.3", "xai"),
    ("cohere", "command-a-03-2025", "cohere"),
    ("fireworks", "accounts/fireworks/models/kimi-k2", "fireworks"),
    ("llamacpp", "qwen3", "llama.cpp"),
]

_ENVIRON = {
    "AZURE_OPENAI_BASE_URL": "https://x.openai.azure.com/openai/v1",
    "AWS_REGION": "eu-central-1",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
    "GOOGLE_CLOUD_PROJECT": "p",
}

IDS = st.sampled_from(
    ["", "c", "call_0", "call_0", "functions.weather:0", "toolu_01A", "abcdefghi", "x" * 60, "ä-1", "call_a b", "1|2"]
)
NAMES = st.sampled_from(["weather", "weather", "", "my tool", "weather<|channel|>commentary", "n" * 90, "9lives", "-x"])
ARGUMENTS = st.sampled_from(
    [
        '{"city": "Oslo"}',
        "{}",
        "",
        "null",
        '{"city": "Os',
        '"{}"',
        "[1]",
        '"x"',
        "not json",
        '{"a": {"b": [1]}}',
        "\ud800",
    ]
)
TEXTS = st.sampled_from(["Hello.", "", "  ", "\n\n", "It rains. \n", "Ja, bitte."])
MEDIA = st.sampled_from(
    [
        Image(data=b"PNG", media_type="image/png"),
        Image(data=b"TIFF", media_type="image/tiff"),
        Image(url="http://example.org/a.jpg"),
        Image(url="ftp://example.org/a.jpg"),
        Image(url="https://example.org/a.jpg"),
        Image(url="data:image/png;base64,UE5H"),
        Image(url="data:nonsense"),
        Image(),
        File(data=b"%PDF", name="a.pdf"),
        File(data=b"RIFF", media_type="audio/wav"),
        File(url="https://example.org/a.pdf"),
    ]
)
BLOCKS = st.sampled_from(
    [
        Opaque("anthropic", {"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
        Opaque("anthropic", {"type": "redacted_thinking", "data": "eA"}),
        Opaque("openai:reasoning_content", {"reasoning_content": "hm"}),
        Opaque("openai:reasoning_content", {"reasoning_content": ""}),
        Opaque("openai:reasoning_details", {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
        Opaque("openai:extra_content", {"call_0": {"google": {"thought_signature": "c2ln"}}}),
        Opaque("anthropic", {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        Opaque("responses", {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eA"}),
        Opaque("responses", {"type": "message", "id": "msg_1"}),
        Opaque("responses", {"type": "function_call", "id": "fc_1", "call_id": "call_0"}),
        Opaque("responses:state", {"response_id": "resp_1"}),
    ]
)
ORIGINS = st.sampled_from(
    [
        "anthropic/claude-sonnet-4-5",
        "openai/gpt-5-mini",
        "openai/gpt-5-pro",
        "moonshot/kimi-k2.6",
        "gemini/gemini-3-pro-preview",
        "x/y",
    ]
)
CALLS = st.builds(lambda i, n, a: ToolCall(id=i, name=n, arguments=a), IDS, NAMES, ARGUMENTS)
_BODIES = st.lists(st.one_of(TEXTS.map(Text), MEDIA), max_size=3).map(tuple)
_SAID = st.builds(lambda blocks, text: (*blocks, Text(text)), st.lists(BLOCKS, max_size=2), TEXTS)
_ASSISTANTS = st.builds(
    lambda content, calls, origin, refused: Message(
        "assistant", content, tool_calls=tuple(calls), origin=origin, refused=refused
    ),
    _SAID,
    st.lists(CALLS, max_size=3),
    ORIGINS,
    st.sampled_from([False, False, False, True]),
)
_RESULTS = st.builds(lambda content, id_: Message("tool", content, tool_call_id=id_), _BODIES, IDS)
_MESSAGES = st.one_of(
    TEXTS.map(Message.system), st.builds(lambda body: Message("user", body), _BODIES), _ASSISTANTS, _RESULTS
)


@st.composite
def histories(draw):
    """Messages in any order, some calls answered and some not, and a question at the end."""
    messages = []
    for message in draw(st.lists(_MESSAGES, max_size=10)):
        messages.append(message)
        answered = [call for call in message.tool_calls if draw(st.integers(0, 3))]
        messages.extend(Message("tool", draw(_BODIES), tool_call_id=call.id) for call in answered)
    if draw(st.integers(0, 3)):
        messages.append(Message.user("And now?"))
    else:
        calls = (draw(CALLS), draw(CALLS))
        messages.append(Message("assistant", draw(_SAID), tool_calls=calls, origin=draw(ORIGINS)))
        messages.extend(Message("tool", draw(_BODIES), tool_call_id=call.id) for call in calls)
    return tuple(messages)


LEAF = st.sampled_from(
    [
        {"type": "string", "format": "uri"},
        {"type": ["string", "null"]},
        {"type": "array"},
        {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "prefixItems": [{"type": "number"}, {"const": 3}]},
        {"$ref": "#/$defs/Node"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.org/schema.json"},
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        {"enum": [1, 2, None]},
        {"enum": ["a", "b", None]},
        {"const": "x"},
        {"description": "anything"},
        {"type": "string", "pattern": "^(?!a)b"},
        {"type": "string", "maxLength": 10000, "not": {"const": "x"}},
        {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None},
        {"type": ["object", "array", "null"], "properties": {"k": {"type": "string"}}, "required": ["k"]},
        {"type": "object", "properties": {}, "anyOf": [{"required": ["k"]}, {"required": ["l"]}]},
        {"allOf": [{"$ref": "#/$defs/Node"}], "description": "a node"},
        {"enum": ["", "a"]},
        {"type": "array", "items": True, "minItems": "1"},
        {"type": "any"},
        {"type": "object", "additionalProperties": {"type": "array"}},
        {"type": "string", "anyOf": [{"minLength": 1}, {"pattern": "x"}]},
        {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"k": True}}]},
        {"allOf": [{"type": "object", "properties": {"k": {"type": "array"}}, "required": ["k", "absent"]}]},
        True,
        {},
    ]
)
KEYS = st.sampled_from(["city", "a b", "$filter", "k" * 80, "größe", "9", "x.y", "default", "type"])
SCHEMAS = st.one_of(
    st.sampled_from(
        [{}, {"type": "object"}, True, {"type": "object", "properties": None}, {"$ref": "#/$defs/Node", "$defs": {
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}}}]
    ),
    st.builds(
        lambda properties, required, top: {
            "type": "object",
            "properties": properties,
            "required": required,
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
            **top,
        },
        st.dictionaries(KEYS, LEAF, max_size=4),
        st.lists(KEYS, max_size=2),
        st.sampled_from(
            [
                {},
                {"anyOf": [{"required": ["city"]}, {"properties": {"q": {"type": "string"}}, "required": ["q"]}]},
                {"oneOf": [{"properties": {"q": {"type": "string"}}}, {"properties": {"q": {"type": "array"}}}]},
                {"allOf": [{"$ref": "#/$defs/Node"}]},
                {"not": {"required": ["x"]}},
            ]
        ),
    ),
)  # fmt: skip
TOOLS = st.lists(
    st.builds(lambda n, d, s: ToolSpec(name=n, description=d, parameters=s), NAMES, st.sampled_from(["", "x" * 2000]), SCHEMAS),
    max_size=4,
).map(tuple)  # fmt: skip


OPEN_ANSWER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}
RECURSIVE_ANSWER = {"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}}


@st.composite
def requests(draw):
    """A history with tools and options that some target refuses."""
    tools = draw(TOOLS)
    choices = ["auto", "none", "required", *(tool.name for tool in tools if tool.name)]
    return ChatRequest(
        draw(histories()),
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)),
        max_tokens=draw(st.sampled_from([None, 100, 8000])),
        temperature=draw(st.sampled_from([None, 0.0, 0.7, 1.0, 1.9])),
        stop=draw(st.sampled_from([(), ("END",), ("\n",), tuple("abcdefg")])),
        reasoning_effort=draw(st.sampled_from([None, "none", "minimal", "low", "xhigh"])),
        thinking_budget=draw(st.sampled_from([None, 0, 500, 4000])),
        verbosity=draw(st.sampled_from([None, "low"])),
        seed=draw(st.sampled_from([None, 7])),
        response_schema=draw(st.sampled_from([None, None, OPEN_ANSWER, RECURSIVE_ANSWER])),
    )


class Target:
    """One model of the catalog, without a connection: how its requests are conformed and written."""

    def __init__(self, provider, model, vendor):
        self.vendor = vendor
        self.model = model
        self.origin = f"{provider}/{model}"
        made = provider_named(provider, api_key="k", environ=_ENVIRON)
        self._dialect, self._conformer = made._dialect, made._conformer
        self.rules = self._conformer.rules(model)

    def conform(self, request):
        return self._conformer.conform(request, self.rules, origin=self.origin)

    def written(self, conformed):
        return json.loads(json.dumps(_plain(self._dialect.body(conformed.request, self.model, self.rules))))


def _plain(value):
    if hasattr(value, "items"):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def own(message, origin):
    """*message* as the model *origin* wrote it."""
    return attrs.evolve(message, origin=origin)


#: the ids that a vendor gives its calls, where they are not `call_…`
OWN_IDS = {"anthropic": "toolu_{:024d}", "mistral": "{:09d}", "moonshot": "functions.weather:{}", "gemini": "function-call-{}"}  # fmt: skip


def own_blocks(provider, ids, model=""):
    """What a vendor's models send with their calls, to be sent back."""
    if model == "gpt-5-pro":
        reasoning = {"type": "reasoning", "id": f"rs_{ids[0]}", "summary": [], "encrypted_content": "eA"}
        calls = [{"type": "function_call", "id": f"fc_{id_}", "call_id": id_, "status": "completed"} for id_ in ids]
        return tuple(Opaque("responses", block) for block in (reasoning, *calls))
    if provider == "anthropic":
        return (Opaque("anthropic", {"type": "thinking", "thinking": "hm", "signature": "c2ln"}),)
    if provider in {"moonshot", "deepseek"}:
        return (Opaque("openai:reasoning_content", {"reasoning_content": "hm"}),)
    if provider == "openrouter":
        details = [{"type": "reasoning.encrypted", "data": "x", "index": 0}]
        return (Opaque("openai:reasoning_details", {"reasoning_details": details}),)
    if provider == "gemini":
        return (Opaque("openai:extra_content", {ids[0]: {"google": {"thought_signature": "c2ln"}}}),)
    return ()


@st.composite
def own_histories(draw, provider, model):
    """A conversation that one model alone has written: turns with calls in parallel, their results, an answer."""
    origin, number = f"{provider}/{model}", 0
    messages = [Message.system("Be brief.")] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 4))):
        messages.append(Message.user(draw(st.sampled_from(["Weather?", "And now?\n", "Größe 3 °C?"]))))
        for _ in range(draw(st.integers(0, 2))):
            ids = [OWN_IDS.get(provider, "call_{:024d}").format(number + n) for n in range(draw(st.integers(1, 3)))]
            number += len(ids)
            arguments = draw(st.sampled_from(['{"city": "Oslo"}', '{ "city":"Oslo" }', "{}"]))
            calls = tuple(ToolCall(id=id_, name="weather", arguments=arguments) for id_ in ids)
            text = draw(st.sampled_from([(), (Text("I look."),)]))
            messages.append(
                Message("assistant", (*own_blocks(provider, ids, model), *text), tool_calls=calls, origin=origin)
            )
            messages.extend(Message.tool("rain", tool_call_id=id_) for id_ in ids)
        messages.append(Message("assistant", (Text(f"It rains, {turn}."),), origin=origin))
    messages.append(Message.user("Thanks. And tomorrow?"))
    return tuple(messages)
