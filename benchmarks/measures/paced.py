"""CPU per streamed chunk and time to the first token, words coming one by one."""

from __future__ import annotations

from benchmarks.bench import CPU, Bench
from benchmarks.clients import BARE
from benchmarks.measures.stream import FIRST, contenders

BENCH = Bench(
    title="a streamed answer, one word every 5 ms",
    item="chunk",
    limit="A wake-up of the event loop and a read of the socket for every chunk.",
    against=BARE,
    figures=(CPU, FIRST),
    cases=contenders(50, gap_ms=5),
)
