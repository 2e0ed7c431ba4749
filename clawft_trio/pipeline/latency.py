"""Latency of rounds, and a moving average of the latency of each target."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

from clawft_trio.attempts import AttemptRecord, Latency, call_latency
from clawft_trio.chat import CONTENT, Emit, Reset, StreamEvent
from clawft_trio.pipeline.stages import ResponseOutcome
from clawft_trio.replacing import replaced

FAILURE_COUNTS = 30.0
"""Seconds that a failed attempt counts as, at least: a target that fails at once is not fast."""

FORGOTTEN_AFTER = 300.0
"""Seconds after which the average of a target expires: the target is tried again as a new one."""

NEW_SAMPLE = 0.3
"""Weight of the newest attempt in the moving average."""

MAX_REMEMBERED = 1000
"""Number of targets with an average; beyond it, the one that was used longest ago is removed."""


class Stopwatch:
    """Measures one round from its construction, by the events that pass through its `emit`."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        # The clock itself: `trio.current_time` looks it up, and this is called twice for every event of a stream.
        self._now = trio.lowlevel.current_clock().current_time
        self._started = self._now()
        self._first_content: float | None = None
        #: seconds spent in the consumer's code
        self.consumer_time: float = 0.0

    async def emit(self, event: StreamEvent) -> None:
        """Pass *event* on and record its time.

        Cancellation: the consumer may have received *event*.
        """
        now = self._now()
        if self._first_content is None:
            if isinstance(event, CONTENT):
                self._first_content = now - self._started
        elif isinstance(event, Reset):
            # The content before the reset is not part of the answer.
            self._first_content = None
        try:
            await self._emit(event)
        finally:
            self.consumer_time += self._now() - now

    def read(self, deciding: AttemptRecord | None) -> Latency:
        """Return the latency of the round so far; *deciding* is the attempt that answered, or the last that failed."""
        latency = call_latency(deciding, self._started)
        # The first content that the consumer received counts; without any, the provider's first content.
        return latency if self._first_content is None else replaced(latency, first_content=self._first_content)


@attrs.define
class _Remembered:
    seconds: float
    at: float


class LatencyBoard:
    """The recent latency of each target: a moving average of the time to the first content, or of the whole attempt.

    A failed attempt counts as slow, a cancelled one as at least as slow as the average before. A target without recent
    attempts counts as new, so that a target that was slow once gets another chance.
    """

    def __init__(self) -> None:
        self._targets: OrderedDict[str, _Remembered] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LatencyBoard { {name: round(seen.seconds, 3) for name, seen in self._targets.items()} }>"

    def expected(self, target: str) -> float:
        """Return the expected seconds of *target*; 0 when they are not known, so that it is tried."""
        seen = self._targets.get(target)
        if seen is None or trio.current_time() - seen.at > FORGOTTEN_AFTER:
            return 0.0
        return seen.seconds

    def note(self, outcome: ResponseOutcome) -> None:
        """Update the averages with every attempt of a round."""
        for record in outcome.attempts:
            self._note(record)

    def _note(self, record: AttemptRecord) -> None:
        known = self.expected(record.target)
        sample = record.latency.total if record.latency.first_content is None else record.latency.first_content
        if record.outcome == "failed":
            sample = max(sample, FAILURE_COUNTS)
        if record.outcome == "cancelled" and sample <= known:
            return
        average = known + NEW_SAMPLE * (sample - known) if known else sample
        self._targets[record.target] = _Remembered(average, trio.current_time())
        self._targets.move_to_end(record.target)
        if len(self._targets) > MAX_REMEMBERED:
            self._targets.popitem(last=False)
