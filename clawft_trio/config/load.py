"""Reads a config.json and the MCP files that it names, and replaces environment variables."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
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
from clawft_trio.files.pipes import TimedFile
from clawft_trio.llm import KNOWN
from clawft_trio.pipeline.validation import routing_problems
from clawft_trio.similar import closest
from clawft_trio.target import split_name

MAX_SIZE = 1 << 20
"""Largest file in bytes: a hundred times any configuration written by hand."""

_LARGE = 64 * 1024
"""Bytes from which on a configuration is parsed in a thread; this many take 10 ms."""

_log = logging.getLogger("clawft_trio.config")

_PIPE = 10.0
"""Seconds to read a file: a pipe may have no writer, a network mount no server."""

_MORE = 1.0
"""Seconds more for the thread that reads the file."""

_NOT_A_FILE = {True: os.strerror(errno.EISDIR), False: "not a regular file"}

# The byte order mark that some editors put before UTF-8.
_BOM = b"\xef\xbb\xbf"


async def load_config(
    path: str | Path, *, environ: Mapping[str, str] | None = None, providers: Iterable[str] = ()
) -> Config:
    """Read the configuration in the file *path*. *environ* and *providers* as in `parse_config`.

    Raises:
      ConfigError: the file cannot be read, is not JSON, or does not fit; lists every problem with its place.

    Cancellation: nothing is kept.
    """
    data = await read_config(path)
    config = await _parse(parse_config, data, source=str(path), environ=environ, providers=providers)
    return await with_mcp_files(config, folder=Path(path).parent, environ=environ)


async def _parse(parse: Callable[..., Config], data: bytes, **options: Any) -> Config:
    work = partial(parse, data, **options)
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True) if len(data) > _LARGE else work()


async def with_mcp_files(
    config: Config,
    paths: Sequence[str | Path] = (),
    *,
    folder: str | Path = ".",
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return *config* with the MCP servers of its `mcp_config` files and of *paths* added.

    A file may be a `.mcp.json`, a claude_desktop_config.json, the mcp.json of VS Code or Cursor, or a config.json. A
    server of *config* itself or of an earlier file overrides one with the same name.

    Args:
      folder: base of relative paths.

    Raises:
      ConfigError: a file cannot be read, is not JSON, has no servers, or does not fit; lists the problems.

    Cancellation: nothing is kept.
    """
    await trio.lowlevel.checkpoint()
    servers = dict(config.tools.mcp_servers)
    warnings = list(config.warnings)
    for path in (*config.mcp_config, *map(Path, paths)):
        file = Path(folder) / path.expanduser()
        found = await _parse(_parse_servers, await read_config(file), source=str(file), environ=environ)
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
    """Return the content of the file *path*.

    Raises:
      ConfigError: the file cannot be read, or is too large for a configuration.

    Cancellation: nothing is kept.
    """
    data = None
    # The thread ends with its next read, except on a network mount.
    with trio.move_on_after(_PIPE + _MORE):
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
    """Return at most `MAX_SIZE + 1` bytes. Blocks; for a pipe until its writer closes it, or the time is over."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        # A device may have no end, and a directory has no text.
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, _NOT_A_FILE[stat.S_ISDIR(mode)])
    with io.BufferedReader(TimedFile(path, wait=_PIPE, poll=trio.from_thread.check_cancelled)) as file:
        return file.read(MAX_SIZE + 1)


def parse_config(
    data: bytes | str, *, source: str = "", environ: Mapping[str, str] | None = None, providers: Iterable[str] = ()
) -> Config:
    """Read a configuration from the JSON text *data*.

    `${NAME}` in a string is replaced by a variable of *environ*, by default the environment of this process; see
    `structuring.VARIABLE`. Files of other programs with MCP servers (`mcpServers` or `servers` at the top) are
    accepted, too. Settings that have no effect are listed in `Config.warnings` and logged. `load_config` and
    `open_agent` read the `mcp_config` files.

    The file need not define the provider of the default model or of `failover`: `open_agent(providers=…)` may add it. A
    name that is close to a known one is treated as a misspelling, unless it is in *providers*. The routing section
    decides by tiers and permissions, so all its providers must be in the catalog, the file or *providers*.

    Args:
      data: the JSON text.
      source: name of the text, for errors.
      environ: values of `${NAME}`.
      providers: names of providers that code adds later.

    Raises:
      ConfigError: the text is not JSON, or does not fit; lists every problem with its place.
      TypeError: *data* is not text.
    """
    if not isinstance(data, bytes | str):
        raise TypeError(f"parse_config() takes JSON text, not a {type(data).__name__}")
    # Not a default value, because rendered signatures show defaults and the environment holds the user's keys.
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
    """Decode the JSON text *data* and return it in this library's terms, without keys for editors or without effect.

    Raises:
      ConfigError: the text is not JSON.
    """
    return adopt(_decoded(data, source=source))[0]


def _decoded(data: bytes | str, *, source: str, comments: bool = False) -> Any:
    """Decode the JSON text *data*, without the key for editors (`$schema`).

    Args:
      comments: whether comments and trailing commas are allowed, as in the settings of editors.

    Raises:
      ConfigError: the text is not JSON.
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
    """Return *message* with its byte offset replaced by line and column, as editors count."""

    def place(found: re.Match[str]) -> str:
        before = text[: int(found[1])].decode(errors="replace").split("\n")
        return f"(line {len(before)}, column {len(before[-1]) + 1})"

    return re.sub(r"\(byte (\d+)\)", place, message)


def _routing_problems(config: Config, known: Collection[str]) -> Iterator[Problem]:
    """Yield the problems of the routing section as a whole."""
    for problem in routing_problems(config.routing, config.routing.permissions, providers=known):
        yield Problem(f"$.routing{problem.path.removeprefix('$')}", problem.message)


def _misspelt_models(config: Config, known: Collection[str]) -> Iterator[Problem]:
    """Yield models outside of the routing section without `provider/model`, or with a misspelt provider of *known*."""
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
