"""The books of a simulation: everything that it saw, balanced as it comes and at the end.

What is wrong is written down and not raised: most of those who notice are called by the agent, which contains
whatever a tool, a model, a channel or an observer raises.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TypeAlias

import attrs

from clawft_trio import InboundMessage, OutboundMessage
from clawft_trio.costs import LedgerEntry
from clawft_trio.errors import AuthFailed, ProviderError, RateLimited
from clawft_trio.observe import (
    AttemptEnded,
    AttemptStarted,
    Charged,
    Event,
    MessageDropped,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)

PRICES = {"one/a": {"input": 1, "output": 2}, "two/b": {"input": 3, "output": 4}}
"""US dollars per million tokens, as in the config."""

Tally: TypeAlias = Counter[tuple[str, str]]
"""How much of what, by target."""

_OVERLOADED = frozenset({503, 529})
_MOST_WRONG = 20


@attrs.define
class Books:
    """What happened, as large at the end as at the beginning but for a word per turn and tool call.

    Args:
      bounds: seconds that a tool may take, by its name.
      log: keep every event, too.
    """

    bounds: dict[str, float]
    log: bool = True
    events: list[Event] = attrs.field(factory=list)
    #: the first things that were wrong, in words
    wrong: list[str] = attrs.field(factory=list)
    #: by message: `accepted`, `dropped`, `answered`, each as often as it happened
    fate: dict[str, Counter[str]] = attrs.field(factory=dict)
    #: how often what happened
    told: Counter[str] = attrs.field(factory=Counter)
    #: how often a local question ended in which way
    asked: Counter[str] = attrs.field(factory=Counter)
    #: how each turn ended
    ended: dict[str, str] = attrs.field(factory=dict)
    #: messages of which the channel lost a retraction
    unretracted: set[str] = attrs.field(factory=set)
    money: Money = attrs.field(factory=lambda: Money())
    #: what began and has not ended
    _begun: Counter[tuple[str, ...]] = attrs.field(factory=Counter)
    #: the turn that runs in a session, and the number of the last that began
    _turns: dict[str, str] = attrs.field(factory=dict)
    _last: dict[str, int] = attrs.field(factory=dict)
    #: calls whose function was run
    _ran: set[str] = attrs.field(factory=set)

    def expect(self, fact: bool, *details: object) -> None:
        """Write *details* down unless *fact*."""
        if not fact and len(self.wrong) < _MOST_WRONG:
            self.wrong.append(" ".join(map(str, details)))

    def note_run(self, call_id: str) -> None:
        """The function of a tool runs for a call."""
        self.expect(call_id not in self._ran, "run twice:", call_id)
        self._ran.add(call_id)

    def observe(self, event: Event) -> None:
        """Write down what is told."""
        if self.log:
            self.events.append(event)
        self.told[type(event).__name__] += 1
        match event:
            case TurnStarted() | TurnEnded():
                self._observe_turn(event)
            case AttemptStarted():
                self._begun["attempt", event.call_id, event.target] += 1
            case AttemptEnded():
                self._end("attempt", event.call_id, event.record.target)
                self.told[f"attempt {event.record.outcome}"] += 1
                self.money.note_attempt(event)
            case Charged():
                self.money.note_charge(event)
            case ToolStarted() | ToolEnded():
                self._observe_tool(event)
            case MessageDropped(message=InboundMessage(id=id_)) if event.policy != "duplicate":
                self.fate[id_]["dropped"] += 1
            case MessageDropped(message=OutboundMessage(kind="reset", reply_to=str(id_))):
                self.expect(event.policy == "failed", "a retraction was dropped:", event)
                self.unretracted.add(id_)

    def _observe_turn(self, event: TurnStarted | TurnEnded) -> None:
        if isinstance(event, TurnEnded):
            self.expect(self._turns.pop(event.session, None) == event.turn_id, "not the turn that ran:", event)
            self.expect(event.turn_id not in self.ended, "ended twice:", event)
            self.ended[event.turn_id] = event.outcome
            self.told[f"turn {event.outcome}"] += 1
            return
        self.expect(event.session not in self._turns, "two turns at once:", event)
        self._turns[event.session] = event.turn_id
        _, dot, number = event.turn_id.rpartition(".")
        if dot:
            self.expect(self._last.get(event.session, -1) < int(number), "out of order:", event)
            self._last[event.session] = int(number)

    def _observe_tool(self, event: ToolStarted | ToolEnded) -> None:
        key = ("tool", event.turn_id, event.tool_call_id)
        if isinstance(event, ToolStarted):
            self._begun[key] += 1
            return
        # What is refused or unknown ends without having begun.
        if key in self._begun:
            self._end(*key)
        self.told[f"tool {event.outcome}"] += 1
        self.expect(event.duration <= self.bounds.get(event.tool, 1e9), "longer than it may:", event)
        self.expect(event.tool != "slow" or event.outcome in {"timeout", "cancelled"}, "not too slow:", event)

    def _end(self, *what: str) -> None:
        self._begun[what] -= 1
        if not self._begun[what]:
            del self._begun[what]

    def check(self) -> None:
        """Every message that got in has one final reply, everything that began has ended, and nothing was wrong."""
        assert not self.wrong, "\n".join(self.wrong)
        for id_, fate in self.fate.items():
            assert fate["answered"] == (1 if fate["accepted"] and not fate["dropped"] else 0), (id_, fate)
        assert not self._begun, self._begun
        assert not self._turns, self._turns
        assert self.told["turn ok"] > 0


@attrs.define
class Money:
    """What was spent: told by the attempts, by the charges and by the ledger."""

    #: tokens and dollars of the answers whose provider told its usage
    owed: Tally = attrs.field(factory=Counter)
    #: attempts that have to be paid for, by outcome
    billable: Tally = attrs.field(factory=Counter)
    charged: Tally = attrs.field(factory=Counter)

    def note_attempt(self, event: AttemptEnded) -> None:
        """An attempt has ended."""
        record = event.record
        unbilled = record.latency.first_content is None and _was_refused(record.error)
        if record.sent and not unbilled:
            self.billable[record.target, record.outcome] += 1
        if record.outcome == "ok" and record.usage is not None:
            price = PRICES[record.target]
            _add(self.owed, record.target, record.usage.input_tokens, record.usage.output_tokens)
            self.owed[record.target, "micro-dollars"] += (
                record.usage.input_tokens * price["input"] + record.usage.output_tokens * price["output"]
            )

    def note_charge(self, event: Charged) -> None:
        """An attempt was settled."""
        _add(self.charged, event.target, event.input_tokens, event.output_tokens)
        self.charged[event.target, "micro-dollars"] += _micro(event.cost)

    def check(self, entries: tuple[LedgerEntry, ...]) -> None:
        """What has to be paid is in the ledger, once, and what is in the ledger was told."""
        states = Counter(entry.state for entry in entries)
        assert entries and states.keys() <= {"settled", "refunded"}, states
        settled = [entry for entry in entries if entry.state == "settled"]
        billed: Tally = Counter((entry.target, entry.outcome) for entry in settled)
        assert billed == self.billable, (billed, self.billable)
        assert _sum(settled) == self.charged, (_sum(settled), self.charged)
        told = _sum([entry for entry in settled if entry.outcome == "ok" and entry.certainty == "exact"])
        assert told == self.owed, (told, self.owed)


def _add(tally: Tally, target: str, input_tokens: int, output_tokens: int) -> None:
    tally[target, "attempts"] += 1
    tally[target, "input"] += input_tokens
    tally[target, "output"] += output_tokens


def _sum(entries: list[LedgerEntry]) -> Tally:
    tally: Tally = Counter()
    for entry in entries:
        _add(tally, entry.target, entry.input_tokens, entry.output_tokens)
        tally[entry.target, "micro-dollars"] += _micro(entry.cost)
    return tally


def _micro(cost: Decimal | None) -> int:
    assert cost is not None
    micro = cost * 1_000_000
    assert micro == int(micro), cost  # prices are whole numbers for a million
    return int(micro)


def _was_refused(error: BaseException | None) -> bool:
    """Whether nothing was generated, and nothing is billed."""
    if isinstance(error, RateLimited | AuthFailed):
        return True
    return isinstance(error, ProviderError) and error.status in _OVERLOADED
