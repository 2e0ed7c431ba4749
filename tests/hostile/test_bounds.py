"""Values at their limits: what is just inside and just outside of a bound."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest
import trio
from net.servers import open_server

from clawft_trio import InboundMessage, open_agent
from clawft_trio.agent.from_config import _options
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.auth import ADMIN, UserPermissions
from clawft_trio.chat import Call
from clawft_trio.cli.check_provider import _absent
from clawft_trio.cli.errors import error_lines
from clawft_trio.cli.stdin import LONGEST_LINE, StdinLines
from clawft_trio.codec import shown
from clawft_trio.config import parse_config
from clawft_trio.errors import CircuitOpen, InvalidData, RateLimited, ServerError, ToolFailed
from clawft_trio.messages import OutboundMessage
from clawft_trio.net import HttpEndpoint
from clawft_trio.observe import make_redactor, spans_of
from clawft_trio.observe.attributes import _LONGEST, _Attributes
from clawft_trio.observe.events import AttemptEnded, AttemptStarted, FailedOver, HedgeStarted, Noted, RetryScheduled
from clawft_trio.resilience import Retry
from clawft_trio.testing import Finish, Say, ScriptedProvider
from clawft_trio.tools.workspace import Workspace


def chain(root: Path, links: int) -> str:
    (root / "file").write_text("x")
    before = "file"
    for number in range(links):
        (root / f"link{number}").symlink_to(before)
        before = f"link{number}"
    return before


@pytest.mark.parametrize(("links", "allowed"), [(1, True), (40, True), (41, False), (60, False)])
def test_a_path_goes_through_forty_links_and_no_more(tmp_path: Path, links: int, allowed: bool) -> None:
    path = chain(tmp_path, links)
    if allowed:
        with Workspace(tmp_path).open_file(path) as descriptor:
            assert os.read(descriptor, 1) == b"x"
    else:
        with pytest.raises(ToolFailed, match="too many symlinks"), Workspace(tmp_path).open_file(path):
            pass


@pytest.mark.parametrize("before", range(_LONGEST - 30, _LONGEST + 5))
def test_an_attribute_is_masked_before_it_is_cut(before: int) -> None:
    key = "Zq9xHunter2Zq9xHunter2"
    event = Noted(at=0.0, component="r", what="w", details={"text": "a" * before + key + "b" * 5000})
    values = " ".join(str(value) for _, value in _Attributes(texts=True, redact=make_redactor([key])).of(event))
    assert "Zq9x" not in values
    assert len(values) < 2 * _LONGEST


@pytest.mark.parametrize(("size", "cut"), [(58, False), (59, True)])
def test_a_value_is_quoted_up_to_sixty_characters(size: int, cut: bool) -> None:
    text = shown("x" * size)
    assert text == (f'"{"x" * 56}...' if cut else f'"{"x" * size}"')
    assert len(text) == 60


def test_a_deny_list_goes_before_what_is_allowed() -> None:
    admin = attrs.evolve(ADMIN, tool_denylist=["run_*"], model_denylist=["corp/*"])
    assert not admin.may_use_tool("run_command")
    assert admin.may_use_tool("read_file")
    assert not admin.may_use_model("corp/x")
    assert admin.may_use_model("other/x")
    some = UserPermissions(tool_access=["read_file"], tool_denylist=["read_file"], model_access=[], model_denylist=[])
    assert not some.may_use_tool("read_file")
    assert not some.may_use_tool("write_file")
    assert not some.may_use_model("any/model")


def test_a_model_with_a_tag_or_a_date_is_on_the_list() -> None:
    listed = ("llama3.2:latest", "claude-x-20260101", "gpt")
    assert list(_absent(["llama3.2", "claude-x", "gpt"], listed)) == []
    assert list(_absent(["llama3", "claude", "gp", "llama3.2:1b"], listed)) == ["llama3", "gp", "llama3.2:1b"]


@pytest.mark.parametrize(("seconds", "line"), [(0.0, "in 0 s"), (3.0, "in 3 s"), (None, "")])
def test_the_time_of_a_retry_is_told_also_when_it_is_now(seconds: float | None, line: str) -> None:
    text = "\n".join(error_lines(CircuitOpen("open", retry_after=seconds)))
    assert ("Try again" in text) is (seconds is not None)
    assert line in text


@pytest.mark.parametrize("size", [LONGEST_LINE, 3 * LONGEST_LINE])
async def test_a_line_of_standard_input_has_a_limit(tmp_path: Path, size: int) -> None:
    (tmp_path / "input").write_bytes(b"x" * size + b"\nnext\n")
    descriptor = os.open(tmp_path / "input", os.O_RDONLY)
    try:
        lines = StdinLines(descriptor)
        if size > LONGEST_LINE:
            with pytest.raises(InvalidData, match="a line of more than"):
                await lines.next_line()
        else:
            assert await lines.next_line() == "x" * size
            assert await lines.next_line() == "next"
            assert await lines.next_line() is None
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("given", [None, 1, 7])
def test_the_concurrency_of_a_provider_reaches_its_connections(given: int | None) -> None:
    own = {"apiKey": "k"} | ({} if given is None else {"concurrency": given})
    config = parse_config(json.dumps({"providers": {"openai": own}}))
    assert _options(config, "openai", config.providers["openai"]).get("connections") == given


async def test_no_more_idle_connections_are_kept_than_the_limit() -> None:
    async def page(conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    async with open_server(page) as other:

        async def redirect(conversation) -> None:
            location = other.url.encode()
            while await conversation.request() is not None:
                await conversation.send(b"HTTP/1.1 302 F\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location)

        async with open_server(redirect) as server, HttpEndpoint(server.url, connections=1, redirects=3) as endpoint:
            for _ in range(3):
                async with endpoint.request("GET") as response:
                    assert await response.read() == b"x"
                assert endpoint.statistics().idle <= 1
            assert endpoint.statistics().idle == 1


class Deaf:
    """A channel whose sends never end."""

    name = "ch"
    shows_partials = False

    def __init__(self) -> None:
        self.sending = trio.Event()

    async def receive(self, publish) -> None:
        await publish(InboundMessage(channel="ch", sender_id="a", chat_id="1", content="q"))
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        self.sending.set()
        await trio.sleep_forever()


async def test_a_channel_that_never_sends_delays_the_end_by_the_grace_of_final_replies(autojump_clock) -> None:
    channel, policy = Deaf(), LoopPolicy(grace=1.0, final_reply_grace=3.0)
    model = ScriptedProvider.saying("fine")
    async with open_agent(["p/m"], providers={"p": model}, channels=[channel], loop=policy):
        await channel.sending.wait()
        began = trio.current_time()
    assert 3.0 <= trio.current_time() - began <= 3.0 + 1.0 + 3.0


async def test_what_was_received_is_forgotten_with_its_reply(tmp_path: Path) -> None:
    model = ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, store=tmp_path / "s.db") as agent:
        asked = [
            InboundMessage(channel="ch", sender_id="a", chat_id=str(number), content="q", id=str(number))
            for number in range(5)
        ]
        for message in asked:
            await agent.bus.publish_inbound(message)
        replies = 0
        async for reply in agent.bus.outbound("ch"):
            replies += reply.kind == "final"
            if replies == 5:
                break
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not any(map(agent.parts.loop._intake.is_waiting, asked))


def test_the_attempt_of_a_hedge_is_told_from_that_of_a_failover() -> None:
    def event(kind, at, **fields):
        return kind(call_id="c", turn_id="t", at=at, **fields)

    error = ServerError("down")
    events = [
        event(AttemptStarted, 0.0, target="a/m"),
        event(FailedOver, 1.0, failed="a/m", target="b/m", error=error),
        event(HedgeStarted, 1.0, slow="b/m", target="d/m"),
        event(AttemptStarted, 1.0, target="d/m"),
        event(AttemptStarted, 1.0, target="b/m"),
        event(
            AttemptEnded,
            5.0,
            record=AttemptRecord(target="b/m", outcome="ok", started=1.0, latency=Latency(total=4.0)),
        ),
    ]
    attempts = [span for span in spans_of(events).walk() if span.kind == "attempt"]
    assert {span.name: span.role for span in attempts} == {"a/m": "first", "d/m": "hedge", "b/m": "failover"}


def test_an_attempt_that_starts_during_the_wait_of_a_retry_is_not_the_retry() -> None:
    def event(kind, at, **fields):
        return kind(call_id="c", turn_id="t", at=at, **fields)

    events = [
        event(AttemptStarted, 0.0, target="a/m"),
        event(RetryScheduled, 1.0, retry=1, wait=5.0, error=ServerError("down")),
        event(AttemptStarted, 2.0, target="b/m"),
        event(AttemptStarted, 6.0, target="a/m"),
    ]
    attempts = [span for span in spans_of(events).walk() if span.kind == "attempt"]
    assert [(span.name, span.role) for span in attempts] == [("a/m", "first"), ("b/m", ""), ("a/m", "retry")]


@pytest.mark.parametrize("seconds", [0.0, 3.0])
async def test_a_retry_waits_exactly_as_long_as_the_server_asks_also_when_that_is_nothing(
    autojump_clock, seconds: float
) -> None:
    async def attempt(call: Call) -> str:
        await trio.lowlevel.checkpoint()
        started.append(trio.current_time())
        if len(started) == 1:
            raise RateLimited("slow down", retry_after=seconds)
        return "fine"

    started: list[float] = []
    policy = Retry(max_retries=2, first_wait=100.0, longest_wait=100.0, jitter=0.0)
    assert await policy.run(attempt, Call()) == "fine"
    assert started[1] - started[0] == seconds
