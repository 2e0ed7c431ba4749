"""What rounds have taught: a bounded ring of trajectories, and what people thought of them."""

from __future__ import annotations

from collections import deque

import attrs
import trio

from clawft_trio.attempts import Latency
from clawft_trio.chat import Call, ChatRequest
from clawft_trio.pipeline.stages import ResponseOutcome, RoundEnding, RoutingDecision, TaskProfile

MAX_QUESTION = 200
"""Characters of the question that are kept: a trajectory is a note, not the conversation."""


@attrs.frozen(kw_only=True)
class Trajectory:
    """One round: what was asked, who was chosen and why, what became of it."""

    call_id: str
    turn_id: str
    #: `trio.current_time()` at its end
    at: float
    sender_id: str | None
    #: the beginning of the user's question
    question: str = attrs.field(repr=False)
    profile: TaskProfile
    #: who was asked first and who answered, `provider/model`
    routed_to: str
    answered_by: str
    tier: str
    ending: RoundEnding
    #: from 0 to 1; None when there was nothing to score
    quality: float | None
    latency: Latency
    #: class name of what failed; empty when nothing did
    error: str
    #: from -1 to 1; None until there is feedback
    feedback: float | None = None

    @property
    def value(self) -> float | None:
        """How good it was, from 0 to 1: the feedback, else the score; 0 for a failure, None for neither."""
        if self.feedback is not None:
            return (self.feedback + 1) / 2
        return 0.0 if self.ending == "failed" else self.quality


@attrs.frozen(kw_only=True)
class LearnerStatistics:
    """What is remembered, in numbers."""

    recorded: int
    remembered: int
    poor: int
    #: mean value of the remembered rounds by `provider/model` that answered
    value_by_target: dict[str, float]


class NoLearner:
    """Remembers nothing."""

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None:
        """Forget it."""

    def feedback(self, about: str, value: float) -> int:
        """Nothing is remembered."""
        return 0


class TrajectoryLearner:
    """Remembers the last rounds, good and bad, in bounded memory.

    Args:
      capacity: rounds that are remembered; beyond it the oldest is forgotten.
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
        """Remember a round."""
        self._recorded += 1
        self._ring.append(_trajectory(request, decision, outcome, call))

    def feedback(self, about: str, value: float) -> int:
        """Record feedback on a call, or on every round of a turn.

        Args:
          about: the id of the call or of the turn.
          value: from -1 (useless) to 1 (just right).

        Returns:
          How many rounds it was noted of; 0 when they are not remembered any more.

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
        """What is remembered, oldest first."""
        return tuple(self._ring)

    def poor(self) -> tuple[Trajectory, ...]:
        """The remembered rounds that went badly, oldest first. What was cancelled went neither way."""
        return tuple(t for t in self._ring if t.value is not None and t.value < self._poor_below)

    def statistics(self) -> LearnerStatistics:
        """What is remembered, in numbers."""
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
