"""Secrets are planted everywhere; none comes out anywhere."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from judged import open_fault_server
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clawft_trio.agent import open_agent
from clawft_trio.config import parse_config
from clawft_trio.errors import ClawftError
from clawft_trio.observe import (
    LogObserver,
    Recorder,
    chrome_trace,
    open_recording,
    spans_of,
    timeline_html,
    timeline_svg,
)
from clawft_trio.observe.otel import OtelObserver
from clawft_trio.observe.task_tree import task_tree
from clawft_trio.testing import CallTool, Finish, Page, ResetConnection, Say, Status
from clawft_trio.tools import tool

KEY, HEADER, ENV, TOOL, PROMPT = (f"{name}-hunter2-Zq9" for name in ("key", "header", "env", "Bearer tool", "prompt"))


@tool(mode="read_only")
async def leaky() -> str:
    """Raises what nobody should see."""
    raise RuntimeError(f"401 from upstream, sent Authorization: {TOOL}")


async def ask(server_url: str, observers: list[object], tmp_path: Path) -> list[str]:
    """A turn in which everything goes wrong, with secrets in every place that takes one; the errors' texts."""
    config = {
        "agents": {"defaults": {"workspace": str(tmp_path)}},
        "providers": {
            name: {"apiBase": server_url, "apiKey": KEY, "extraHeaders": {"x-team": HEADER}}
            for name in ("mine", "other")
        },
        "retry": {"maxRetries": 1, "baseDelayMs": 1},
        "tools": {
            "mcpServers": {
                "echo": {
                    "command": sys.executable,
                    "args": ["-m", "clawft_trio.testing.mcp_server"],
                    "env": {"SERVER_TOKEN": ENV},
                },
                "gone": {
                    "command": sys.executable,
                    "args": ["-c", "raise SystemExit(3)"],
                    "env": {"SERVER_TOKEN": ENV},
                },
            }
        },
    }
    errors: list[str] = []
    async with open_agent(
        ["mine/one", "other/two"], config=parse_config(json.dumps(config)), tools=[leaky], observers=observers
    ) as agent:
        reply = await agent.ask(PROMPT, sender_id="ana")
        assert reply.text == "Done."
        try:
            await agent.ask(PROMPT, sender_id="ben")
        except ClawftError as exc:
            errors += [repr(exc), str(exc), repr(exc.attempts), repr(exc.__cause__)]
        errors += [repr(agent), repr(config and agent.parts), task_tree()]
    return errors


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_planted_secrets_are_in_no_log_span_metric_recording_timeline_error_or_repr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANTED", ENV)
    caplog.set_level(logging.DEBUG)
    exporter, reader, seen = InMemorySpanExporter(), InMemoryMetricReader(), Recorder()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    otel = OtelObserver(tracer_provider=tracers, meter_provider=MeterProvider([reader]))
    # The server says back what it was sent, as some do.
    page = Page(f"<p>unauthorized: Bearer {KEY}; x-team: {HEADER}</p>".encode(), status=500)
    scripts = {
        "one": [[page], [Say("half "), ResetConnection()], [Status(500, message=f"bad key {KEY}")]],
        "two": [
            [CallTool("leaky", id="c1"), Finish()],
            [Say("Done."), Finish()],
            [Status(401, message=f"bad key {KEY}")],
        ],
    }
    recording = tmp_path / "turn.jsonl"
    async with open_fault_server(models=scripts) as server, open_recording(recording) as record:
        errors = await ask(server.url, [LogObserver(), seen, otel, record], tmp_path)
        assert server.requests[0].headers["x-team"] == HEADER
    assert len(seen.events) > 15
    tree = spans_of(seen.events)
    out = {
        "log": "\n".join(
            f"{entry.getMessage()} {vars(entry)}" for entry in caplog.records if entry.name.endswith("events")
        ),
        "spans": "\n".join(span.to_json() for span in exporter.get_finished_spans()),
        "metrics": reader.get_metrics_data().to_json(),
        "recording": recording.read_text(),
        "html": timeline_html(tree),
        "html with texts": timeline_html(spans_of(seen.events, texts=True)),
        "svg": timeline_svg(tree),
        "chrome": chrome_trace(tree).decode(),
        "errors": "\n".join(errors),
        "events": "\n".join(map(repr, seen.events)),
    }
    # The observer's own view of events holds what a tool of the user's raised; whatever leaves through us does not.
    allowed = {("events", TOOL)}
    found = {
        (where, secret) for where, text in out.items() for secret in (KEY, HEADER, ENV, TOOL, PROMPT) if secret in text
    }
    assert found <= allowed
    assert all(text.strip() for text in out.values())


def test_no_signature_shows_the_environment() -> None:
    """Documentation, notebooks and `help()` print defaults: a default that is the environment would print every key."""
    planted = "planted-in-the-environment"
    program = (
        "import clawft_trio, importlib, inspect, pkgutil\n"
        "for found in pkgutil.walk_packages(clawft_trio.__path__, 'clawft_trio.'):\n"
        "    module = importlib.import_module(found.name)\n"
        "    for value in vars(module).values():\n"
        "        for one in (value, *(vars(value).values() if inspect.isclass(value) else ())):\n"
        "            if inspect.isroutine(one) or inspect.isclass(one):\n"
        "                try: print(inspect.signature(one))\n"
        "                except (TypeError, ValueError): pass\n"
    )
    env = {**os.environ, "OPENAI_API_KEY": planted}
    shown = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
    assert "environ" in shown
    assert planted not in shown
