"""The figures of SECURITY.md are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from clawft_trio import codec, keys, large_json, similar
from clawft_trio.agent import media, serialization, sessions
from clawft_trio.cli import timeline
from clawft_trio.config import load as config_load, structuring
from clawft_trio.context import bootstrap
from clawft_trio.context.memory import Memory
from clawft_trio.llm import response_builder
from clawft_trio.mcp import tool_call, toolset
from clawft_trio.mcp.transports import param_headers
from clawft_trio.tools import FanOutPolicy, arguments, call_ids, fan_out, json_schema, path_locks, truncate, workspace
from clawft_trio.tools.builtin import FetchPolicy, FilePolicy, charset, files, search
from clawft_trio.tools.child_process import ChildPolicy
from clawft_trio.tools.thread_pool import ThreadPool

PAGE = Path(__file__).parents[2] / ".github" / "SECURITY.md"
KIB, MIB = 1024, 1024**2
POOL = ThreadPool()
NOTES = inspect.signature(Memory).parameters
SEARCH = search.search_tool(workspace.Workspace(Path(__file__).parent), FilePolicy())

# By the first cell of a row: what its figures are in the code.
FIGURES = {
    "a page: body, time, redirects": (FetchPolicy().longest_body / MIB, FetchPolicy().total, FetchPolicy().redirects),
    # The first figure is the name of UTF-8.
    "a page's charset": (8, charset._PIECE / KIB),
    "suggestions for misspelled names": (similar._MOST_NAMES, similar._LONGEST_NAME, similar._MOST_COMPARED),
    "problems reported of arguments and of a configuration": (json_schema._MOST_PROBLEMS, structuring._MOST_UNKNOWN),
    "an answer of a model, with everything that is kept of it": (response_builder.MAX_ANSWER / MIB,),
    "tools of an MCP server, parts of a result, arguments of a tool in headers": (
        toolset.MAX_TOOLS,
        tool_call._MOST_PARTS,
        param_headers.MAX_HEADERS,
    ),
    "arguments of a tool call: run, offered as ready": (
        FanOutPolicy().longest_arguments / MIB,
        codec._MOST_CHECKED / MIB,
    ),
    "values in the arguments of a tool call; size from which they are read in a thread, above which broken ones are not "
    "repaired": (arguments.MOST_VALUES, fan_out._LARGE_ARGUMENTS, large_json.LARGE),
    "a large result of a tool": (large_json.LARGE / KIB, truncate._MOST_PARSED / MIB),
    "a large message or result of a session": (sessions.LARGE / MIB,),
    "ids of tool calls": (call_ids.MAX_ID,),
    "attachments of a message; a `data:` URL that is not base64": (
        media.MOST,
        media.LARGEST / MIB,
        media._LONGEST_ESCAPED / MIB,
    ),
    "metadata of a message, with a store": (serialization.MAX_METADATA / MIB, serialization._MOST_COMMAS),
    "names of one message or question; a name in a key": (keys.MAX_NAMES / MIB, keys._LONGEST),
    "a named pipe without its other end": (timeline._LONGEST_WAIT,),
    "a path of a file tool": (workspace._MOST_NAMES, workspace._MOST_LINKS),
    "a search": (search._DEEPEST, search._MOST_SEEN, SEARCH.parameters["properties"]["limit"]["maximum"]),
    "a listing": (files._MOST_LISTED, FilePolicy().most_entries),
    "files of a prompt": (bootstrap.MAX_BYTES / KIB,),
    "notes": (NOTES["max_bytes"].default / KIB, NOTES["max_entry"].default / KIB),
    "a configuration": (config_load.MAX_SIZE / MIB, config_load._PIPE, structuring._LONGEST_TEXT / MIB),
    "a child process: time, output": (ChildPolicy().total, ChildPolicy().longest_output),
    "threads of tools": (POOL._limiter.total_tokens, POOL._per_sender, POOL._per_turn, path_locks._PATH_THREADS),
}


def rows() -> dict[str, str]:
    table = PAGE.read_text().partition("## What is bounded")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return {cell[0].strip(): cell[1].strip() for cell in cells[2:]}


def figures_in(bound: str) -> tuple[float, ...]:
    return tuple(float(one.replace(" ", "")) for one in re.findall(r"\d+(?: \d{3})*", bound))


@pytest.mark.parametrize("row", FIGURES)
def test_a_row_states_the_bounds_of_the_code(row: str) -> None:
    assert figures_in(rows()[row]) == FIGURES[row]


def test_every_row_with_a_figure_is_checked_and_every_file_is_there() -> None:
    assert {row for row, bound in rows().items() if figures_in(bound)} == set(FIGURES)
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", PAGE.read_text()):
        assert any((PAGE.parents[1] / folder / name).exists() for folder in (".", "clawft_trio")), name
