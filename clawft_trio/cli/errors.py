"""Error messages for the user of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clawft_trio.attempts import AttemptRecord
from clawft_trio.cli.output import write_line
from clawft_trio.errors import ClawftError, InvalidData, NotConfigured, Problem, TransportFailed


def explain(exc: BaseException) -> None:
    """Print on stderr what *exc* means, with its attempts."""
    for line in error_lines(exc):
        say(line)


def error_lines(exc: BaseException) -> Iterator[str]:
    """Yield the meaning of *exc*, line by line."""
    if isinstance(exc, InvalidData):
        yield from (": ".join(_parts(problem, exc.source)) for problem in exc.problems)
        return
    if isinstance(exc, OSError) and exc.filename is not None and exc.strerror:
        yield f"{exc.filename}: {exc.strerror}"
        return
    yield f"{type(exc).__name__}: {exc}"
    if isinstance(exc, ClawftError):
        yield from _attempt_lines(exc.attempts)
        if exc.retry_after is not None:
            yield f"  Try again in {exc.retry_after:.0f} s."
        if any(map(_worth_examining, [exc, *(record.error for record in exc.attempts)])):
            yield "See: clawft-trio doctor"


def _parts(problem: Problem, source: str) -> Iterator[str]:
    """Yield place and problem; the path of the whole document is left out."""
    if source:
        yield source
    if problem.path != "$" or not source:
        yield problem.path
    yield problem.message


def _attempt_lines(records: Sequence[AttemptRecord]) -> Iterator[str]:
    """Yield the outcome of each attempt; attempts at one target with equal outcomes share a line."""
    alike: dict[tuple[str, str, str], list[AttemptRecord]] = {}
    for record in records:
        alike.setdefault((record.target, record.outcome, str(record.error or record.why)), []).append(record)
    for (target, outcome, why), group in alike.items():
        if len(group) == 1:
            yield f"  {target}: {outcome} after {group[0].latency.total:.2f} s: {why}"
            continue
        took = max(one.started + one.latency.total for one in group) - min(one.started for one in group)
        yield f"  {target}: {outcome} {len(group)} times in {took:.1f} s: {why}"


def _worth_examining(exc: BaseException | None) -> bool:
    """Return whether `doctor` would find out more; it does not check other missing things, such as a file."""
    return isinstance(exc, TransportFailed) or (isinstance(exc, NotConfigured) and bool(exc.provider))


def say(text: str) -> None:
    """Print one line on stderr."""
    write_line(text, error=True)
