"""`clawft-trio chat`: a conversation, on a terminal or through a pipe.

On a terminal the answer is drawn as it arrives, Ctrl-C stops the answer and not the program, and `/help` lists further
commands. Through a pipe each line is a message, and each answer is printed when it is complete, so that nothing has to
be retracted; messages without an answer are reported on stderr, and the exit code is 1.
"""

from __future__ import annotations

import attrs
import trio

from clawft_trio.cli.agent import open_chosen
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.conversation import Conversation, new_name
from clawft_trio.cli.errors import explain
from clawft_trio.cli.options import Chosen, check_session
from clawft_trio.cli.signals import Interrupts, open_interrupts
from clawft_trio.cli.slash import run_slash_command
from clawft_trio.cli.stdin import StdinLines, read_stdin
from clawft_trio.cli.transcript import Transcript
from clawft_trio.cli.words import counted
from clawft_trio.errors import ClawftError
from clawft_trio.observe import TaskClock


@attrs.frozen(kw_only=True)
class Chat:
    """The options of `chat`."""

    chosen: Chosen = Chosen()
    #: the session to go on with; empty begins one
    session: str = ""


async def chat(wanted: Chat) -> bool:
    """Run the conversation until the input ends; return whether every message got an answer.

    Raises:
      NotConfigured: a session is named without a store.
      ClawftError: the agent cannot be opened.

    Cancellation: the running answer is cancelled; everything is closed, and the conversation is in the store.
    """
    check_session(wanted.session, wanted.chosen)
    console = SafeConsole()
    at_terminal = read_stdin().isatty() and console.is_terminal
    transcript = Transcript(console) if console.is_terminal else None
    observers = [] if transcript is None else [transcript.notice]
    with TaskClock.running() as clock:
        async with (
            open_chosen(wanted.chosen, observers=observers, session=wanted.session) as agent,
            open_interrupts(take=at_terminal) as taken,
        ):
            conversation = Conversation(
                agent,
                wanted.chosen,
                name=wanted.session or new_name(),
                transcript=transcript,
                console=console,
                interrupts=taken,
                clock=clock,
            )
            await _Talk(conversation, taken, prompts=at_terminal).run()
    return conversation.unanswered == 0


class _Talk:
    """Reads lines until the input ends, and answers or executes each."""

    def __init__(self, conversation: Conversation, interrupts: Interrupts, *, prompts: bool) -> None:
        self._conversation = conversation
        self._interrupts = interrupts
        self._lines = StdinLines()
        self._prompts = prompts

    async def run(self) -> None:
        if self._prompts:
            await self._print_greeting()
        while (message := await self._next_message()) is not None:
            if not await self._done(message.strip()):
                break
        if self._prompts and not self._conversation.agent.parts.store.private:
            self._hint(f"To go on: --session {self._conversation.name}")

    async def _print_greeting(self) -> None:
        count = len(await self._conversation.messages())
        so_far = f", {counted(count, 'message')} so far" if count else ""
        self._hint(f"Session {self._conversation.name}{so_far}. /help lists the commands; Ctrl-D leaves.")

    async def _done(self, message: str) -> bool:
        """Answer or execute *message*; return False when it was the last."""
        await trio.lowlevel.checkpoint()
        if message.startswith("/") and not message.startswith("//") and not await self._starts_skill(message):
            return await self._obeyed(message)
        if message:
            await self._conversation.ask(message.removeprefix("/") if message.startswith("//") else message)
            if self._prompts:
                self._conversation.console.print()
        return True

    async def _starts_skill(self, message: str) -> bool:
        """Return whether *message* starts a skill: a skill has precedence over a chat command with the same name."""
        context = self._conversation.agent.parts.turns.context
        return context is not None and await context.starts_skill(message)

    async def _obeyed(self, line: str) -> bool:
        await trio.lowlevel.checkpoint()
        with self._interrupts.ending():
            try:
                return await run_slash_command(self._conversation, line)
            except ClawftError as exc:
                if not self._prompts:
                    self._conversation.unanswered += 1
                explain(exc)
        return True

    async def _next_message(self) -> str | None:
        """Return the next message, of one line or more; None at the end of the input, or after two Ctrl-C."""
        message = None
        for _ in range(2):
            with self._interrupts.ending() as stop:
                message = await self._message()
            if not stop.cancelled_caught:
                break
            self._lines.forget()
            self._hint("\nCtrl-C again, or Ctrl-D, leaves.")
        return message

    async def _message(self) -> str | None:
        message = await self._typed("> ")
        while self._prompts and message is not None and message.endswith("\\"):
            more = await self._typed("… ")
            message = message.removesuffix("\\") + ("" if more is None else f"\n{more}")
        return message

    async def _typed(self, prompt: str) -> str | None:
        if self._prompts:
            self._conversation.console.print(prompt, end="", style="bold cyan")
        line = await self._lines.next_line()
        if line is None and self._prompts:
            # Ctrl-D leaves the cursor after the prompt.
            self._conversation.console.print()
        return line

    def _hint(self, text: str) -> None:
        self._conversation.console.print(text, style="dim")
