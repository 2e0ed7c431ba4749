"""A provider that reports its calls to observers: for chains that are used without an agent."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from clawft_trio.attempts import call_latency, deciding_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider, new_id
from clawft_trio.errors import ConsumerLeft
from clawft_trio.observe.events import RoundEnded
from clawft_trio.observe.observer import Observer, fan_out
from clawft_trio.observe.recorded import recorded

CallEnding = Literal["ok", "failed", "cancelled", "aborted"]


class Observed:
    """Wraps *provider* and reports every event of its calls to *observers*.

        chain = Observed(Failover(one, two), LogObserver(), OtelObserver())

    A call without an id gets one; each call ends with a `RoundEnded`. Make it the outermost wrapper. An agent's
    pipeline does the same for its rounds and does not need it.
    """

    keeps_records = True

    def __init__(self, provider: Provider, *observers: Observer) -> None:
        self._provider = recorded(provider)
        self._observer = fan_out(observers)

    def __repr__(self) -> str:
        return f"<Observed {self._provider!r}>"

    @property
    def name(self) -> str:
        """Name of the wrapped provider."""
        return self._provider.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Send *request* to the wrapped provider and return its answer.

        Raises:
          Exception: raised by the wrapped provider.

        Cancellation: as for the wrapped provider; observers get the call as cancelled.
        """
        observer = fan_out([call.observer, self._observer])
        observed = call.replaced(id=call.id or new_id(), observer=observer, log=call.log.branch())
        running = _RunningCall(observed, request.sender_id or "", trio.current_time())
        try:
            response = await self._provider.complete(request, observed)
        except ConsumerLeft:
            running.ended("aborted")
            raise
        except Exception as exc:
            running.ended("failed", error=exc)
            raise
        except BaseException:
            running.ended("cancelled")
            raise
        running.ended("aborted" if response.finish_reason == "aborted" else "ok", response=response)
        return response


@attrs.frozen
class _RunningCall:
    """A call that runs."""

    call: Call
    sender: str
    started: float

    def ended(
        self, ending: CallEnding, *, response: ChatResponse | None = None, error: BaseException | None = None
    ) -> None:
        usage = None if response is None else response.usage
        deciding = deciding_attempt(self.call.log.records, ending)
        self.call.observer(
            RoundEnded(
                ending=ending,
                sender=self.sender,
                answered_by="" if response is None or deciding is None else deciding.target,
                latency=call_latency(deciding, self.started),
                input_tokens=None if usage is None else usage.input_tokens,
                output_tokens=None if usage is None else usage.output_tokens,
                cost=None if response is None else response.cost,
                error=error,
                call_id=self.call.id,
                turn_id=self.call.turn_id,
            )
        )
