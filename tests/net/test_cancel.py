from __future__ import annotations

import gc
import random
import ssl
import warnings
from contextlib import suppress

import pytest
import trio
import trustme
from net.servers import (
    CHUNKED,
    Conversation,
    Server,
    answering,
    chunk,
    hear_nothing,
    open_server,
    open_sockets,
    response,
    streaming,
)

from clawft_trio.errors import ClawftError
from clawft_trio.net import Admission, Clocks, HttpEndpoint
from clawft_trio.testing.sweep import cancel_everywhere

both = pytest.mark.parametrize("library", ["httpx", "httpx2"])


def is_clean(http: HttpEndpoint, server: Server):
    """What holds when nothing is under way: no token, no connection but the idle ones, on both sides."""

    async def check() -> None:
        seen = http.statistics()
        assert (seen.admission.in_use, seen.admission.waiting, seen.busy) == (0, 0, 0), http
        await server.wait_open(seen.idle)

    return check


@both
@pytest.mark.parametrize(
    "talk", [answering(response(b"x" * 200_000)), streaming([b"one", b"two"])], ids=["whole", "chunked"]
)
async def test_a_whole_answer_can_be_cancelled_anywhere(library, talk):
    async with (
        open_server(talk) as server,
        HttpEndpoint(server.url, library=library) as http,
    ):

        async def ask() -> None:
            async with http.request("POST", content=b"hello") as answer:
                await answer.read()

        assert await cancel_everywhere(ask, is_clean(http, server)) > 10


@both
async def test_a_stream_left_early_can_be_cancelled_anywhere(library):
    async with open_server(streaming([b"one", b"two"], end=False)) as server:
        async with HttpEndpoint(server.url, library=library) as http:

            async def ask() -> None:
                async with http.request("GET") as answer:
                    async for _ in answer.chunks():
                        break

            assert await cancel_everywhere(ask, is_clean(http, server)) > 10


@both
async def test_a_request_that_fails_can_be_cancelled_anywhere(library):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"x"))

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:

        async def ask() -> None:
            with suppress(ClawftError):
                async with http.request("GET") as answer:
                    await answer.read()

        assert await cancel_everywhere(ask, is_clean(http, server)) > 10


@both
async def test_a_request_over_tls_can_be_cancelled_anywhere(library, tls):
    server_side, client_side = tls
    async with open_server(answering(response(b"x")), tls=server_side, host="localhost") as server:
        async with HttpEndpoint(server.url, library=library, verify=client_side, trust_env=False) as http:

            async def ask() -> None:
                async with HttpEndpoint(server.url, library=library, verify=client_side, trust_env=False) as fresh:
                    async with fresh.request("GET") as answer:
                        await answer.read()

            before = open_sockets()
            assert await cancel_everywhere(ask, is_clean(http, server)) > 20
            assert open_sockets() == before


async def test_waiting_for_admission_can_be_cancelled_anywhere():
    admission = Admission(1)

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(hold)

    async def hold() -> None:
        async with admission.admit():
            await trio.lowlevel.checkpoint()

    async def check() -> None:
        seen = admission.statistics()
        assert (seen.in_use, seen.waiting) == (0, 0)

    assert await cancel_everywhere(wait, check) > 5


@pytest.fixture
def tls():
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return server_side, client_side


@both
async def test_a_cancelled_handshake_leaves_no_socket(library):
    async with open_server(hear_nothing) as server:
        async with HttpEndpoint(server.url.replace("http:", "https:"), library=library) as http:
            before = open_sockets()
            gc.disable()
            try:
                for count in range(1, 6):
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(_ask, http)
                            with trio.fail_after(5):
                                while server.accepted < count:
                                    await trio.sleep(0.001)
                            await trio.testing.wait_all_tasks_blocked(0.005)
                            scope.cancel(reason="in the middle of the handshake")
                    await is_clean(http, server)()
                assert open_sockets() == before
            finally:
                gc.enable()


async def _ask(http: HttpEndpoint) -> None:
    async with http.request("GET"):
        pass


@both
async def test_a_handshake_that_hangs_is_ended_by_the_connect_clock(library):
    async with open_server(hear_nothing) as server:
        url = server.url.replace("http:", "https:")
        async with HttpEndpoint(url, library=library, clocks=Clocks(connect=0.05)) as http:
            with pytest.raises(ClawftError) as caught:
                await _ask(http)
            assert (caught.value.clock, caught.value.limit) == ("connect", 0.05)
            await is_clean(http, server)()


async def _storm(http: HttpEndpoint, chance: random.Random) -> None:
    async def one() -> None:
        # Deadlines around what a request takes, so that they hit every part of it.
        with trio.move_on_after(chance.uniform(0.0, 0.02)):
            with suppress(ClawftError):
                async with http.request("POST", content=b"x") as answer:
                    if chance.random() < 0.7:
                        await answer.read()

    async with trio.open_nursery() as nursery:
        for _ in range(chance.randint(5, 25)):
            nursery.start_soon(one)


async def _weather_storms(library: str, storms: int, seed: int) -> None:
    chance = random.Random(seed)

    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            await trio.sleep(chance.uniform(0, 0.005))
            close = chance.random() < 0.5
            header = "connection: close\r\n" if close else ""
            if chance.random() < 0.5:
                await peer.send(response(b"y" * 1000, headers=header))
            else:
                await peer.send(CHUNKED[:-2] + header.encode() + b"\r\n" + chunk(b"y" * 400))
                await trio.sleep(chance.uniform(0, 0.002))
                await peer.send(chunk(b"y" * 600) + b"0\r\n\r\n")
            if close:
                return

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library, connections=3) as http:
        for storm in range(storms):
            await _storm(http, chance)
            seen = http.statistics()
            where = f"seed {seed}, storm {storm}: {http!r}"
            assert (seen.admission.in_use, seen.admission.waiting, seen.busy) == (0, 0, 0), where
            with trio.fail_after(5):
                async with http.request("GET") as answer:
                    assert len(await answer.read()) == 1000, where
        await server.wait_open(http.statistics().idle)
        assert http.statistics().idle <= 3


@both
async def test_an_endpoint_still_answers_after_storms_of_cancelled_requests(library):
    await _weather_storms(library, 40, seed=random.randrange(2**32))


@both
@pytest.mark.long
async def test_an_endpoint_still_answers_after_two_hundred_storms(library):
    await _weather_storms(library, 200, seed=random.randrange(2**32))


@both
@pytest.mark.parametrize("how", ["break", "raise", "cancel", "untouched", "cut", "broken"])
async def test_no_generator_is_left_to_the_garbage_collector(library, how):
    talk = streaming([b"one", b"two"], end=False)
    if how == "broken":

        async def talk(peer: Conversation) -> None:
            await peer.request()
            await peer.send(CHUNKED + chunk(b"x"))
            peer.reset()

    async def ask(http: HttpEndpoint) -> None:
        with suppress(ZeroDivisionError, ClawftError), trio.CancelScope() as scope:
            async with http.request("GET") as answer:
                if how == "untouched":
                    return
                if how == "cut":
                    await answer.read(limit=1, cut=True)
                    return
                async for _ in answer.chunks():
                    if how == "break":
                        break
                    if how == "raise":
                        raise ZeroDivisionError
                    if how == "cancel":
                        scope.cancel(reason="enough")

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(3):
                await ask(http)
            gc.collect()
            await trio.testing.wait_all_tasks_blocked()
        assert [str(warning.message) for warning in seen] == []
        await is_clean(http, server)()
