"""Answers of real providers, where a folder of them is at hand: what they say they cost is what is charged.

The folder is named by the environment variable `CLAWFT_TRIO_RECORDINGS`; its JSON lines have `provider`, `stream`, `status` and
`body`, one answer a line, in one file for each dialect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from costs.ledgers import open_ledger

from clawft_trio.attempts import Usage
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.costs import CostTracker, Metered
from clawft_trio.llm.usage import UsageReader, read_chat_usage, read_messages_usage, read_responses_usage
from clawft_trio.pipeline import Target
from clawft_trio.testing import Finish, Say, ScriptedProvider

FOLDER = os.environ.get("CLAWFT_TRIO_RECORDINGS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="CLAWFT_TRIO_RECORDINGS names no folder of recorded answers")

READERS = {"openai": read_chat_usage, "anthropic": read_messages_usage, "responses": read_responses_usage}
VENDORS = {
    "api.openai.com": "openai",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
    "z.ai": "zhipu",
}


def recordings(name: str) -> Iterator[dict[str, Any]]:
    assert FOLDER is not None
    with (Path(FOLDER) / f"{name}.jsonl").open() as file:
        for line in file:
            record = json.loads(line)
            if record["status"] == 200 and "body" in record:
                yield record


def documents(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lines = record["body"].splitlines() if record["stream"] else [record["body"]]
    for line in lines:
        try:
            found = json.loads(line.removeprefix("data:"))
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def read(dialect: str, record: dict[str, Any]) -> tuple[Usage | None, str, dict[str, Any]]:
    """The usage that is read, what is wrong with it, and the last one that was sent."""
    reader = UsageReader(READERS[dialect], VENDORS.get(record["provider"], record["provider"]))
    usage, problem, sent = None, "", {}
    for document in documents(record):
        inner = document.get("response") or document.get("message") or {}
        choices = document.get("choices") or [{}]
        groq = (document.get("x_groq") or {}).get("usage")
        given = (document.get("usage"), inner.get("usage"), choices[0].get("usage"), groq)
        reading = reader.note(*given)
        if reading is not None:
            usage, problem = reading.usage or usage, reading.problem
            sent |= next(one for one in given if one)
    return usage, problem, sent


@pytest.mark.parametrize("dialect", READERS)
def test_where_there_is_a_total_the_parts_add_up_to_it(dialect: str) -> None:
    checked = 0
    for record in recordings(dialect):
        usage, problem, sent = read(dialect, record)
        if sent.get("total_tokens"):
            assert usage is not None, (record["source"], problem)
            assert usage.total_tokens == sent["total_tokens"], (record["source"], sent)
            assert problem == "", record["source"]
            checked += 1
    assert checked or dialect == "anthropic"


async def test_where_an_answer_names_its_price_that_is_charged() -> None:
    checked = 0
    request = ChatRequest([Message.user("q")], max_tokens=1, auth=AuthContext.local())
    async with open_ledger() as ledger:
        tracker = CostTracker(ledger)
        for dialect in READERS:
            for record in recordings(dialect):
                usage, _, sent = read(dialect, record)
                ticks, cost = sent.get("cost_in_usd_ticks"), sent.get("cost")
                if ticks is None and not cost:
                    continue
                named = Decimal(str(cost)) if ticks is None else Decimal(ticks) / 10**10
                provider = ScriptedProvider([Say("x"), Finish(usage=usage)], name="p")
                model = Metered(provider, tracker, Target.parse("p/m"), tokens=lambda _: 1)
                response = await model.complete(request, Call())
                assert response.cost is not None, record["source"]
                assert abs(response.cost - named) <= named / 1000, record["source"]
                checked += 1
    assert checked
