"""Options that a target refuses with a typed 400 are left out of the same call and of later ones, over real sockets."""

import json

import pytest

from clawft_trio.chat import Call, ChatRequest, Message, ToolSpec
from clawft_trio.errors import RequestRejected
from clawft_trio.llm import provider_named
from clawft_trio.llm.refused_options import RefusedOptions, refused_parameter
from clawft_trio.observe import Noted
from clawft_trio.testing import Finish, Page, Say, Status, open_fault_server

ASK = ChatRequest([Message.system("Be brief."), Message.user("q")], model="m")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def refusing(*names, error=lambda name: {"error": {"message": "no", "param": name}}, status=400):
    """Refuse each of *names* while it is in a body."""

    def choose(request):
        held = next((name for name in names if name in request.body), None)
        if held is not None:
            return [Page(json.dumps(error(held)).encode(), status=status, content_type="application/json")]
        return [Say('{"a": "b"}'), Finish()]

    return choose


async def answered(name, request, choose, **options):
    """The bodies that were sent for *request*, twice, and what observers got."""
    events = []
    async with open_fault_server(choose=choose) as server:
        async with provider_named(name, base_url=server.url, api_key="k", environ={}, **options) as provider:
            for _ in range(2):
                answer = await provider.complete(request, Call(observer=events.append))
                assert answer.text == '{"a": "b"}'
        bodies = [exchange.request.body for exchange in server.exchanges]
    return bodies, [event for event in events if isinstance(event, Noted)]


@pytest.mark.parametrize(
    "extra",
    [
        {"top_p": 0.9},
        {"parallel_tool_calls": False},
        {"stop": ["x"]},
        {"seed": 7, "logprobs": True},
        {"reasoning_effort": "low", "top_p": 1, "user": "u"},
    ],
)
async def test_every_refused_option_is_left_out_once_and_for_all(extra):
    request = ChatRequest(ASK.messages, model="m", extra=extra)
    bodies, noted = await answered("together", request, refusing(*extra))
    assert [len(body.keys() & extra.keys()) for body in bodies] == [*range(len(extra), -1, -1), 0]
    assert [event.details["parameter"] for event in noted] == list(extra)


async def test_the_other_name_of_a_limit_is_tried():
    bodies, _ = await answered("together", ChatRequest(ASK.messages, model="m", max_tokens=9), refusing("max_tokens"))
    assert [body.get("max_completion_tokens") for body in bodies] == [None, 9, 9]


async def test_a_limit_that_is_refused_under_both_names_is_left_out():
    """As vLLM refuses one that is larger than its window, whichever name it was sent under."""
    names = {"max_tokens", "max_completion_tokens"}

    def choose(request):
        body = json.dumps({"error": {"message": "too large", "param": "max_tokens"}}).encode()
        refusal = Page(body, status=400, content_type="application/json")
        return [refusal] if request.body.keys() & names else [Say('{"a": "b"}'), Finish()]

    bodies, _ = await answered("vllm", ChatRequest(ASK.messages, model="m", max_tokens=9), choose)
    limits = [sorted(body.keys() & names) for body in bodies]
    assert limits == [["max_tokens"], ["max_completion_tokens"], [], []]


@pytest.mark.parametrize(
    ("name", "options", "parameter", "error"),
    [
        ("together", {}, "response_format", "response_format"),
        ("together", {}, "response_format", "response_format.json_schema"),
        ("openai", {"api": "responses"}, "text", "text.format"),
        ("anthropic", {}, "output_config", "output_config.format"),
    ],
)
async def test_a_refused_schema_is_written_in_words(name, options, parameter, error):
    request = ChatRequest(ASK.messages, model="m", response_schema=SCHEMA)
    choose = refusing(parameter, error=lambda _: {"error": {"message": "no", "param": error}})
    bodies, _ = await answered(name, request, choose, **options)
    assert [parameter in body for body in bodies] == [True, False, False]
    assert ["JSON Schema" in json.dumps(body) for body in bodies] == [False, True, True]
    assert "Be brief." in json.dumps(bodies[1])


@pytest.mark.parametrize("status", [400, 422])
async def test_a_required_parameter_is_not_left_out(status):
    error = {"error": {"message": "no", "param": "messages[0].role"}}
    choose = refusing("messages", error=lambda _: error, status=status)
    with pytest.raises(RequestRejected):
        await answered("together", ASK, choose)


async def test_a_refusal_without_a_parameter_is_final():
    async with open_fault_server([Status(400, message="temperature is not supported")]) as server:
        async with provider_named("together", base_url=server.url, api_key="k") as provider:
            with pytest.raises(RequestRejected):
                await provider.complete(ChatRequest(ASK.messages, model="m", temperature=0.3), Call())
        assert len(server.requests) == 1


