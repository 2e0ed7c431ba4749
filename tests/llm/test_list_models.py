"""What a provider lists, in both dialects."""

from __future__ import annotations

import pytest
import trio
from net.servers import Conversation, answering, hear_nothing, open_server, response

from clawft_trio.errors import AuthFailed, InvalidResponse, NotConfigured
from clawft_trio.llm import Anthropic, OpenAICompatible

KEY = "sk-very-secret-key-of-ana"


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (OpenAICompatible, (b"GET /v1/models HTTP/1.1", f"authorization: bearer {KEY}".encode())),
        (Anthropic, (b"GET /v1/models?limit=1000 HTTP/1.1", f"x-api-key: {KEY}".encode())),
    ],
)
async def test_models_are_listed_with_the_dialects_own_headers(make: type, asked: tuple[bytes, bytes]) -> None:
    heads = []

    async def talk(peer: Conversation) -> None:
        head, _ = await peer.request() or (b"", b"")
        heads.append(head)
        await peer.send(response(b'{"object": "list", "data": [{"id": "a", "owned_by": "x"}, {"id": "b"}]}'))

    async with open_server(talk) as server, make("mine", base_url=f"{server.url}/v1", api_key=KEY) as provider:
        assert await provider.list_models() == ("a", "b")
    assert heads[0].startswith(asked[0])
    assert asked[1] in heads[0].lower()


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (response(b'{"error": {"message": "%s"}}' % KEY.encode(), status="401 No"), AuthFailed),
        (response(b'{"data": ["%s"]}' % KEY.encode()), InvalidResponse),
        (response(KEY.encode()), InvalidResponse),
        (response(b'{"data": [{"id": "\xff%s"}]}' % KEY.encode()), InvalidResponse),
        (response(b'{"x": %s%s}' % (b"[" * 100_000, b"]" * 100_000)), InvalidResponse),
    ],
    ids=["refused", "another list", "no JSON", "no UTF-8", "nested deeply"],
)
async def test_what_is_no_list_is_an_error_without_the_key(raw: bytes, error: type[Exception]) -> None:
    async with open_server(answering(raw)) as server, OpenAICompatible("m", base_url=server.url, api_key=KEY) as mine:
        with pytest.raises(error) as caught:
            await mine.list_models()
    assert KEY not in str(caught.value) + repr(caught.value)


async def test_a_key_that_no_header_may_hold_is_refused_before_anything_is_sent() -> None:
    async with OpenAICompatible("m", base_url="http://127.0.0.1:9", api_key="\n") as mine:
        with pytest.raises(NotConfigured):
            await mine.list_models()


async def test_cancelled_it_leaves_no_connection() -> None:
    async with open_server(hear_nothing) as server, OpenAICompatible("m", base_url=server.url) as mine:
        with trio.move_on_after(0.2):
            await mine.list_models()
        await server.wait_open(0)
        assert mine.statistics().admission.in_use == 0
