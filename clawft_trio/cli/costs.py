"""`clawft-trio costs`: spending by sender, model and other groups."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import attrs
import trio
from rich.table import Table

from clawft_trio.agent.from_config import unpriced_models
from clawft_trio.cli.agent import settings_of
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.errors import say
from clawft_trio.cli.options import Format
from clawft_trio.cli.output import csv_cell, write_json, write_line
from clawft_trio.config import Config
from clawft_trio.costs import MIGRATIONS, GroupBy, Ledger, Spending
from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.store import open_store
from clawft_trio.store.address import is_address

_INPUT = ("cached_tokens", "cache_write_tokens", "plain_tokens")
"""The parts of the input tokens: read from prompt caches, written to them, and the rest. The last columns, because
programs read columns by position."""

_NUMBERS = ("attempts", "input_tokens", "output_tokens", "cost", "certainty", "unpriced", *_INPUT)

_COUNTS = ("attempts", "input_tokens", "output_tokens", "unpriced", *_INPUT)


@attrs.frozen(kw_only=True)
class Costs:
    """The options of `costs`."""

    store: str
    by: tuple[str, ...] = ("sender", "target")
    sender: str | None = None
    #: number of days back from now; None is all
    days: int | None = None
    form: Format = "table"
    #: a config.json with prices, to explain missing prices
    config: Path | None = None


async def show_costs(wanted: Costs) -> None:
    """Print the spending, highest first.

    Raises:
      NotConfigured: there is no such file.
      InvalidData: a group is unknown, or the configuration does not fit.
      StoreError: the ledger cannot be read.

    Cancellation: nothing is changed.
    """
    groups = _groups(wanted.by)
    # Read first, so that a wrong file is an error even when nothing lacks a price.
    config = None if wanted.config is None else await settings_of(wanted.config)
    if not is_address(wanted.store) and not await trio.Path(wanted.store).exists():
        raise NotConfigured(f"no ledger: {wanted.store} is not there")
    since = None if wanted.days is None else datetime.now(UTC) - timedelta(days=wanted.days)
    async with open_store(wanted.store, migrations=MIGRATIONS) as store:
        ledger = Ledger(store)
        found = await ledger.spending(*groups, sender=wanted.sender, since=since)
        targets = await ledger.spending("target", sender=wanted.sender, since=since)
    {"table": _table, "csv": _csv, "json": _json}[wanted.form](groups, found)
    unpriced = [spent.group["target"] for spent in targets if spent.unpriced]
    if unpriced:
        await _explain(unpriced, config or await settings_of(None))


async def _explain(targets: Sequence[str], config: Config) -> None:
    """Print on stderr why attempts at *targets* have no price."""
    reasons = await unpriced_models(config, [target for target in targets if "/" in target])
    for target in targets:
        why = reasons.get(target, "it has a price now, and had none when it was asked, or its usage was not reported")
        say(f"{target} is unpriced: {why}")


def _groups(names: Sequence[str]) -> tuple[GroupBy, ...]:
    known: tuple[GroupBy, ...] = get_args(GroupBy)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InvalidData([Problem("--by", f"expected some of {', '.join(known)}, got {', '.join(wrong)}")])
    return tuple(name for name in known if name in names)


def _row(groups: Sequence[str], spent: Spending) -> dict[str, str]:
    return {name: spent.group[name] for name in groups} | {name: str(getattr(spent, name)) for name in _NUMBERS}


# Short, so that a table fits a terminal of 80 columns. Input tokens are shown by their price.
_HEADINGS = {
    "attempts": "attempts",
    "plain_tokens": "plain",
    "cached_tokens": "cached",
    "cache_write_tokens": "written",
    "output_tokens": "output",
    "cost": "cost, $",
    "certainty": "certainty",
    "unpriced": "unpriced",
}


def _table(groups: Sequence[str], found: Sequence[Spending]) -> None:
    if not found:
        write_line("Nothing was spent.")
        return
    numbers = [name for name in _HEADINGS if name != "unpriced" or any(spent.unpriced for spent in found)]
    table = Table(box=None, pad_edge=False)
    for name in groups:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(_HEADINGS[name], justify="right")
    for spent in found:
        row = _row(groups, spent)
        table.add_row(*(row[name] for name in (*groups, *numbers)))
    SafeConsole().print(table)


def _csv(groups: Sequence[str], found: Sequence[Spending]) -> None:
    writer = csv.DictWriter(sys.stdout, [*groups, *_NUMBERS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in _row(groups, spent).items()} for spent in found)


def _json(groups: Sequence[str], found: Sequence[Spending]) -> None:
    # The cost stays a string, because most readers would convert a number to a float.
    counts = [{name: getattr(spent, name) for name in _COUNTS} for spent in found]
    write_json([_row(groups, spent) | own for spent, own in zip(found, counts, strict=True)])
