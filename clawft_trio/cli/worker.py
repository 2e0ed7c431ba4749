"""`clawft-trio worker`, `workers`, `requeue`: answers the messages of a store, and shows its workers."""

from __future__ import annotations

import attrs
import trio
from rich.table import Table
from rich.text import Text

from clawft_trio.agent import LoopPolicy
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.workers import WorkSummary, requeue, summarize_work
from clawft_trio.cli.agent import open_chosen, settings_of
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.errors import say
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.output import sanitize, write_json
from clawft_trio.cli.store import existing
from clawft_trio.cli.words import counted
from clawft_trio.errors import NotConfigured
from clawft_trio.store import open_store


@attrs.frozen(kw_only=True)
class Worker:
    """The options of `worker`."""

    chosen: Chosen
    turns: int = 64


async def worker(wanted: Worker) -> None:
    """Answer the messages of the store until cancelled; unfinished messages are then left to other workers.

    Raises:
      NotConfigured: no store is named.
      ClawftError: something is missing or does not fit.

    Cancellation: running turns get their grace time; their sessions are released.
    """
    config = await settings_of(wanted.chosen.config)
    if wanted.chosen.store is None and config.store_place is None:
        raise NotConfigured("no store: name the one with the messages to answer, with --store or in --config")
    policy = LoopPolicy(hand_over=True, max_concurrent_turns=wanted.turns)
    async with open_chosen(wanted.chosen, loop=policy):
        say("Serving. Ctrl-C or SIGTERM ends it.")
        await trio.sleep_forever()


async def show_workers(place: str, *, as_json: bool) -> None:
    """Print the workers of the store, the waiting messages, and the messages that were given up.

    Raises:
      NotConfigured: there is no such file.
      StoreError: the store cannot be read.

    Cancellation: nothing is changed.
    """
    await existing(place)
    async with open_store(place, migrations=MIGRATIONS) as store:
        found = await summarize_work(store)
    if as_json:
        write_json(attrs.asdict(found))
    else:
        _print(found)


def _print(found: WorkSummary) -> None:
    console = SafeConsole()
    table = Table(box=None, pad_edge=False)
    for name in ("worker", "sessions", "channels", "leases end in"):
        table.add_column(name, overflow="fold")
    for one in found.workers:
        channels = Text(sanitize(", ".join(one.channels)))
        table.add_row(Text(sanitize(one.owner)), str(one.sessions), channels, f"{one.expires_in:.1f} s")
    console.print(table if found.workers else "No worker holds a lease.")
    waiting = f"{counted(found.open, 'open message')} in {counted(found.sessions, 'session')}"
    console.print(f"{waiting}, the oldest {found.lag:.0f} s old." if found.open else "No open messages.")
    for channel, count in found.undelivered:
        console.print(Text(f"{counted(count, 'reply waits', 'replies wait')} for the channel {sanitize(channel)}."))
    for message in found.given_up:
        tried = counted(message.deliveries, "delivery", "deliveries")
        line = f"Given up after {tried}: {message.turn_id}: {message.error}"
        console.print(Text(sanitize(line)))


async def requeue_turn(place: str, turn_id: str) -> bool:
    """Queue a message that was given up again; return whether there was one.

    Raises:
      NotConfigured: there is no such file.
      StoreError: the store cannot be written.

    Cancellation: nothing is changed.
    """
    await existing(place)
    async with open_store(place, migrations=MIGRATIONS) as store:
        done = await requeue(store, turn_id)
    say("It will be answered." if done else "No message of that turn was given up.")
    return done
