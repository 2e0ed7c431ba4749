"""Records of past rounds in a bounded ring, with feedback from people."""

from __future__ import annotations

from collections import deque

import attrs
import trio

from clawft_trio.attempts import Latency
from clawft_trio.chat import Call, ChatRequest
from clawft_trio.pipeline.stages import ResponseOutcome, RoundEnding, RoutingDecision, TaskProfile

MAX_QUESTION = 200
"""Stored characters of the question: a trajectory is a note, not the conversation."""


@attrs.frozen(kw_only=True)
class Trajectory:
    """Record of one round: the question, the targets chosen and the outcome."""

    call_id: str
    turn_id: str
    #: `trio.current_time()` at the end of the round
    at: float
    sender_id: str | None
    #: the beginning of the user's question
    question: str = attrs.field(repr=False)
    profile: TaskProfile
    #: the target asked first and the target that answered, `provider/model`
    routed_to: str
    answered_by: str
    tier: str
    ending: RoundEnding
    #: from 0 to 1; None when there was nothing to score
    quality: float | None
    latency: Latency
    #: class name of the error; empty without one
    error: str
    #: from -1 to 1; None until there is feedback
    feedback: float | None = None

    @property
    def value(self) -> float | None:
        """Value of the round from 0 to 1: the feedback, else the quality; 0 for a failure, None without both."""
        if self.feedback is not None:
            return (self.feedback + 1) / 2
        return 0.0 if self.ending == "failed" else self.quality


@attrs.frozen(kw_only=True)
class LearnerStatistics:
    """Counters of a `TrajectoryLearner`."""

    recorded: int
    remembered: int
    poor: int
    #: mean value of the stored rounds, by the `provider/model` that answered
    value_by_target: dict[str, float]


class NoLearner:
    """A learner that stores nothing."""

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None:
        """Store nothing."""

    def feedback(self, about: str, value: float) -> int:
        """Return 0, because nothing is stored."""
        return 0


class TrajectoryLearner:
    """Stores the last rounds, good and bad, in bounded memory.

    Args:
      capacity: number of stored rounds; beyond it the oldest is removed.
      poor_below: value under which a round counts as poor.
    """

    def __init__(self, *, capacity: int = 1000, poor_below: float = 0.6) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._poor_below = poor_below
        self._ring: deque[Trajectory] = deque(maxlen=capacity)
        self._recorded = 0

    def __repr__(self) -> str:
        return f"<TrajectoryLearner {len(self._ring)} of {self._ring.maxlen}>"

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None:
        """Store a round."""
        self._recorded += 1
        self._ring.append(_trajectory(request, decision, outcome, call))

    def feedback(self, about: str, value: float) -> int:
        """Record feedback on a call, or on every round of a turn.

        Args:
          about: the id of the call or of the turn.
          value: from -1 (useless) to 1 (just right).

        Returns:
          The number of rounds that now have the feedback; 0 when none of them is stored any more.

        Raises:
          ValueError: *value* is out of range.
        """
        if not -1 <= value <= 1:
            raise ValueError(f"feedback goes from -1 to 1, got {value}")
        meant = [n for n, t in enumerate(self._ring) if about and about in {t.call_id, t.turn_id}]
        for number in meant:
            self._ring[number] = attrs.evolve(self._ring[number], feedback=value)
        return len(meant)

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The stored rounds, oldest first."""
        return tuple(self._ring)

    def poor(self) -> tuple[Trajectory, ...]:
        """Return the stored rounds with a low value, oldest first. Cancelled rounds have no value."""
        return tuple(t for t in self._ring if t.value is not None and t.value < self._poor_below)

    def statistics(self) -> LearnerStatistics:
        """Return the counters and the mean values."""
        values: dict[str, list[float]] = {}
        for trajectory in self._ring:
            if trajectory.value is not None and trajectory.answered_by:
                values.setdefault(trajectory.answered_by, []).append(trajectory.value)
        return LearnerStatistics(
            recorded=self._recorded,
            remembered=len(self._ring),
            poor=len(self.poor()),
            value_by_target={target: sum(of) / len(of) for target, of in values.items()},
        )


def _trajectory(request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> Trajectory:
    asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    return Trajectory(
        call_id=call.id,
        turn_id=call.turn_id,
        at=trio.current_time(),
        sender_id=decision.sender_id,
        question=asked[:MAX_QUESTION],
        profile=decision.profile,
        routed_to=decision.targets[0].name,
        answered_by=outcome.answered_by,
        tier=decision.tier,
        ending=outcome.ending,
        quality=None if outcome.quality is None else outcome.quality.overall,
        latency=outcome.latency,
        error="" if outcome.error is None else type(outcome.error).__name__,
    )
