"""`clawft-trio ask`: one question, one answer."""

from __future__ import annotations

import attrs

from clawft_trio.agent import Agent
from clawft_trio.agent.turn_types import AgentEvent, Reply, RoundStarted
from clawft_trio.attempts import AttemptRecord
from clawft_trio.auth import LOCAL_CHANNEL
from clawft_trio.chat import Reset, TextDelta
from clawft_trio.cli.agent import open_chosen
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.options import Chosen, check_session
from clawft_trio.cli.output import write_answer, write_json, write_line
from clawft_trio.cli.progress import LateNotes
from clawft_trio.cli.stdin import is_piped, read_all
from clawft_trio.cli.tables import summary
from clawft_trio.cli.transcript import Transcript, cause, trouble
from clawft_trio.errors import ClawftError, InvalidData, Problem
from clawft_trio.observe import Event


@attrs.frozen(kw_only=True)
class Ask:
    """The options of `ask`."""

    #: `-` means standard input; to any other question the input of a pipe or file is added
    question: str
    chosen: Chosen = Chosen()
    as_json: bool = False
    #: print text as it arrives even without a terminal
    stream: bool = False
    #: session to continue; empty: a new conversation
    session: str = ""


async def ask(wanted: Ask) -> None:
    """Ask once; print the answer as it arrives, without a terminal when it is complete, or as one JSON object.

    Raises:
      ClawftError: there is no answer, or something is missing. With `--json` the object describes it, too.

    Cancellation: everything is closed.
    """
    try:
        await _ask(wanted)
    except (ClawftError, OSError) as exc:
        if wanted.as_json:
            write_json({"error": error_as_json(exc)})
        raise


async def _ask(wanted: Ask) -> None:
    if wanted.stream and wanted.as_json:
        raise InvalidData([Problem("--stream", "does not go with --json, which prints one object at the end")])
    check_session(wanted.session, wanted.chosen)
    question = await _whole_question(wanted.question)
    console = SafeConsole()
    transcript, notes = Transcript(console), LateNotes()

    def note(event: Event) -> None:
        transcript.notice(event)
        line = trouble(event)
        if line:
            notes(line)

    async with open_chosen(wanted.chosen, observers=[note], session=wanted.session) as agent:
        session = f"{LOCAL_CHANNEL}:{wanted.session}" if wanted.session else None
        if console.is_terminal and not wanted.as_json:
            async with transcript.following():
                reply = await agent.ask(question, session=session, on_event=transcript)
        else:
            async with notes.running():
                reply = await _ask_piped(wanted, agent, question, session)
    if wanted.as_json:
        # After closing: an error there would otherwise print a second object.
        write_json(as_json(reply))
        return
    # `write_answer` has flushed: the answer is first, where both go to one file.
    SafeConsole(stderr=True).print(summary(reply), style="dim")


async def _ask_piped(wanted: Ask, agent: Agent, question: str, session: str | None) -> Reply:
    if wanted.stream:
        printed = _StreamedText()
        reply = await agent.ask(question, session=session, on_event=printed)
        printed.end()
        return reply
    # Text in a pipe cannot be retracted, so the answer is printed when it is final.
    reply = await agent.ask(question, session=session)
    if not wanted.as_json:
        write_answer(f"{reply.text}\n")
    return reply


async def _whole_question(words: str) -> str:
    """Return the question with piped input added; `-` is all of standard input."""
    if words == "-":
        return await read_all()
    if not is_piped():
        return words
    piped = (await read_all()).strip()
    return f"{words}\n\n{piped}" if piped else words


class _StreamedText:
    """Writes text to a pipe as it arrives. Retracted text stays there; stderr marks the place."""

    def __init__(self) -> None:
        self._open_line = False

    def __call__(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta) and event.text:
            write_answer(event.text)
            self._open_line = not event.text.endswith("\n")
        elif isinstance(event, Reset):
            self.end()
            if event.discarded.text:
                why = cause(event.cause)
                write_line(f"Taken back ({why}): the text so far. The answer begins anew.", error=True)
        elif isinstance(event, RoundStarted):
            self.end()

    def end(self) -> None:
        """End the line, if one has begun."""
        if self._open_line:
            write_answer("\n")
            self._open_line = False


def as_json(reply: Reply) -> dict[str, object]:
    """Return the object that `--json` prints for a reply."""
    usage = reply.usage
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "provider": reply.provider,
        "model": reply.model,
        "session": reply.session,
        "usage": None if usage is None else attrs.asdict(usage),
        "cost_usd": None if reply.cost is None else str(reply.cost),
        "seconds": round(reply.latency.total, 4),
        "rounds": len(reply.rounds),
        "attempts": [_attempt(record) for record in reply.attempts],
        "tools": [{"name": answer.name, "outcome": answer.outcome} for answer in reply.tools],
    }


def error_as_json(exc: Exception) -> dict[str, object]:
    """Return the object that `--json` prints when there is no reply."""
    records = exc.attempts if isinstance(exc, ClawftError) else ()
    return {"type": type(exc).__name__, "message": str(exc), "attempts": [_attempt(record) for record in records]}


def _attempt(record: AttemptRecord) -> dict[str, object]:
    return {
        "target": record.target,
        "outcome": record.outcome,
        "seconds": round(record.latency.total, 4),
        "error": None if record.error is None else type(record.error).__name__,
    }
