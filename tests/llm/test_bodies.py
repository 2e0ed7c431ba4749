"""How a body is labelled, compressed, bounded and ended: over real sockets, in every dialect."""

import json
import tracemalloc
import zlib
from contextlib import aclosing
from types import SimpleNamespace

import attrs
import pytest
import trio
from llm.asking import BOTH_WAYS, DIALECTS, PROVIDERS, Seen, asking, provider
from llm.spoken import DONE, chunk, spoken
from net.servers import open_server

from clawft_trio import errors as e
from clawft_trio.attempts import Usage
from clawft_trio.chat import Call
from clawft_trio.llm.http_answer import HttpAnswer
from clawft_trio.net import Clocks
from clawft_trio.testing import CallTool, Finish, Page, Say, Think, open_fault_server

SCRIPT = [Say("Hello "), Say("there"), Finish(usage=Usage(input_tokens=9, output_tokens=5))]


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@DIALECTS
@BOTH_WAYS
@pytest.mark.parametrize("label", ["application/json", "text/plain", "text/event-stream; charset=utf-8", "", "x/y"])
async def test_the_first_byte_and_not_the_content_type_decides_what_a_body_is(dialect, stream, label):
    body = spoken(dialect, SCRIPT, stream=stream)
    async with open_fault_server([Page(body, content_type=label)]) as server, provider(dialect, server) as model:
        response = await model.complete(asking(not stream), Call())
    assert (response.text, response.usage.output_tokens) == ("Hello there", 5)


@DIALECTS
@BOTH_WAYS
@pytest.mark.parametrize("pack", [zlib.compress, raw_deflate], ids=["zlib", "raw"])
async def test_deflate_is_read_with_and_without_its_header(dialect, stream, pack):
    page = Page(
        pack(spoken(dialect, SCRIPT, stream=stream)),
        content_type="text/event-stream" if stream else "application/json",
        headers={"content-encoding": "deflate"},
    )
    async with open_fault_server([page]) as server, provider(dialect, server) as model:
        assert (await model.complete(asking(stream), Call())).text == "Hello there"


def endless(dialect):
    """The beginning of a stream, an event that may be repeated without end, and the characters of text in that."""
    body = spoken(dialect, [Say("x" * 1000), Finish()])
    head, _, rest = body.partition(b"x" * 1000)
    start, _, label = head.rpartition(b"\n\n")
    return start + b"\n\n", label + b"x" * 1000 + rest.partition(b"\n\n")[0] + b"\n\n", 1000


@DIALECTS
async def test_an_answer_without_end_is_refused_at_its_bound_and_takes_no_more_memory(dialect):
    begin, piece, size = endless(dialect)
    sent = 0

    async def talk(conversation):
        nonlocal sent
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + begin)
        while True:
            await conversation.send(piece)
            sent += size

    limit = 400_000
    async with open_server(talk) as server, provider(dialect, server, max_answer=limit) as model:
        tracemalloc.start()
        try:
            with pytest.raises(e.AnswerTooLarge) as caught:
                await model.complete(asking(), Call())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.limit == limit
    assert limit <= len(caught.value.partial.text) <= limit + 300_000
    # The text as it grows, as one string, and the buffers of the connection.
    assert peak < 12 * limit
    assert not caught.value.retryable


@DIALECTS
async def test_a_document_without_end_is_refused_at_its_bound(dialect):
    async def talk(conversation):
        await conversation.request()
        await conversation.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"x": "')
        while True:
            await conversation.send(b"x" * 1000)

    async with open_server(talk) as server, provider(dialect, server, max_answer=50_000) as model:
        with pytest.raises(e.AnswerTooLarge):
            await model.complete(asking(stream=False), Call())


@DIALECTS
@pytest.mark.parametrize("what", ["reasoning", "arguments"])
async def test_the_bound_counts_all_that_is_kept(dialect, what):
    step = Think("x" * 90_000) if what == "reasoning" else CallTool("w", {"a": "x" * 90_000})
    async with open_fault_server([step, Finish()]) as server, provider(dialect, server, max_answer=50_000) as model:
        with pytest.raises(e.AnswerTooLarge):
            await model.complete(asking(), Call())


PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "responses": "/v1/responses"}


