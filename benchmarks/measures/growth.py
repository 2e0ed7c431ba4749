"""Cost per item as the work grows by 1 000 times: flat where it should be flat."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import CPU, Bench, Case, Goal, Loop, Open
from benchmarks.clients import full_stack
from benchmarks.mcp_clients import ours as our_mcp
from benchmarks.measures.bus import carrying, through_the_bus
from benchmarks.measures.fan_out import fan_out
from benchmarks.measures.ledger import charging
from benchmarks.measures.locks import holding, one_path, wanting
from benchmarks.measures.mcp_replies import reply_of
from benchmarks.measures.sessions import crowding
from benchmarks.measures.skills import cold
from benchmarks.measures.sse import decoding, ours as our_decoder
from benchmarks.measures.stream import streaming

SIZES = (10, 100, 1000, 10_000)


def growing(
    series: str, open_at: Callable[[int], Open], sizes: tuple[int, ...] = SIZES, *, loop: Loop = "trio"
) -> tuple[Case, ...]:
    """A line of cases, one per size."""
    return tuple(Case(f"{series}: {size}", open_at(size), loop=loop, series=series, size=size) for size in sizes)


def flat(series: str, *, small: int = 1000, large: int = 10_000, at_most: float = 1.5) -> Goal:
    """Once what a run costs at all is spread over many items, one costs as much among *large* as among *small*."""
    return Goal(
        says=f"{series}: one of {large}, of one of {small}",
        of=f"{series}: {large}",
        to=f"{series}: {small}",
        at_most=at_most,
    )


STREAM, DECODER, BUS = "chunks of one stream", "events decoded", "messages through the bus"
TOOLS, HELD, QUEUE = "tools side by side", "paths held at once", "writers of one path"
SKILLS, CHARGES, REPLY = "skills loaded cold", "charges, one after another", "MiB of one MCP reply"
SESSIONS = "sessions at once"

BENCH = Bench(
    title="cost per item as the work grows",
    item="item",
    limit="A straight line: an item costs the same however many there are. Small work pays for its beginning and end.",
    against=f"{STREAM}: 1000",
    figures=(CPU,),
    rounds=2,
    cases=(
        *growing(STREAM, lambda size: streaming(full_stack, size)),
        *growing(DECODER, lambda size: decoding(lambda: our_decoder, size), loop="none"),
        *growing(BUS, lambda size: carrying(through_the_bus, size), loop="none"),
        *growing(TOOLS, lambda size: fan_out("nothing", lambda number: number, size)),
        *growing(HELD, lambda size: holding(size, folders=10)),
        *growing(QUEUE, lambda size: wanting(size, one_path), (10, 100, 1000)),
        *growing(SKILLS, cold, (1, 10, 100, 1000)),
        *growing(CHARGES, lambda size: charging(on_disk=False, charges=size), (10, 100, 1000)),
        *growing(REPLY, lambda size: reply_of(our_mcp, size), (1, 8, 32)),
        *growing(SESSIONS, lambda size: crowding(size, turns=size), (10, 100, 1000), loop="none"),
    ),
    goals=(
        flat(STREAM),
        flat(DECODER),
        flat(BUS),
        flat(TOOLS),
        flat(HELD),
        flat(QUEUE, small=100, large=1000),
        flat(SKILLS, small=100, large=1000),
        flat(CHARGES, small=100, large=1000),
        flat(REPLY, small=8, large=32),
        flat(SESSIONS, small=100, large=1000),
    ),
)
