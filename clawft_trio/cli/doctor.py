"""`clawft-trio doctor`: checks everything an agent needs, concurrently, with advice on problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from clawft_trio.agent.from_config import mcp_servers, skills_of, unpriced_models
from clawft_trio.cli.check_provider import check_provider, models_of, providers_of
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.progress import progress
from clawft_trio.cli.report import CheckResult, print_report, print_report_json
from clawft_trio.cli.words import counted
from clawft_trio.config import Config, McpServerConfig, load_config
from clawft_trio.errors import CannotStart, ClawftError, ConfigError, NotConfigured, PeerGone, StoreError
from clawft_trio.files import FileCache
from clawft_trio.mcp import McpOptions, open_mcp
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import redact_secrets
from clawft_trio.store import open_store
from clawft_trio.store.address import is_address, shown

Check: TypeAlias = Callable[[], Awaitable[CheckResult]]


@attrs.frozen(kw_only=True)
class Doctor:
    """The options of `doctor`."""

    chosen: Chosen = Chosen()
    #: also request one token from each model; that may cost money
    probe: bool = False
    #: seconds that each check may take; stopping a server that hangs takes additional time
    total: float = 10.0
    as_json: bool = False


async def doctor(wanted: Doctor) -> bool:
    """Check everything and print the findings; return whether there is no problem.

    Providers are asked for their list of models, which costs nothing. Nothing is changed anywhere.

    Cancellation: servers that were started are ended; nothing is printed.
    """
    config, findings = await _config(wanted.chosen.config)
    async with progress("Checking"):
        config_read = all(finding.outcome != "problem" for finding in findings)
        found = await _side_by_side(_checks(wanted, config, config_read=config_read), wanted.total)
    # Some of the text comes from servers, which may print secrets.
    findings += [attrs.evolve(one, message=redact_secrets(one.message)) for one in found]
    (print_report_json if wanted.as_json else print_report)(findings)
    return all(finding.outcome != "problem" for finding in findings)


async def _config(path: Path | None) -> tuple[Config, list[CheckResult]]:
    """Return the configuration, and one finding for each problem in it."""
    await trio.lowlevel.checkpoint()
    if path is None:
        return Config(), [CheckResult(check="config", subject="", message="none given; the defaults are used")]
    try:
        return await load_config(path), [CheckResult(check="config", subject=str(path), message="fits")]
    except ConfigError as exc:
        advice = "Correct it there; `clawft-trio config schema` lets an editor help."
        if not path.exists():  # noqa: ASYNC240 - one look, before anything runs
            advice = "Write one with `clawft-trio config init`, or name another with --config."
        wrong = partial(CheckResult, check="config", subject=str(path), outcome="problem", advice=advice)
        return Config(), [
            wrong(message=f"{problem.path}: {redact_secrets(problem.message)}") for problem in exc.problems
        ]


def _checks(wanted: Doctor, config: Config, *, config_read: bool) -> list[tuple[CheckResult, Check]]:
    """Return the checks, each with the finding for one that takes too long."""
    checks: list[tuple[CheckResult, Check]] = []

    def add(check: str, subject: str, slow: str, look: Check) -> None:
        late = CheckResult(check=check, subject=subject, outcome="problem", message="no answer in time", advice=slow)
        checks.append((late, look))

    for name in providers_of(wanted.chosen, config):
        slow = "Is the address right, and the network up? --total gives it more time."
        add("provider", name, slow, partial(check_provider, name, wanted.chosen, config, probe=wanted.probe))
    if not checks and config_read:
        add("provider", "", "", _no_provider)
    models = models_of(wanted.chosen, config)
    if models:
        add(
            "prices",
            "",
            "The price list takes long to load: --total gives it more time.",
            partial(_prices, models, config),
        )
    for name, own in config.tools.mcp_servers.items():
        slow = "Start it by hand with `clawft-trio mcp list`; --total gives it more time."
        add("mcp", name, slow, partial(_mcp, name, own, config, wanted.total))
    workspace = wanted.chosen.workspace or config.agents.defaults.workspace
    if workspace is not None:
        add("skills", str(workspace), "Is the folder on a disk that hangs?", partial(_skills, workspace, config))
    place = wanted.chosen.store or config.store_place
    if place is not None:
        slow = "It may be very large, or its disk slow: --total gives it more time."
        add("store", shown(place), slow, partial(_store, place))
    return checks


async def _side_by_side(checks: Sequence[tuple[CheckResult, Check]], total: float) -> list[CheckResult]:
    """Return the finding of each check, in their order; none takes longer than *total* seconds."""
    found = [late for late, _ in checks]

    async def look(number: int, check: Check) -> None:
        started = trio.current_time()
        with trio.move_on_after(total):
            found[number] = await check()
        found[number] = attrs.evolve(found[number], seconds=trio.current_time() - started)

    async with open_hidden_nursery() as nursery:
        for number, (_, check) in enumerate(checks):
            nursery.start_soon(look, number, check)
    return found


async def _prices(models: Sequence[str], config: Config) -> CheckResult:
    """Report models without a price, and why; a warning when a budget in dollars needs one."""
    unpriced = await unpriced_models(config, models)
    about = partial(CheckResult, check="prices", subject="")
    if not unpriced:
        return about(message="every model has one")
    budgets = config.routing.cost_budgets
    limited = budgets.global_daily_limit_usd or budgets.global_monthly_limit_usd
    message = "; ".join(f"{model} is unpriced: {why}" for model, why in unpriced.items())
    advice = "Give them a price in $.prices, or an alias in $.price_aliases: budgets in dollars do not count them."
    return about(message=message) if not limited else about(outcome="warning", message=message, advice=advice)


async def _no_provider() -> CheckResult:
    await trio.lowlevel.checkpoint()
    return CheckResult(
        check="provider",
        subject="",
        outcome="problem",
        message="no model is named, and no provider's key is set",
        advice="Set a key, such as OPENAI_API_KEY, or name a model: --model provider/model, or a server: --base-url.",
    )


async def _mcp(name: str, own: McpServerConfig, config: Config, total: float) -> CheckResult:
    await trio.lowlevel.checkpoint()
    wrong = partial(CheckResult, check="mcp", subject=name, outcome="problem")
    alone = attrs.evolve(config, tools=attrs.evolve(config.tools, mcp_servers={name: own}))
    try:
        server = mcp_servers(alone)[name].server
        async with open_mcp(
            server, name=name, options=McpOptions(total=total, start=total, supervision=None)
        ) as client:
            tools = await client.list_tools()
    except NotConfigured as exc:
        return wrong(message=str(exc), advice=f"Set what is missing, or correct $.tools.mcp_servers[{name!r}].")
    except CannotStart as exc:
        return wrong(message=str(exc), advice=f"Install it, or correct $.tools.mcp_servers[{name!r}].command.")
    except PeerGone as exc:
        by_hand = "Run its command by hand: it prints why it ends."
        return wrong(
            message=str(exc),
            advice=by_hand if own.url is None else "Is its address right, and the network up?",
        )
    except ClawftError as exc:
        return wrong(message=f"{type(exc).__name__}: {exc}", advice="Try it by hand with `clawft-trio mcp list`.")
    return CheckResult(check="mcp", subject=name, message=counted(len(tools), "tool"))


async def _skills(workspace: Path, config: Config) -> CheckResult:
    about = partial(CheckResult, check="skills", subject=str(workspace))
    if not await trio.Path(workspace).is_dir():
        return about(outcome="problem", message="there is no such folder", advice=f"Make it: mkdir -p {workspace}")
    report = await skills_of(config, workspace, FileCache()).load()
    if report.problems:
        return about(
            outcome="problem",
            message="; ".join(report.problems),
            advice="Correct them, or remove them; `clawft-trio skills` lists all.",
        )
    return about(message=counted(len(report.skills), "skill"))


async def _store(path: str) -> CheckResult:
    about = partial(CheckResult, check="store", subject=shown(path))
    if not is_address(path) and not await trio.Path(path).exists():
        return about(message="not there yet; it is made when it is first used")
    try:
        # Without migrations: looking changes nothing.
        async with open_store(path) as store:
            look = "PRAGMA quick_check(1)" if store.engine == "sqlite" else "SELECT 'ok'"
            (found,) = await store.read(lambda connection: connection.execute(look).fetchone())
    except StoreError as exc:
        return about(outcome="problem", message=f"{type(exc).__name__}: {exc}", advice="Use another file, or a backup.")
    if found != "ok":
        return about(outcome="problem", message=str(found), advice="Use a backup: the file is damaged.")
    return about(message="whole")
