"""Read a config.json and the MCP files it names, with variables of the environment filled in."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from clawft_trio.codec import decode_json, encode_json
from clawft_trio.config.comments import without_comments
from clawft_trio.config.other_clients import adopt, server_map
from clawft_trio.config.policies import policy_warnings
from clawft_trio.config.schema import Config
from clawft_trio.config.structuring import structure_config
from clawft_trio.errors import ConfigError, InvalidData, Problem
from clawft_trio.llm import KNOWN
from clawft_trio.pipeline.validation import routing_problems
from clawft_trio.similar import closest
from clawft_trio.target import split_name

MAX_SIZE = 1 << 20
"""Bytes: a hundred times any configuration that was written by hand."""

_log = logging.getLogger("clawft_trio.config")

_PIPE = 10.0
"""Seconds to read a configuration; a pipe may have no writer, a mount no server."""

_NOT_A_FILE = {True: os.strerror(errno.EISDIR), False: "not a regular file"}

# What some editors put in front of UTF-8.
_BOM = b"\xef\xbb\xbf"


async def load_config(
    path: str | Path, *, environ: Mapping[str, str] | None = None, providers: Iterable[str] = ()
) -> Config:
    """Read the configuration in *path*. *environ* and *providers* as in `parse_config`.

    Raises:
      ConfigError: it cannot be read, is not JSON, or does not fit; with every problem and its place.

    Cancellation: nothing is kept.
    """
    config = parse_config(await read_config(path), source=str(path), environ=environ, providers=providers)
    return await with_mcp_files(config, folder=Path(path).parent, environ=environ)


async def with_mcp_files(
    config: Config,
    paths: Sequence[str | Path] = (),
    *,
    folder: str | Path = ".",
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return *config* with the MCP servers of its `mcp_config` files and of *paths* added.

    A file may be a `.mcp.json`, a claude_desktop_config.json, the mcp.json of VS Code or Cursor, or a config.json.
    A server that *config* has itself, or that an earlier file has, goes before one of the same name.

    Args:
      folder: where relative paths start.

    Raises:
      ConfigError: a file cannot be read, is not JSON, has no servers, or does not fit; with its problems.

    Cancellation: nothing is kept.
    """
    await trio.lowlevel.checkpoint()
    servers = dict(config.tools.mcp_servers)
    warnings = list(config.warnings)
    for path in (*config.mcp_config, *map(Path, paths)):
        file = Path(folder) / path.expanduser()
        found = _parse_servers(await read_config(file), source=str(file), environ=environ)
        servers = {**found.tools.mcp_servers, **servers}
        warnings += found.warnings
    merged = attrs.evolve(config, tools=attrs.evolve(config.tools, mcp_servers=servers), mcp_config=())
    return _with_warnings(merged, warnings)


def _parse_servers(data: bytes, *, source: str, environ: Mapping[str, str] | None) -> Config:
    decoded = _decoded(data, source=source, comments=True)
    servers = server_map(decoded)
    if servers is None:
        raise ConfigError([Problem("$", "no MCP servers: expected mcpServers or servers")], source=source)
    file = {"mcpServers": servers}
    if isinstance(decoded.get("inputs"), list):
        file["inputs"] = decoded["inputs"]
    return parse_config(encode_json(file), source=source, environ=environ)


def _with_warnings(config: Config, warnings: Sequence[Problem]) -> Config:
    made = attrs.evolve(config)
    object.__setattr__(made, "warnings", tuple(warnings))
    return made


async def read_config(path: str | Path) -> bytes:
    """What stands in *path*.

    Raises:
      ConfigError: it cannot be read, or is too large for a configuration.

    Cancellation: nothing is kept.
    """
    data = None
    with trio.move_on_after(_PIPE):
        try:
            data = await trio.to_thread.run_sync(_read_bounded, str(path), abandon_on_cancel=True)
        except OSError as exc:
            raise ConfigError([Problem("$", exc.strerror or type(exc).__name__)], source=str(path)) from exc
    if data is None:
        raise ConfigError([Problem("$", f"not read within {_PIPE:g} s")], source=str(path))
    if len(data) > MAX_SIZE:
        raise ConfigError(
            [Problem("$", f"{len(data)} bytes are more than the {MAX_SIZE} that are read")], source=str(path)
        )
    return data


