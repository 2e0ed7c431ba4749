"""One conversation with an agent: its session, its model, and the text that was shown of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import trio

from clawft_trio.agent import Agent
from clawft_trio.agent.sessions import Sessions, SessionSummary
from clawft_trio.agent.turn_types import AgentEvent, RoundStarted
from clawft_trio.auth import LOCAL_CHANNEL
from clawft_trio.chat import Message, Reset, TextDelta
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.errors import explain
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.output import write_answer
from clawft_trio.cli.signals import Interrupts
from clawft_trio.cli.transcript import Transcript
from clawft_trio.costs import Spending
from clawft_trio.errors import ClawftError
from clawft_trio.nursery import cleanup_scope
from clawft_trio.observe import TaskClock

_GRACE = 5.0
"""Seconds that storing a stopped answer may take."""


def new_name() -> str:
    """Return a name for a session without one: the time when it began."""
    return datetime.now(UTC).strftime("chat-%Y%m%d-%H%M%S")


class Conversation:
    """Sends questions to the agent, shows the answers and stores them.

    Args:
      agent: the agent.
      chosen: the options that selected the agent.
      name: the session's name, without the channel.
      transcript: shows an answer while it arrives; None prints it when it is complete.
      console: prints everything else.
      interrupts: determines what Ctrl-C cancels.
      clock: provides the times since when tasks wait.
    """

    def __init__(
        self,
        agent: Agent,
        chosen: Chosen,
        *,
        name: str,
        transcript: Transcript | None,
        console: SafeConsole,
        interrupts: Interrupts,
        clock: TaskClock,
    ) -> None:
        self.agent = agent
        self.chosen = chosen
        self.name = name
        self.console = console
        self.clock = clock
        #: `provider/model`; empty lets the router choose
        self.model = ""
        #: number of questions without an answer
        self.unanswered: int = 0
        self._transcript = transcript
        self._interrupts = interrupts
        self._began = datetime.now(UTC)

    @property
    def session(self) -> str:
        """Name of the session in the store."""
        return f"{LOCAL_CHANNEL}:{self.name}"

    async def ask(self, words: str) -> None:
        """Ask, and show the answer; an error is shown, and the conversation continues.

        Cancellation: models and tools are cancelled and waited for; what was done is in the session.
        """
        await trio.lowlevel.checkpoint()
        with self._interrupts.ending() as stop:
            try:
                await self._answer(words)
            except ClawftError as exc:
                self.unanswered += 1
                explain(exc)
        if stop.cancelled_caught:
            self.console.print("■ stopped", style="yellow")

    async def _answer(self, words: str) -> None:
        if self._transcript is None:
            reply = await self.agent.ask(words, session=self.session, model=self.model)
            write_answer(f"{reply.text}\n", self.console.file)
            return
        seen = _Seen(self._transcript)
        try:
            async with self._transcript.following():
                await self.agent.ask(words, session=self.session, model=self.model, on_event=seen)
        except trio.Cancelled:
            with cleanup_scope(_GRACE):
                await self._keep(seen.text)  # noqa: ASYNC102 - `cleanup_scope` is shielded and bounded
            raise

    async def _keep(self, shown: str) -> None:
        """Store the part of an answer that was shown: it belongs to the conversation, complete or not."""
        spoken = [message.text for message in await self.messages() if message.role == "assistant"]
        # When it was stopped while tools ran, the turn has already stored it.
        if shown and spoken[-1:] != [shown]:
            await self._history.append(self.session, [Message.assistant(shown)])

    @property
    def _history(self) -> Sessions:
        return Sessions(self.agent.parts.store)

    async def messages(self) -> Sequence[Message]:
        """Return all messages of the conversation.

        Cancellation: safe.
        """
        return await self._history.history(self.session)

    async def sessions(self) -> Sequence[SessionSummary]:
        """Return every conversation in the store, the latest first.

        Cancellation: safe.
        """
        return await self._history.summaries()

    async def spent(self) -> Sequence[Spending]:
        """Return the spending since this conversation began, by target, highest first.

        Cancellation: safe.
        """
        return await self.agent.parts.costs.ledger.spending("target", since=self._began)


class _Seen:
    """The text on the screen of the running round."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.text = ""

    def __call__(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, Reset | RoundStarted):
            self.text = ""
        self._transcript(event)
