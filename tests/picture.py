"""The picture in the README: one turn in mock time in which nearly everything goes wrong, and the answer gets through.

Draw it again with `python tests/picture.py`; `test_readme.py` compares.
"""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from clawft_trio import Recorder, Retry, TurnPolicy, Usage, open_agent, parse_config, tool
from clawft_trio.errors import ServerError, TransportFailed
from clawft_trio.observe import spans_of, timeline_svg
from clawft_trio.testing import CallTool, Fail, Finish, Hang, Say, ScriptedProvider, Wait

PICTURE = Path(__file__).parents[1] / ".github" / "timeline.svg"
"""Where it is kept."""


@tool(mode="read_only")
async def forecast(city: str) -> str:
    """The weather at the weekend."""
    await trio.sleep(1.4)
    return f"{city}: clear"


@tool(writes="path", root=Path("/trip"))  # an absolute path: the picture shows it
async def write_note(path: str, line: str) -> str:
    """Add a line to a file."""
    await trio.sleep(0.9)
    return f"noted in {path}"


def models() -> dict[str, ScriptedProvider]:
    """Breaks in the middle of its answer, then fails, and the next time says nothing; the other one is well."""
    first = ScriptedProvider(
        [Wait(0.5), Say("Bergen is "), Wait(0.4), Fail(TransportFailed("connection reset"))],
        [Wait(0.5), Fail(ServerError("overloaded", status=503))],
        [Hang()],
        name="openai",
    )
    calls = [
        CallTool("forecast", {"city": "Tromsø"}),
        CallTool("write_note", {"path": "trip.md", "line": "Tromsø"}),
        CallTool("write_note", {"path": "trip.md", "line": "wool"}),
    ]
    usage = Usage(input_tokens=287, output_tokens=54)
    second = ScriptedProvider(
        [Wait(0.6), Say("Let me look."), Wait(0.4), *calls, Finish(usage=usage)],
        [Wait(0.7), Say("Tromsø is dry."), Wait(0.6), Finish(usage=usage)],
        name="anthropic",
    )
    return {"openai": first, "anthropic": second}


async def play() -> Recorder:
    """Run that turn; what was seen of it."""
    seen = Recorder()
    async with open_agent(
        ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"],
        providers=models(),
        tools=[forecast, write_note],
        policy=Retry(max_retries=1, first_wait=0.4, jitter=0.0),
        config=parse_config('{"timeouts": {"hedgeAfterMs": 1500}}'),
        turn=TurnPolicy(total=None),
        observers=[seen],
    ) as agent:
        await agent.ask("Which city is dry this weekend, and what do I pack?", sender_id="ana", session="local:ana")
    return seen


def draw() -> str:
    """The picture, the same every time."""
    # Above zero: the clock must not jump while a thread looks up a path.
    seen = trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0.1))
    # The turn's id is the one thing that chance has a part in.
    return timeline_svg(spans_of(seen.events), width=1000).replace(seen.events[0].turn_id, "turn-1")


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
    print(PICTURE)