def _read_bounded(path: str) -> bytes:
    """At most one byte more than is allowed. Blocks, on a pipe until its other end is closed."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        # A device may have no end, and a directory no text.
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, _NOT_A_FILE[stat.S_ISDIR(mode)])
    with open(path, "rb") as file:
        return file.read(MAX_SIZE + 1)


def parse_config(
    data: bytes | str, *, source: str = "", environ: Mapping[str, str] | None = None, providers: Iterable[str] = ()
) -> Config:
    """Read a configuration from the JSON text *data*.

    `${NAME}` in a string stands for a variable of *environ*, by default the process's; see `structuring.VARIABLE`.
    Files of other programs with MCP servers (`mcpServers` or `servers` at the top) are accepted, too. What is set and
    not used is in `Config.warnings` and logged. `mcp_config` files are read by `load_config` and `open_agent`.

    The provider of the default model and of `failover` need not be in the file: `open_agent(providers=…)` may bring it.
    A name that is close to a known one counts as misspelt, unless it is among *providers*. The routing section decides
    by tiers and permissions, so all its providers have to be known: from the catalog, the file or *providers*.

    Args:
      data: the text.
      source: its name, for errors.
      environ: values of `${NAME}`.
      providers: names of providers that code brings later.

    Raises:
      ConfigError: it is not JSON, or does not fit; with every problem and its place.
      TypeError: *data* is no text.
    """
    if not isinstance(data, bytes | str):
        raise TypeError(f"parse_config() takes JSON text, not a {type(data).__name__}")
    # Not a default: rendered signatures show defaults, and these hold the user's keys.
    environ = os.environ if environ is None else environ
    adopted, warnings = adopt(_decoded(data, source=source))
    config = structure_config(adopted, Config, source=source, environ=environ)
    assert isinstance(config, Config)
    config = _with_warnings(config, [*warnings, *policy_warnings(config.tools)])
    for warning in config.warnings:
        _log.warning("%s%s: %s", f"{source}: " if source else "", warning.path, warning.message)
    problems = [
        *_misspelt_models(config, known := {*KNOWN, *config.providers, *providers}),
        *_routing_problems(config, known),
    ]
    if problems:
        raise ConfigError(problems, source=source)
    return config


def decode_config(data: bytes | str, *, source: str = "") -> Any:
    """The JSON text *data* in this library's terms, without what is for editors alone or is not used.

    Raises:
      ConfigError: it is not JSON.
    """
    return adopt(_decoded(data, source=source))[0]


def _decoded(data: bytes | str, *, source: str, comments: bool = False) -> Any:
    """The JSON text *data* as it is written, without what is for editors alone.

    Args:
      comments: whether it may have comments and trailing commas, as editors take them in their own settings.

    Raises:
      ConfigError: it is not JSON.
    """
    text = (data if isinstance(data, bytes) else data.encode(errors="replace")).removeprefix(_BOM)
    try:
        decoded = decode_json(without_comments(text) if comments else text)
    except InvalidData as exc:
        problems = [Problem(problem.path, _with_line(problem.message, text)) for problem in exc.problems]
        raise ConfigError(problems, source=source) from exc
    if isinstance(decoded, dict):
        decoded.pop("$schema", None)
    return decoded


def _with_line(message: str, text: bytes) -> str:
    """*message* with the line and the column of the byte that it names, as editors count."""

    def place(found: re.Match[str]) -> str:
        before = text[: int(found[1])].decode(errors="replace").split("\n")
        return f"(line {len(before)}, column {len(before[-1]) + 1})"

    return re.sub(r"\(byte (\d+)\)", place, message)


def _routing_problems(config: Config, known: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the routing section as a whole."""
    for problem in routing_problems(config.routing, config.routing.permissions, providers=known):
        yield Problem(f"$.routing{problem.path.removeprefix('$')}", problem.message)


def _misspelt_models(config: Config, known: Collection[str]) -> Iterator[Problem]:
    """Models outside the routing section that are no `provider/model`, or whose provider is nearly one of *known*."""
    named = {f"$.failover[{number}]": model for number, model in enumerate(config.failover)}
    if config.agents.defaults.model:
        named["$.agents.defaults.model"] = config.agents.defaults.model
    for path, model in named.items():
        provider, name = split_name(model)
        if not (provider and name):
            yield Problem(path, f'expected "provider/model", got "{model}"')
        elif provider not in known:
            for close in closest(provider, known)[:1]:
                yield Problem(path, f"unknown provider {provider!r}; did you mean {close!r}?")
