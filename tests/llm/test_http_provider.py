"""What one call to a provider over HTTP sends, and what it reports about itself."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import trio
from llm.asking import asking, provider
from llm.spoken import DONE, chunk
from net.servers import hear_nothing, open_server

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import InvalidResponse, ProviderError, RequestRejected
from clawft_trio.llm import OpenAICompatible, OpenAIResponses, provider_named
from clawft_trio.llm.refused_options import MOST_REFUSALS
from clawft_trio.net import Clocks
from clawft_trio.observe import AttemptStarted, Noted, RequestConformed
from clawft_trio.retry_hints import RateLimit
from clawft_trio.testing import Finish, Page, Say, Status, open_fault_server

STREAM = chunk({"content": "Hi"}) + chunk({}, "stop") + DONE


def test_an_answer_has_at_least_one_character() -> None:
    OpenAICompatible("p", base_url="http://127.0.0.1:9", max_answer=1)
    with pytest.raises(ValueError, match="max_answer"):
        OpenAICompatible("p", base_url="http://127.0.0.1:9", max_answer=0)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://127.0.0.1:9/v1", ("127.0.0.1", 9)),
        ("http://example.org", ("example.org", 80)),
        ("https://example.org/v1", ("example.org", 443)),
        ("https://example.org:8443/v1", ("example.org", 8443)),
    ],
)
async def test_a_started_attempt_names_its_server(url: str, server: tuple[str, int]) -> None:
    started: list[object] = []

    def unavailable() -> str:
        raise OSError("no key today")

    async with OpenAICompatible("p", base_url=url, api_key=unavailable, model="m") as model:
        with pytest.raises(OSError, match="no key today"):
            await model.complete(asking(temperature=0.5), Call(observer=started.append, id="c", turn_id="t"))
    event = started[0]
    assert isinstance(event, AttemptStarted)
    assert (event.server_address, event.server_port) == server
    assert (event.target, event.call_id, event.turn_id) == ("p/m", "c", "t")
    assert event.options["temperature"] == 0.5


@pytest.mark.parametrize(("temperature", "reported"), [(0.5, 1), (None, 0)])
async def test_a_change_of_the_request_is_reported_once_for_all_attempts(
    temperature: float | None, reported: int
) -> None:
    events: list[object] = []
    call = Call(observer=events.append, id="c", turn_id="t")
    async with open_fault_server([Status(503)], [Say("Hi"), Finish()]) as server:
        async with provider_named("openai", base_url=server.url, api_key="k", api="chat", model="o3") as model:
            with pytest.raises(ProviderError):
                await model.complete(asking(temperature=temperature), call)
            await model.complete(asking(temperature=temperature), call)
    conformed = [event for event in events if isinstance(event, RequestConformed)]
    assert [(event.target, event.call_id, event.turn_id) for event in conformed] == [("openai/o3", "c", "t")] * reported
    assert all(event.changes == {"temperature left out": 1} for event in conformed)


async def test_a_call_leaves_out_a_bounded_number_of_refused_parameters() -> None:
    names = [f"option_{number}" for number in range(MOST_REFUSALS + 3)]

    def choose(request):
        refused = next(name for name in names if name in request.body)
        return [Page(json.dumps({"error": {"param": refused}}).encode(), status=400, content_type="application/json")]

    events: list[object] = []
    async with open_fault_server(choose=choose) as server, provider("openai", server) as model:
        with pytest.raises(RequestRejected):
            await model.complete(asking(extra=dict.fromkeys(names, 1)), Call(observer=events.append, id="c"))
        assert len(server.requests) == MOST_REFUSALS + 1
    noted = [event for event in events if isinstance(event, Noted)]
    assert [event.details for event in noted] == [
        {"target": "p/m", "parameter": name} for name in names[:MOST_REFUSALS]
    ]
    assert {(event.what, event.call_id) for event in noted} == {("parameter refused", "c")}


@pytest.mark.parametrize("status", [403, 404, 413])
async def test_only_a_400_or_422_is_about_a_parameter(status: int) -> None:
    body = json.dumps({"error": {"message": "no", "param": "top_p"}}).encode()
    async with open_fault_server([Page(body, status=status, content_type="application/json")]) as server:
        async with provider("openai", server) as model:
            with pytest.raises(ProviderError):
                await model.complete(asking(extra={"top_p": 1}), Call())
        assert len(server.requests) == 1


async def test_only_a_request_with_a_schema_is_changed_by_a_refused_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}

    def choose(request):
        refusal = Page(b'{"error": {"param": "response_format"}}', status=400, content_type="application/json")
        return [refusal] if "response_format" in request.body else [Say("{}"), Finish()]

    request = ChatRequest([Message.user("q")], model="m")
    async with open_fault_server(choose=choose) as server:
        async with provider_named("together", base_url=server.url, api_key="k") as model:
            plain: list[object] = []
            other: list[object] = []
            await model.complete(request, Call())
            await model.complete(attrs.evolve(request, response_schema=schema), Call())
            await model.complete(request, Call(observer=plain.append))
            await model.complete(attrs.evolve(request, response_schema=schema, model="x"), Call(observer=other.append))
        bodies = [exchange.request.body for exchange in server.exchanges]
    # The schema is refused, written into the prompt, not in a request without one, and tried with each other model.
    assert ["response_format" in body for body in bodies] == [False, True, False, False, True, False]
    assert ["JSON Schema" in json.dumps(body["messages"]) for body in bodies] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert not any(isinstance(event, RequestConformed) for event in plain)


@pytest.mark.parametrize(("status", "listed"), [(200, True), (206, True), (299, True), (300, False), (404, False)])
async def test_a_list_of_models_has_a_status_of_success(status: int, listed: bool) -> None:
    raw = b'HTTP/1.1 %d Some\r\ncontent-length: 23\r\n\r\n{"data": [{"id": "a"}]} ' % status

    async def talk(peer) -> None:
        await peer.request()
        await peer.send(raw[:-1])

    async with open_server(talk) as server, OpenAICompatible("m", base_url=server.url) as model:
        if listed:
            assert await model.list_models() == ("a",)
        else:
            with pytest.raises(ProviderError) as caught:
                await model.list_models()
            assert (caught.value.status, isinstance(caught.value, InvalidResponse)) == (status, status == 300)


USUAL = Clocks().first_byte
assert USUAL is not None


@pytest.mark.parametrize(
    ("stream", "clocks", "pulses"),
    [
        (True, Clocks(), [0.0]),
        (True, Clocks(first_byte=USUAL), [0.0]),
        (True, Clocks(first_byte=USUAL - 1), [0.0]),
        (True, Clocks(first_byte=USUAL + 1), [USUAL + 1, "alive"]),
        (True, Clocks(first_byte=None), [0.0]),
        (False, Clocks(), [math.inf, "alive"]),
    ],
)
async def test_a_call_states_for_how_long_silence_is_normal(stream: bool, clocks: Clocks, pulses: list) -> None:
    seen: list[tuple[str, float]] = []
    async with open_fault_server([Page(STREAM, content_type="text/event-stream")]) as server:
        async with provider("openai", server, clocks=clocks) as model:
            await model.complete(asking(stream), Call(pulse=lambda sign, quiet: seen.append((sign, quiet))))
    quiet, *alive = pulses
    assert seen == [("waiting", 0.0), ("admitted", quiet), *((sign, 0.0) for sign in alive)]


async def test_an_answer_that_comes_whole_shows_no_sign_of_life_before_its_end() -> None:
    seen: list[tuple[str, float]] = []
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider("openai", server) as model:
        await model.complete(asking(False), Call(pulse=lambda sign, quiet: seen.append((sign, quiet))))
    assert seen == [("waiting", 0.0), ("admitted", math.inf)]


async def test_the_limits_that_an_answer_states_are_reported() -> None:
    seen: list[RateLimit] = []
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
    async with open_fault_server([Status(503, headers=headers)]) as server, provider("openai", server) as model:
        with pytest.raises(ProviderError):
            await model.complete(asking(), Call(limits=seen.extend))
    assert seen == [RateLimit(kind="requests", limit=60, remaining=59, resets_after=None)]


@pytest.mark.parametrize("operation", ["complete", "list_models"])
async def test_a_cancellation_while_connecting_is_no_group(operation: str) -> None:
    caught: list[BaseException] = []
    async with open_server(hear_nothing) as server, OpenAIResponses("p", base_url=server.url, model="m") as model:
        for deadline in (0.0, 0.05):
            with trio.move_on_after(deadline):
                try:
                    await (model.complete(asking(), Call()) if operation == "complete" else model.list_models())
                except BaseException as exc:
                    caught.append(exc)
                    raise
    assert [type(exc) for exc in caught] == [trio.Cancelled] * 2
