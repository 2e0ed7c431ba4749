"""`clawft-trio demo`: a model fails in the middle of its answer, and the answer is still delivered.

Two model servers on loopback, real HTTP between them and a real agent with a real workspace: only the models are
scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from rich.console import Console

from clawft_trio.agent import Agent, open_agent
from clawft_trio.attempts import Usage
from clawft_trio.chat import Provider
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.tables import attempts_table, summary, tools_table
from clawft_trio.cli.transcript import Transcript
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import OpenAICompatible
from clawft_trio.observe import Recorder
from clawft_trio.resilience import CircuitBreaker, Retry, Timeout, compose
from clawft_trio.testing.fault_server import open_fault_server
from clawft_trio.testing.script import CallTool, Finish, ResetConnection, Wait, WireScript, say
from clawft_trio.testing.script_player import SeenRequest

QUESTION = "It is Friday. Which of my three cities is dry this weekend, and what do I pack?"

SOUL = "You are a travel companion. You answer in two sentences and never guess what you can look up.\n"
AGENTS = "The forecasts are in `forecast/`, one file for each city. Read them before you answer.\n"
FORECASTS = {
    "oslo.txt": "Oslo. Saturday: rain, 7 °C. Sunday: rain, 6 °C.\n",
    "bergen.txt": "Bergen. Saturday: heavy rain, 9 °C. Sunday: rain, 9 °C.\n",
    "tromso.txt": "Tromsø. Saturday: clear, -4 °C. Sunday: clear, -6 °C.\n",
}

GUESS = "My guess would be that Bergen is the driest of the three, because in the west it hardly ever"
ANSWER = (
    "Tromsø is dry: clear on both days, while Oslo and Bergen have rain all weekend. "
    "Pack wool and a windproof jacket, for it will be -6 °C."
)


def broken(_: SeenRequest) -> WireScript:
    """Return a script that guesses, and loses the connection in the middle of a sentence."""
    return [*say(GUESS, every=0.04), Wait(0.3), ResetConnection()]


def healthy(request: SeenRequest) -> WireScript:
    """Return a script that looks up the three cities at once, and then answers from the results."""
    if request.body["messages"][-1]["role"] == "tool":
        return [*say(ANSWER, every=0.04), Finish(usage=Usage(input_tokens=412, output_tokens=38))]
    calls = [CallTool("read_file", {"path": f"forecast/{name}"}, id=name) for name in FORECASTS]
    return [*calls, Finish(usage=Usage(input_tokens=287, output_tokens=54))]


async def demo(speed: float = 1.0) -> None:
    """Play the demo on the terminal. *speed* above 1 is faster.

    Cancellation: servers, agent and workspace are closed and removed.
    """
    console = SafeConsole()
    seen = Recorder()
    with TemporaryDirectory() as folder:
        workspace = Path(folder)
        await trio.to_thread.run_sync(furnish, workspace)
        async with (
            open_fault_server(choose=broken, scale=1 / speed) as primary,
            open_fault_server(choose=healthy, scale=1 / speed) as backup,
            open_agent(
                ["primary/large", "backup/small"],
                make_provider=_servers(primary=primary.url, backup=backup.url),
                policy=compose(
                    Retry(max_retries=1, first_wait=0.2 / speed),
                    CircuitBreaker(minimum_calls=2),
                    Timeout(first_content=10.0, gap=5.0),
                ),
                workspace=workspace,
                observers=[seen],
            ) as agent,
        ):
            await _play(console, agent, seen)


async def _play(console: Console, agent: Agent, seen: Recorder) -> None:
    console.print("Two model servers run on loopback. primary/large breaks in mid-answer; backup/small works.")
    console.print(f"\n> {QUESTION}\n", style="bold cyan")
    with Transcript(console) as transcript:
        reply = await agent.ask(QUESTION, sender_id="demo", on_event=transcript)
    console.print()
    console.print(attempts_table(reply.attempts))
    console.print()
    console.print(tools_table(seen.events))
    console.print()
    console.print(summary(reply))


def furnish(workspace: Path) -> None:
    """Write the workspace's files."""
    (workspace / "SOUL.md").write_text(SOUL, encoding="utf-8")
    (workspace / "AGENTS.md").write_text(AGENTS, encoding="utf-8")
    (workspace / "forecast").mkdir()
    for name, text in FORECASTS.items():
        (workspace / "forecast" / name).write_text(text, encoding="utf-8")


def _servers(**urls: str) -> Callable[[str], Provider]:
    def make(name: str) -> Provider:
        if name not in urls:
            raise NotConfigured(f"the demo has no provider {name!r}")
        return OpenAICompatible(name, base_url=urls[name])

    return make
