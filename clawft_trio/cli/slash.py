"""The commands of a chat: `/help` and others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import attrs
import trio
from rich.table import Table
from rich.text import Text

from clawft_trio.chat import Message
from clawft_trio.cli.agent import absent_servers
from clawft_trio.cli.conversation import Conversation, new_name
from clawft_trio.cli.output import sanitize
from clawft_trio.cli.words import counted
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.observe import task_tree
from clawft_trio.pipeline import Target
from clawft_trio.similar import closest

_OWN = "/chat:"
"""Prefix of the name of a chat command when a skill has the same name."""

_LATEST = 20
"""Number of messages that /history shows by default."""


@attrs.frozen
class Slash:
    """One command of a chat."""

    run: Callable[[Conversation, str], Awaitable[None] | None]
    help: str
    #: argument that may follow it, for the help
    takes: str = ""


async def run_slash_command(conversation: Conversation, line: str) -> bool:
    """Run the command *line*; return False when the chat should end.

    Raises:
      InvalidData: there is no such command, or its argument is invalid.

    Cancellation: nothing is changed partially.
    """
    await trio.lowlevel.checkpoint()
    word, _, rest = line.partition(" ")
    if word.startswith(_OWN):
        word = f"/{word.removeprefix(_OWN)}"
    if word in LEAVING:
        return False
    command = COMMANDS.get(word)
    if command is None:
        close = closest(word, [*COMMANDS, *LEAVING])
        advice = f"did you mean {close[0]}?" if close else "/help lists them"
        raise InvalidData(
            [
                Problem(
                    word,
                    f"no such command; {advice} (/NAME starts a skill; a message that begins with / is written //)",
                )
            ]
        )
    doing = command.run(conversation, rest.strip())
    if doing is not None:
        await doing
    return True


def _help(conversation: Conversation, _: str) -> None:
    table = _table()
    for word, command in COMMANDS.items():
        table.add_row(f"{word} {command.takes}".strip(), command.help)
    table.add_row(", ".join(LEAVING), "Leave; so does Ctrl-D.")
    conversation.console.print(table)
    conversation.console.print(
        "Ctrl-C stops the answer, and at the prompt twice leaves. A line that ends in \\ goes on in the next. /NAME "
        f"starts a skill; where one has the name of a command, the command is {_OWN}NAME.",
        style="dim",
    )


async def _new(conversation: Conversation, name: str) -> None:
    conversation.name = name or new_name()
    count = len(await conversation.messages())
    conversation.console.print(f"Session {conversation.name}: {counted(count, 'message')} so far.", style="dim")


async def _sessions(conversation: Conversation, _: str) -> None:
    table = _table()
    for one in await conversation.sessions():
        mark = "*" if one.session == conversation.session else ""
        name = one.session.removeprefix("local:")
        table.add_row(mark, name, counted(one.messages, "message"), f"{one.last[:16].replace('T', ' ')} UTC")
    conversation.console.print(table if table.row_count else "No sessions yet.")


async def _history(conversation: Conversation, count: str) -> None:
    number = _number(count)
    for message in (await conversation.messages())[-number:]:
        conversation.console.print(_line_of(message), soft_wrap=True)


def _tools(conversation: Conversation, _: str) -> None:
    table = _table()
    for tool in conversation.agent.tools:
        table.add_row(sanitize(tool.name), sanitize(tool.description.strip().partition("\n")[0]))
    conversation.console.print(table if table.row_count else "No tools: give it a --workspace, or MCP servers.")
    for line in absent_servers(conversation.agent):
        conversation.console.print(line, style="yellow", soft_wrap=True)


def _model(conversation: Conversation, model: str) -> None:
    if model:
        target = Target.parse(conversation.chosen.target(model))
        # Created now, so that a missing key or an unknown name is reported now.
        conversation.agent.parts.targets.reach(target)
        conversation.model = target.name
    asked = conversation.model or "the configured models"
    conversation.console.print(f"The next messages go to {asked}.")


async def _cost(conversation: Conversation, _: str) -> None:
    table = _table()
    for spent in await conversation.spent():
        tokens = f"{counted(spent.input_tokens, 'token')} in, {spent.output_tokens} out"
        price = "unpriced" if spent.unpriced == spent.attempts else f"${spent.cost:f}, {spent.certainty}"
        table.add_row(spent.group["target"], counted(spent.attempts, "attempt"), tokens, price)
    conversation.console.print(table if table.row_count else "Nothing was spent yet.")


def _tree(conversation: Conversation, _: str) -> None:
    text = task_tree(clock=conversation.clock)
    conversation.console.print(text, end="", soft_wrap=True)


COMMANDS: Mapping[str, Slash] = MappingProxyType(
    {
        "/help": Slash(_help, "List these commands."),
        "/new": Slash(_new, "Begin a new session, or continue the one with that name.", "[NAME]"),
        "/sessions": Slash(_sessions, "List the sessions of the store."),
        "/history": Slash(_history, "Print the last messages.", "[COUNT]"),
        "/model": Slash(_model, "Choose the model for the next messages.", "[PROVIDER/MODEL]"),
        "/tools": Slash(_tools, "List the tools that the model may call."),
        "/cost": Slash(_cost, "Print the cost of this chat so far."),
        "/tree": Slash(_tree, "Print every task of the program, and what it waits for."),
    }
)
LEAVING = ("/quit", "/exit")


def _table() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, highlight=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    return table


def _number(text: str) -> int:
    if not text:
        return _LATEST
    if not text.isdecimal() or int(text) < 1:
        raise InvalidData([Problem("/history", f"expected how many messages, got {text!r}")])
    return int(text)


def _line_of(message: Message) -> Text:
    calls = ", ".join(call.name for call in message.tool_calls)
    text = message.text if not calls else f"{message.text} [calls {calls}]".strip()
    line = Text(f"{message.role}: ", style="bold")
    shown = " ".join(text.split()) if message.role == "tool" else text
    line.append(sanitize(shown if len(shown) <= 500 else f"{shown[:497]}..."), style="not bold")
    return line
