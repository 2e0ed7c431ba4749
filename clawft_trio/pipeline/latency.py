"""How long rounds take, measured, and how long targets have been taking, remembered."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

from clawft_trio.attempts import AttemptRecord, Latency, call_latency
from clawft_trio.chat import CONTENT, Emit, Reset, StreamEvent
from clawft_trio.pipeline.stages import ResponseOutcome

FAILURE_COUNTS = 30.0
"""Seconds that a failed attempt is remembered as, at least: who fails at once is not fast."""

FORGOTTEN_AFTER = 300.0
"""Seconds after which what is known of a target is too old: it is tried again as if it were new."""

NEW_SAMPLE = 0.3
"""Weight of the newest attempt in the moving average."""

MAX_REMEMBERED = 1000
"""Targets that are remembered; beyond it, the one that was used longest ago is forgotten."""


class Stopwatch:
    """Times one round from where it is made, by what passes through its `emit`."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        # The clock itself: `trio.current_time` looks it up, and this is asked twice for every event of a stream.
        self._now = trio.lowlevel.current_clock().current_time
        self._started = self._now()
        self._first_content: float | None = None
        #: seconds spent in the consumer
        self.consumer_time: float = 0.0

    async def emit(self, event: StreamEvent) -> None:
        """Pass *event* on and note when.

        Cancellation: it may have been seen.
        """
        now = self._now()
        if self._first_content is None:
            if isinstance(event, CONTENT):
                self._first_content = now - self._started
        elif isinstance(event, Reset):
            # What was shown before was not the answer.
            self._first_content = None
        try:
            await self._emit(event)
        finally:
            self.consumer_time += self._now() - now

    def read(self, deciding: AttemptRecord | None) -> Latency:
        """The latency of the round so far; *deciding* is the attempt that answered, or the last that failed."""
        latency = call_latency(deciding, self._started)
        # What was shown counts; where nothing was, or it was retracted, what the provider had sent.
        return latency if self._first_content is None else attrs.evolve(latency, first_content=self._first_content)


@attrs.define
class _Remembered:
    seconds: float
    at: float


class LatencyBoard:
    """What each target has needed lately: a moving average, to the first content where there was any.

    A failed attempt counts as slow, a cancelled one as at least as slow as it had been. A target that was not tried
    for a while is as good as new, so that a target that was slow once gets another chance.
    """

    def __init__(self) -> None:
        self._targets: OrderedDict[str, _Remembered] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LatencyBoard { {name: round(seen.seconds, 3) for name, seen in self._targets.items()} }>"

    def expected(self, target: str) -> float:
        """Seconds that *target* may be expected to need; 0 when nothing is known, so that it is tried."""
        seen = self._targets.get(target)
        if seen is None or trio.current_time() - seen.at > FORGOTTEN_AFTER:
            return 0.0
        return seen.seconds

    def note(self, outcome: ResponseOutcome) -> None:
        """Learn from every attempt of a round."""
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
