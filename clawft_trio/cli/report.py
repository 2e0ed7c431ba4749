"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs
from rich.padding import Padding
from rich.text import Text

from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.output import write_json

CheckOutcome: TypeAlias = Literal["ok", "warning", "problem"]

_MARKS: dict[CheckOutcome, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}


@attrs.frozen(kw_only=True)
class CheckResult:
    """One line of a report."""

    #: what was looked at: `config`, `provider`, `mcp`, `skills`, `store`
    check: str
    #: which of them
    subject: str
    outcome: CheckOutcome = "ok"
    message: str
    #: what to do about it; empty when all is well
    advice: str = ""
    #: how long looking took
    seconds: float = 0.0


def print_report(findings: Iterable[CheckResult]) -> None:
    """One line for each, and one more with the advice."""
    console = SafeConsole()
    for finding in findings:
        mark, style = _MARKS[finding.outcome]
        line = Text.assemble((f"{mark} ", style), (f"{finding.check} {finding.subject}".rstrip(), "bold"))
        line.append(f": {finding.message}")
        if finding.seconds >= 0.001:
            line.append(f" ({finding.seconds * 1000:.0f} ms)", style="dim")
        console.print(line)
        if finding.advice:
            console.print(Padding(Text(f"→ {finding.advice}", style=style), (0, 0, 0, 2)))


def print_report_json(findings: Iterable[CheckResult]) -> None:
    """One object with all of them, and whether all is well."""
    found = [attrs.asdict(finding) for finding in findings]
    well = all(one["outcome"] != "problem" for one in found)
    write_json({"ok": well, "findings": found})
