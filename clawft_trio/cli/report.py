"""The result of a check, with advice."""

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

    #: kind of check: `config`, `provider`, `mcp`, `skills`, `store`
    check: str
    #: checked item, for example the name of a provider
    subject: str
    outcome: CheckOutcome = "ok"
    message: str
    #: advice; empty when there is no problem
    advice: str = ""
    #: duration of the check
    seconds: float = 0.0


def print_report(findings: Iterable[CheckResult]) -> None:
    """Print one line for each finding, and one more with its advice."""
    console = SafeConsole()
    for finding in findings:
        mark, style = _MARKS[finding.outcome]
        line = Text.assemble((f"{mark} ", style), (f"{finding.check} {finding.subject}".rstrip(), "bold"))
        line.append(f": {finding.message}")
        if finding.seconds >= 0.001:
            line.append(f" ({finding.seconds * 1000:.0f} ms)", style="dim")
        console.print(line)
        if finding.advice:
            console.print(Padding(Text(f"→ {finding.advice}", style=style), (0, 0, 0, 2), expand=False))


def print_report_json(findings: Iterable[CheckResult]) -> None:
    """Print one object with all findings, and whether there is no problem."""
    found = [attrs.asdict(finding) for finding in findings]
    well = all(one["outcome"] != "problem" for one in found)
    write_json({"ok": well, "findings": found})
