"""`clawft-trio ask`: one question, one answer."""

from __future__ import annotations

import attrs

from clawft_trio.agent.turn_types import Reply
from clawft_trio.attempts import AttemptRecord
from clawft_trio.cli.agent import open_chosen
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.output import write_answer, write_json
from clawft_trio.cli.tables import summary
from clawft_trio.cli.transcript import Transcript
from clawft_trio.errors import ClawftError


@attrs.frozen(kw_only=True)
class Ask:
    """What was asked for on the command line."""

    question: str
    chosen: Chosen = Chosen()
    as_json: bool = False


async def ask(wanted: Ask) -> None:
    """Ask once; print the answer as it comes, without a terminal when it is whole, or one JSON object.

    Raises:
      ClawftError: there is no answer, or something is missing. The JSON object says so, too.

    Cancellation: everything is closed.
    """
    try:
        await _ask(wanted)
    except (ClawftError, OSError) as exc:
        if wanted.as_json:
            write_json({"error": error_as_json(exc)})
        raise


async def _ask(wanted: Ask) -> None:
    console = SafeConsole()
    transcript = Transcript(console)
    async with open_chosen(wanted.chosen, observers=[transcript.notice]) as agent:
        if console.is_terminal and not wanted.as_json:
            async with transcript.following():
                reply = await agent.ask(wanted.question, on_event=transcript)
        else:
            # Whoever reads the other end of a pipe cannot take anything back.
            reply = await agent.ask(wanted.question)
            if not wanted.as_json:
                write_answer(f"{reply.text}\n")
    if wanted.as_json:
        # Only now: what goes wrong on closing would make a second object.
        write_json(as_json(reply))
        return
    SafeConsole(stderr=True).print(summary(reply), style="dim")


def as_json(reply: Reply) -> dict[str, object]:
    """What `--json` prints of a reply."""
    usage = reply.usage
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "provider": reply.provider,
        "model": reply.model,
        "usage": None if usage is None else attrs.asdict(usage),
        "cost_usd": None if reply.cost is None else str(reply.cost),
        "seconds": round(reply.latency.total, 4),
        "rounds": len(reply.rounds),
        "attempts": [_attempt(record) for record in reply.attempts],
        "tools": [{"name": answer.name, "outcome": answer.outcome} for answer in reply.tools],
    }


def error_as_json(exc: Exception) -> dict[str, object]:
    """What `--json` prints when there is no reply."""
    records = exc.attempts if isinstance(exc, ClawftError) else ()
    return {"type": type(exc).__name__, "message": str(exc), "attempts": [_attempt(record) for record in records]}


def _attempt(record: AttemptRecord) -> dict[str, object]:
    return {
        "target": record.target,
        "outcome": record.outcome,
        "seconds": round(record.latency.total, 4),
        "error": None if record.error is None else type(record.error).__name__,
    }
