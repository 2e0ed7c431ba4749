"""Recorded answers, and their replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from clawft_trio import ChatRequest, Message, Usage, complete, open_agent, tool
from clawft_trio.errors import InvalidData, ProviderError, RateLimited
from clawft_trio.testing import (
    CallTool,
    Fail,
    Finish,
    Hang,
    NotRecorded,
    Report,
    Say,
    ScriptedProvider,
    Think,
    Wait,
    cancel_everywhere,
    record,
    replay,
)
from clawft_trio.testing.record import masked, request_key


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    return "rain"


def ask(text: str, **options: object) -> ChatRequest:
    return ChatRequest([Message.user(text)], **options)  # type: ignore[arg-type]  # whichever option


async def shown(provider: object, request: ChatRequest) -> tuple[list[tuple[float, object]], object]:
    began, seen = trio.current_time(), []
    response = await complete(provider, request, lambda event: seen.append((trio.current_time() - began, event)))  # type: ignore[arg-type]
    return seen, response


FULL = [
    Think("hm"), Wait(0.5), Say("Hel"), Wait(0.25), Say("lo"), CallTool("weather", {"city": "Oslo"}, fragments=3),
    Report(Usage(input_tokens=3, output_tokens=2)), Finish(usage=Usage(input_tokens=3, output_tokens=2)),
]  # fmt: skip


async def test_a_replay_shows_the_same_pieces_at_the_same_times(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a.jsonl"
    await trio.sleep(100)
    events, response = await shown(record(ScriptedProvider(FULL), file), ask("q"))
    again, replayed = await shown(replay(file), ask("q"))
    assert again == [(pytest.approx(at), event) for at, event in events] and len(events) > 6
    for name in ("text", "reasoning", "tool_calls", "usage", "finish_reason", "id"):
        assert getattr(replayed, name) == getattr(response, name)


async def test_without_times_a_replay_takes_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a.jsonl"
    await shown(record(ScriptedProvider(FULL), file), ask("q"))
    events, _ = await shown(replay(file, timed=False), ask("q"))
    assert {at for at, _ in events} == {0.0}


async def test_a_conversation_with_tools_is_replayed_by_an_agent(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Wear a coat.")
    for provider in (record(model, file), None):
        used = replay(file) if provider is None else provider
        async with open_agent(["s/m"], providers={"s": used}, tools=[weather]) as agent:
            reply = await agent.ask("What do I wear?")
        assert (reply.text, [result.text for result in reply.tools]) == ("Wear a coat.", ["rain"])
    assert model.calls == 2


async def test_equal_requests_are_answered_in_their_order_and_the_last_repeats(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "a.jsonl"
    model = record(ScriptedProvider(*([Say(text), Finish()] for text in ("one", "two", "three"))), file)
    for _ in range(3):
        await complete(model, ask("q"))
    player = replay(file)
    assert [(await complete(player, ask("q"))).text for _ in range(4)] == ["one", "two", "three", "three"]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (ask("other"), '"text": "other"'),
        (ask("q", temperature=0.5), '+ "temperature": 0.5'),
        (ask("q", model="m2"), '+ "model": "m2"'),
        (ask("q", max_tokens=5), '+ "max_tokens": 5'),
    ],
)
async def test_a_request_that_was_not_recorded_is_named_with_its_difference(
    tmp_path: Path, autojump_clock: MockClock, request_: ChatRequest, named: str
) -> None:
    file = tmp_path / "a.jsonl"
    model = record(ScriptedProvider.saying("ok"), file)
    await complete(model, ask("something quite different, and long"))
    await complete(model, ask("q"))
    with pytest.raises(NotRecorded) as caught:
        await complete(replay(file), request_)
    assert named in caught.value.difference
    assert "of 2" in str(caught.value) and str(file) in str(caught.value)


async def test_a_key_of_ones_own_decides_which_requests_are_the_same(tmp_path: Path, autojump_clock: MockClock) -> None:
    def last(request: ChatRequest) -> str:
        return request.messages[-1].text

    file = tmp_path / "a.jsonl"
    await complete(record(ScriptedProvider.saying("ok"), file, key=last), ask("q"))
    assert (await complete(replay(file, key=last), ask("q", temperature=1.0))).text == "ok"
    await complete(record(ScriptedProvider.saying("ok"), file, key=lambda _: {"a": 1, "b": 2}), ask("q"))
    assert (await complete(replay(file, key=lambda _: {"b": 2, "a": 1}), ask("other"))).text == "ok"


async def test_secrets_are_masked_in_the_file_and_still_match(tmp_path: Path, autojump_clock: MockClock) -> None:
    secret = "sk-proj-" + "a1B2c3D4" * 5
    file = tmp_path / "a.jsonl"
    model = record(ScriptedProvider([Say(f"your key is {secret}"), Finish()]), file)
    request = ask(f"my key is {secret}", extra={"api_key": secret})
    await complete(model, request)
    assert secret not in file.read_text()
    assert "your key is" in (await complete(replay(file), request)).text


async def test_an_error_is_replayed_with_its_class_and_fields(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a.jsonl"
    model = record(
        ScriptedProvider([Say("x"), Wait(2), Fail(RateLimited("slow down", retry_after=7.0, status=429))]), file
    )
    for provider in (model, None):
        began = trio.current_time()
        with pytest.raises(RateLimited) as caught:
            await complete(replay(file) if provider is None else provider, ask("q"))
        assert (caught.value.retry_after, caught.value.status) == (7.0, 429)
        assert trio.current_time() - began == pytest.approx(2)


@pytest.mark.parametrize("name", ["Unheard", "InvalidData", "annotations", ""])
async def test_an_error_of_another_class_is_replayed_as_one_of_a_provider(
    name: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "a.jsonl"
    with pytest.raises(RateLimited):
        await complete(record(ScriptedProvider([Fail(RateLimited("slow down"))]), file), ask("q"))
    file.write_text(file.read_text().replace("RateLimited", name))
    with pytest.raises(ProviderError, match="slow down") as caught:
        await complete(replay(file), ask("q"))
    assert type(caught.value) is ProviderError


async def test_a_cancelled_call_is_not_recorded(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a.jsonl"
    model = record(ScriptedProvider([Say("x"), Hang()]), file)
    with trio.move_on_after(1):
        await complete(model, ask("q"))
    assert not file.exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"provider": "p", "request": 1, "seconds": 1, "events": []}'])
def test_a_file_that_is_no_recording_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(InvalidData, match=r"a\.jsonl:1"):
        replay(file)


async def test_a_replay_cancelled_anywhere_leaves_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a.jsonl"
    await complete(record(ScriptedProvider(FULL), file), ask("q"))

    async def operation() -> None:
        await complete(replay(file), ask("q"))

    async def check() -> None:
        await trio.lowlevel.checkpoint()

    assert await cancel_everywhere(operation, check) > 5


async def test_the_first_answer_replaces_what_was_in_the_file_and_each_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("from an earlier run")
    model = record(ScriptedProvider([Say("one"), Finish()], name="own"), file)
    assert model.name == "own"
    for text in ("q", "r"):
        await complete(model, ask(text))
    assert len(file.read_bytes().splitlines()) == 2
    file.write_bytes(file.read_bytes().replace(b"\n", b"\n\n"))
    player = replay(file)
    assert (player.name, player.requests) == ("own", [])
    assert (await complete(player, ask("r"))).text == "one"
    assert player.requests == [ask("r")]


async def test_an_empty_recording_has_no_calls(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.touch()
    assert replay(file).name == "replay"
    with pytest.raises(NotRecorded, match="has no calls") as caught:
        await complete(replay(file), ask("q"))
    assert (caught.value.nearest, caught.value.difference) == (None, "")


async def test_the_difference_to_the_nearest_call_is_short(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    model = record(ScriptedProvider.saying("ok"), file)
    await complete(model, ask("x" * 1000))
    await complete(model, ask("near", temperature=0.5))
    with pytest.raises(NotRecorded, match=r"the nearest is call 2 of 2:") as caught:
        await complete(replay(file), ask("nearer", temperature=0.5, extra={f"field{n:02}": n for n in range(60)}))
    lines = caught.value.difference.splitlines()
    assert lines[:2] == ["--- recorded", "+++ asked"]
    assert (len(lines), lines[-1]) == (41, "…")
    with pytest.raises(NotRecorded) as caught:
        await complete(replay(file), ask("y" * 1000))
    assert max(map(len, caught.value.difference.splitlines())) == 300


async def test_what_does_not_determine_an_answer_is_not_in_its_key(tmp_path: Path) -> None:
    base = request_key(ask("q"))
    assert request_key(ask("q", stream=False)) == base
    different = [
        ask("q", seed=1),
        ask("q", stop=["x"]),
        ask("q", tool_choice="required"),
        ask("q", tools=[weather.spec]),
        ask("q", reasoning_effort="low"),
        ask("q", verbosity="low"),
    ]
    keys = [base, *map(request_key, different)]
    assert all(keys.count(key) == 1 for key in keys)


def test_secrets_are_masked_at_every_depth() -> None:
    secret = "sk-proj-" + "a1B2c3D4" * 5
    value = {"a": [secret, (secret,), {"b": secret}], "n": 1, "t": True, "z": None}
    hidden = masked(value)
    assert secret not in str(hidden)
    assert (hidden["n"], hidden["t"], hidden["z"], len(hidden["a"])) == (1, True, None, 3)
    assert masked("plain") == "plain"
