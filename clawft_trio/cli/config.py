"""`clawft-trio config`: creates a configuration, prints the effective one, and its schema for editors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from clawft_trio.cli.output import write_json, write_line, write_verbatim
from clawft_trio.codec import encode_json
from clawft_trio.config import Config, parse_config
from clawft_trio.config.effective import Setting, settings_in
from clawft_trio.config.json_schema import config_schema
from clawft_trio.config.load import decode_config, read_config
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import KNOWN
from clawft_trio.llm.catalog import url_variable
from clawft_trio.observe import redact_secrets
from clawft_trio.target import split_name

# First models per provider: small, cheap and current.
_FIRST = {"openai": "openai/gpt-5-mini", "anthropic": "anthropic/claude-haiku-4-5"}
_NO_KEY = "ollama/llama3.2"


@attrs.frozen(kw_only=True)
class Init:
    """The options of `config init`."""

    path: Path
    #: `provider/model`, in order of preference; empty: of providers with a key set
    models: tuple[str, ...] = ()
    workspace: Path | None = None
    #: overwrite an existing file
    force: bool = False


async def init(wanted: Init) -> None:
    """Write a minimal valid configuration, and print the next steps.

    Raises:
      NotConfigured: the file already exists.
      ConfigError: a model's provider is unknown.
      OSError: it cannot be written.

    Cancellation: the file is complete, or unchanged.
    """
    models = wanted.models or _models_at_hand()
    text = _pretty(_beginning(models, wanted.workspace))
    parse_config(text, source="--model")
    await trio.to_thread.run_sync(_write, wanted.path, text, wanted.force)
    write_line(f"Wrote {wanted.path}: {', '.join(models)}.")
    unset = [f"{variable} is not set" for variable in _variables(models) if not os.environ.get(variable)]
    write_line("; ".join([*unset, f"check it with: clawft-trio doctor --config {wanted.path}"]))


def _models_at_hand() -> tuple[str, ...]:
    found = tuple(model for name, model in _FIRST.items() if any(map(os.environ.get, KNOWN[name].key_variables)))
    return found or (_NO_KEY,)


def _beginning(models: Sequence[str], workspace: Path | None) -> dict[str, Any]:
    first, *others = models
    place = {} if workspace is None else {"workspace": str(workspace)}
    keys = {name: {"api_key": f"${{{variable}}}"} for name, variable in _keys(models).items()}
    return {
        "agents": {"defaults": {"model": first, **place}},
        **({"providers": keys} if keys else {}),
        **({"failover": others} if others else {}),
    }


def _keys(models: Sequence[str]) -> dict[str, str]:
    """Return the usual key variable of each provider that needs a key."""
    names = dict.fromkeys(split_name(model)[0] for model in models)
    return {name: KNOWN[name].key_variables[0] for name in names if name in KNOWN and not KNOWN[name].local}


def _variables(models: Sequence[str]) -> list[str]:
    return list(_keys(models).values())


def _write(path: Path, text: str, force: bool) -> None:
    # Not blocking, because a pipe may have no reader.
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL) | getattr(os, "O_NONBLOCK", 0)
    try:
        # Readable only by its user, because it may contain a key later.
        file = os.open(path, flags, 0o600)
    except FileExistsError:
        raise NotConfigured(f"{path} exists already: --force replaces it") from None
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)


async def show(config: Path | None, *, as_json: bool = False) -> None:
    """Print every setting with its origin; secrets are masked.

    Raises:
      ConfigError: the file cannot be read, or does not fit.

    Cancellation: nothing is printed.
    """
    await trio.lowlevel.checkpoint()
    settings = list(settings_in(Config())) if config is None else await _settings_of(config)
    settings += _addresses(settings)
    if as_json:
        write_json([attrs.asdict(setting) for setting in settings])
        return
    for setting in settings:
        write_line(f"{setting.path} = {encode_json(setting.value).decode()}  # {setting.origin}")


def _addresses(settings: Sequence[Setting]) -> list[Setting]:
    """Return the URLs of providers that the environment sets, where the file sets none."""
    given = {setting.path for setting in settings if setting.value is not None}
    found: list[Setting] = []
    for name, known in KNOWN.items():
        path, variable = f"$.providers[{name!r}].api_base", url_variable(name, known)
        if variable is not None and path not in given:
            address = redact_secrets(os.environ[variable].strip())
            found.append(Setting(path, address, f"environment, from {variable}"))
    return found


async def _settings_of(path: Path) -> list[Setting]:
    data = await read_config(path)
    settings = parse_config(data, source=str(path))
    return list(settings_in(settings, decode_config(data)))


def print_schema() -> None:
    """Print the JSON Schema of config.json."""
    write_verbatim(_pretty(config_schema()).removesuffix("\n"))


def _pretty(value: object) -> str:
    return msgspec.json.format(encode_json(value), indent=2).decode() + "\n"