@DIALECTS
@pytest.mark.parametrize(
    ("status", "head", "body", "advice"),
    [
        (404, "text/html", b"<html>Not Found</html>", "check the base URL"),
        (404, "text/plain", b"404 page not found", "check the base URL"),
        (404, "application/json", b'{"detail": "Not Found"}', "check the base URL"),
        (404, "application/json", b"", "check the base URL"),
        (
            404,
            "application/json",
            b'{"timestamp": 1, "status": 404, "error": "Not Found", "path": "/x"}',
            "check the base URL",
        ),
        (404, "application/json", b'{"message": "Route not found", "error": "Not Found", "statusCode": 404}', "check"),
        (404, "application/json", b'{"message": "no Route matched with those values"}', "check the base URL"),
        (404, "application/problem+json", b'{"type": "about:blank", "title": "Not Found", "status": 404}', "check"),
        (404, "text/plain", b"Cannot POST /v1/x", "check the base URL"),
        (404, "application/json", b"null", "check the base URL"),
        (405, "application/json", b'{"detail": "Method Not Allowed"}', "check the base URL"),
        (405, "application/json", b'{"error": {"message": "Method Not Allowed", "code": "x"}}', "check the base URL"),
        (501, "text/html", b"Unsupported method", "check the base URL"),
        (308, "text/html", b"", "redirects"),
    ],
    ids=str,
)
async def test_a_server_without_the_api_is_a_wrong_address(dialect, status, head, body, advice):
    page = Page(body, status=status, content_type=head, headers={"location": "https://x.example/y"})
    async with open_fault_server([page]) as server, provider(dialect, server) as model:
        with pytest.raises(e.WrongAddress) as caught:
            await model.complete(asking(), Call())
    error = caught.value
    assert error.status == status
    assert advice in str(error)
    assert f"POST {server.url}{PATHS[dialect].removeprefix('/v1')}" in str(error)
    assert (error.retryable, error.curable_elsewhere) == (False, True)


@DIALECTS
async def test_a_text_in_place_of_an_answer_at_a_path_without_a_version_is_a_wrong_address(dialect):
    page = Page(b'{"error": "Unexpected endpoint or method."}', content_type="application/json")
    async with open_fault_server([page], [page]) as server:
        for base, kind in (("", e.WrongAddress), ("/v1", e.ServerError)):
            address = server.url.removesuffix("/v1") + base
            async with PROVIDERS[dialect]("p", base_url=address, model="m") as model:
                with pytest.raises(e.ProviderError) as caught:
                    await model.complete(asking(), Call())
            assert type(caught.value) is kind
            assert ("/v1" in str(caught.value)) == (kind is e.WrongAddress)


@DIALECTS
async def test_a_web_page_in_place_of_an_answer_names_its_address(dialect):
    async with open_fault_server([Page(b"<html>Sign in</html>")]) as server, provider(dialect, server) as model:
        with pytest.raises(e.InvalidResponse, match="web page answers POST http.*check the base URL"):
            await model.complete(asking(), Call())


@DIALECTS
async def test_a_base_url_with_the_path_in_it_is_named(dialect):
    async with open_fault_server([Page(b"no", status=404)]) as server:
        address = server.url + PATHS[dialect].removeprefix("/v1")
        async with PROVIDERS[dialect]("p", base_url=address, model="m") as model:
            with pytest.raises(e.WrongAddress, match="must end before the path"):
                await model.complete(asking(), Call())


def framed(dialect, message, code):
    """The error object of *dialect*, as its servers send it."""
    error = {"type": code, "message": message, "code": None if dialect == "anthropic" else code}
    return {"type": "error", "error": error} if dialect == "anthropic" else {"error": error}


@DIALECTS
@pytest.mark.parametrize("odd", ["", "/api", "/v1{path}", "/v1/v1"])
async def test_the_dialects_own_error_at_a_path_that_no_api_has_is_a_wrong_address(dialect, odd):
    # So do llmock for every path, and Anthropic and OpenAI for theirs.
    page = Page(json.dumps(framed(dialect, "Not Found", "not_found_error")).encode(), status=404)
    path = PATHS[dialect].removeprefix("/v1")
    async with open_fault_server([page]) as server:
        base = server.url.removesuffix("/v1") + odd.format(path=path)
        async with PROVIDERS[dialect]("p", base_url=base, model="m-1") as model:
            with pytest.raises(e.WrongAddress) as caught:
                await model.complete(asking(), Call())
    assert f"POST {base}{path} (status 404: 'Not Found')" in str(caught.value)
    assert "check the base URL" in str(caught.value)


@DIALECTS
async def test_an_error_of_another_dialect_is_a_wrong_address(dialect):
    other = "openai" if dialect == "anthropic" else "anthropic"
    page = Page(json.dumps(framed(other, "Not Found", "not_found_error")).encode(), status=404)
    async with open_fault_server([page]) as server, provider(dialect, server) as model:
        with pytest.raises(e.WrongAddress, match="check the base URL"):
            await model.complete(asking(), Call())


@DIALECTS
@pytest.mark.parametrize(
    ("base", "error"), [("", e.WrongAddress), ("/v1", e.ModelNotFound), ("/x/v1", e.ModelNotFound)]
)
async def test_the_version_in_the_path_tells_a_missing_model_from_a_wrong_address(dialect, base, error):
    name = "anthropic" if dialect == "anthropic" else "openai"
    page = Page(json.dumps(framed(name, "model: m-1", "not_found_error")).encode(), status=404)
    async with open_fault_server([page]) as server:
        async with PROVIDERS[dialect]("p", base_url=server.url.removesuffix("/v1") + base, model="m-1") as model:
            with pytest.raises(error, match="model: m-1"):
                await model.complete(asking(), Call())