def nested(count):
    """A schema whose references lead to more schemas than one tool may have, where references are replaced."""
    node = {"type": "object", "properties": {f"p{n}": {"$ref": f"#/$defs/n{n}"} for n in range(count)}}
    return {**node, "$defs": {f"n{n}": node for n in range(count)}}


@pytest.mark.parametrize(
    ("name", "model", "tools", "left_out"),
    [
        ("gemini", "gemini-3-pro-preview", [ToolSpec(name="endless", parameters=nested(20)), ToolSpec(name="a")], {"endless": "too large"}),
        ("deepseek", "deepseek-chat", [ToolSpec(name=f"t{n}") for n in range(130)], {"t128": "more than 128", "t129": "more than 128"}),
        ("openai", "gpt-4o", [ToolSpec(name="a"), ToolSpec(name="b"), ToolSpec(name="a")], {"a": "two of this name"}),
        ("perplexity", "sonar", [ToolSpec(name="a")], {"a": "no tools"}),
    ],
)  # fmt: skip
async def test_each_tool_that_is_left_out_is_reported(name, model, tools, left_out):
    request = ChatRequest(ASK.messages, model=model, tools=tools)
    bodies, noted = await answered(name, request, lambda _: [Say('{"a": "b"}'), Finish()])
    assert len(bodies[0].get("tools", ())) == len(tools) - len(left_out)
    assert {event.what for event in noted} == {"tool left out"}
    reasons = {event.details["tool"]: event.details["reason"] for event in noted}
    assert reasons.keys() == left_out.keys()
    assert all(left_out[tool] in reason for tool, reason in reasons.items())


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"error": {"param": "seed"}}, "seed"),
        ({"param": "seed"}, "seed"),
        ([{"error": {"param": "seed"}}], "seed"),
        ({"error": {"param": "body.seed"}}, "seed"),
        ({"error": {"param": "$.seed"}}, "seed"),
        ({"error": {"param": "stop[0]"}}, "stop"),
        ({"error": {"param": "messages[0].role"}}, "messages"),
        ({"error": {"param": "text.format[0].x"}}, "text.format"),
        ({"error": {"param": "text"}}, "text"),
        ({"error": {"param": "seed.x"}}, "seed"),
        ({"error": {"param": None}}, ""),
        ({"error": {"param": 3}}, ""),
        ({"detail": [{"loc": ["body", "seed"]}]}, "seed"),
        ({"detail": [{"loc": ["body", "stop", 0]}]}, "stop"),
        ({"message": {"detail": [{"loc": ["body", "seed"]}]}}, "seed"),
        ({"detail": [3, {"loc": "seed"}, {"field": "seed"}]}, "seed"),
        ({"errors": [{"param": "seed"}]}, "seed"),
        ({"error": {"details": [{"fieldViolations": [{"field": "seed"}]}]}}, "seed"),
        ({"error": {"metadata": {"raw": '{"error": {"param": "seed"}}'}}}, "seed"),
        ({"error": {"metadata": {"raw": {"error": {"param": "seed"}}}}}, "seed"),
        ({"error": {"metadata": {"raw": "no JSON"}}}, ""),
        ({"error": {"metadata": "x"}}, ""),
        ({"error": {"error": {"error": {"param": "seed"}}}}, "seed"),
        ({"error": {"error": {"error": {"error": {"param": "seed"}}}}}, ""),
        ({"detail": "seed"}, ""),
        ({"error": {"message": "seed is refused"}}, ""),
        ([], ""),
        (3, ""),
    ],
    ids=repr,
)
def test_a_refused_parameter_is_named_by_typed_fields_only(body, name):
    assert refused_parameter(json.dumps(body)) == name


def test_what_is_no_json_names_no_parameter():
    assert refused_parameter(b"{") == refused_parameter(b"\xff") == refused_parameter("[" * 20_000) == ""


def test_a_parameter_is_learned_once_for_the_model_that_refused_it():
    refused = RefusedOptions()
    body = {"model": "m", "messages": [], "seed": 1, "text": {"format": 1, "verbosity": "low"}, "max_tokens": 9}
    for name in ("messages", "model", "", "absent", "text.absent", "seed.x"):
        assert not refused.learn("m", name, body), name
    assert refused.without("m", body) is body
    assert refused.learn("m", "seed", body)
    assert not refused.learn("m", "seed", body)
    assert refused.of("m") == {"seed"}
    assert refused.of("other") == frozenset()
    assert refused.learn("m", "text.format", body)
    assert refused.without("m", body) == {
        "model": "m",
        "messages": [],
        "text": {"verbosity": "low"},
        "max_tokens": 9,
    }
    assert refused.learn("m", "text.verbosity", body)
    assert "text" not in refused.without("m", body)
    assert refused.without("m", {"text": 3}) == {"text": 3}
    assert refused.learn("m", "max_completion_tokens", body)
    assert refused.without("m", body)["max_completion_tokens"] == 9
    assert refused.without("other", body) is body
    assert body["seed"] == 1