@pytest.mark.parametrize(
    "body",
    [
        {"code": "Some requested entity was not found", "error": "The model m does not exist"},  # xAI
        {"error": "Model m does not exist", "error_type": "not_found"},  # text-generation-inference
    ],
)
async def test_a_text_with_a_code_in_place_of_an_error_object_is_a_missing_model(body):
    page = Page(json.dumps(body).encode(), status=404, content_type="application/json")
    async with open_fault_server([page]) as server, provider("openai", server) as model:
        with pytest.raises(e.ModelNotFound, match="m does not exist"):
            await model.complete(asking(), Call())


@DIALECTS
async def test_a_404_that_could_be_either_names_what_was_asked(dialect):
    page = Page(json.dumps(framed(dialect, "Not Found", "not_found_error")).encode(), status=404)
    async with open_fault_server([page]) as server, provider(dialect, server) as model:
        with pytest.raises(e.ModelNotFound, match="check the model's name and the base URL") as caught:
            await model.complete(asking(), Call())
    assert f"POST {server.url}" in str(caught.value)


MODEL_ERRORS = {
    "openai": {"error": {"message": "no such model", "code": "model_not_found", "type": "invalid_request_error"}},
    "anthropic": {"type": "error", "error": {"type": "not_found_error", "message": "model: m"}},
    "responses": {"error": {"message": "no such model", "code": "model_not_found"}},
}


@DIALECTS
async def test_a_404_with_an_error_of_the_api_is_a_missing_model(dialect):
    page = Page(json.dumps(MODEL_ERRORS[dialect]).encode(), status=404, content_type="application/json")
    async with open_fault_server([page]) as server, provider(dialect, server) as model:
        with pytest.raises(e.ModelNotFound) as caught:
            await model.complete(asking(), Call())
    assert not isinstance(caught.value, e.WrongAddress)


def wait_after(body, seconds):
    """A server that sends *body*, waits, and then ends the body of its response."""

    async def talk(conversation):
        while await conversation.request():
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            await conversation.send(head + b"%x\r\n" % len(body) + body + b"\r\n")
            await trio.sleep(seconds)
            await conversation.send(b"0\r\n\r\n")

    return talk


async def answered_in(talk, dialect, clocks):
    """Seconds that an answer took, and the connections that stayed open."""
    async with open_server(talk) as server, provider(dialect, server, clocks=clocks) as model:
        started = trio.current_time()
        with trio.move_on_after(20):
            await model.complete(asking(), Call())
        return trio.current_time() - started, model.statistics().idle


@DIALECTS
async def test_a_body_that_stays_open_after_the_last_event_is_waited_for_briefly(dialect):
    # 50 ms, not the whole `linger`: then the connection is given up.
    taken, idle = await answered_in(wait_after(spoken(dialect, SCRIPT), 30.0), dialect, Clocks(linger=10.0))
    assert taken < 5.0
    assert idle == 0


@DIALECTS
async def test_a_body_that_ends_soon_after_the_last_event_leaves_its_connection(dialect):
    _, idle = await answered_in(wait_after(spoken(dialect, SCRIPT), 0.0), dialect, Clocks())
    assert idle == 1


@pytest.mark.parametrize("linger", [0.1, 30.0])
async def test_after_a_finish_reason_without_done_the_body_is_waited_for_as_long_as_linger(linger):
    body = chunk({"content": "Hi"}) + chunk({}, "stop")
    taken, idle = await answered_in(wait_after(body, 0.5), "openai", Clocks(linger=linger))
    assert (taken < 0.45) == (linger == 0.1)
    assert idle == (linger == 30.0)


async def test_usage_within_linger_is_counted_and_later_usage_is_not():
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}\n\n' + DONE

    async def talk(conversation):
        while await conversation.request():
            await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            await conversation.send(chunk({"content": "Hi"}) + chunk({}, "stop"))
            await trio.sleep(0.3)
            await conversation.send(usage)
            await conversation.stream.aclose()

    for linger, found in ((20.0, 5), (0.02, None)):
        seen = Seen()
        async with open_server(talk) as server, provider("openai", server, clocks=Clocks(linger=linger)) as model:
            response = await model.complete(asking(), seen.call)
        assert (response.usage and response.usage.output_tokens) == found
        assert seen.record.certainty == ("exact" if found else None)


@pytest.mark.parametrize(("ended", "seconds"), [(True, 0.05), (False, 10.0)])
async def test_a_silent_body_is_waited_for_fifty_milliseconds_after_the_last_event(autojump_clock, ended, seconds):
    async def silent():
        await trio.sleep_forever()
        yield b""

    fields = dict.fromkeys(attrs.fields_dict(HttpAnswer))
    reading = SimpleNamespace(ended=ended)
    answer = HttpAnswer(**{**fields, "clocks": Clocks(linger=10.0), "reading": reading})
    async with aclosing(silent()) as chunks:
        started = trio.current_time()
        await answer._linger(chunks)
    assert trio.current_time() - started == pytest.approx(seconds)
