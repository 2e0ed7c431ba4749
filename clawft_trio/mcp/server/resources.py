"""Resources: what clients can read by URI. Single ones, families by URI template, and the files of a folder."""

from __future__ import annotations

import inspect
import mimetypes
import os
import re
import stat
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import attrs
import msgspec
import trio

from clawft_trio.errors import PeerError, PermissionDenied, ToolFailed
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import JsonObject, Resource, ResourceTemplate
from clawft_trio.tools.builtin.search import Tree
from clawft_trio.tools.tool import ToolContext
from clawft_trio.tools.workspace import Workspace

Read: TypeAlias = Callable[[Mapping[str, str], ToolContext], Awaitable[object]]
"""Reads a resource: gets the values of the template's variables, returns text, bytes, JSON or `ResourceContents`."""

Complete: TypeAlias = Callable[[str, Mapping[str, str]], "Sequence[str] | Awaitable[Sequence[str]]"]
"""Returns values that begin with the typed text; the second argument has the arguments that are already known."""

MAX_FILES = 10_000
"""Largest number of files of one folder that are listed. All files can be read."""

MAX_FILE = 16 * 1024 * 1024
"""Largest file in bytes that is read as a resource."""

_VARIABLE = re.compile(r"\{(\+?)([A-Za-z_][A-Za-z0-9_]*)\}")


@attrs.frozen(kw_only=True)
class ServedResource:
    """A resource or, when `uri` has variables in braces, a family of them."""

    uri: str
    name: str
    read: Read = attrs.field(repr=False)
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    #: 0 zero trust, 1 user, 2 admin
    required_level: int = 0
    #: completion functions by variable name
    complete: Mapping[str, Complete] = attrs.field(factory=dict, repr=False)
    pattern: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)

    @pattern.default
    def _of_uri(self) -> re.Pattern[str]:
        return template_pattern(self.uri)

    @property
    def is_template(self) -> bool:
        """Whether it is a family of resources."""
        return bool(self.pattern.groups)

    @property
    def definition(self) -> Resource | ResourceTemplate:
        """The definition that lists contain."""
        name, title, text, kind = self.name, self.title, self.description, self.mime_type
        if self.is_template:
            return ResourceTemplate(uri_template=self.uri, name=name, title=title, description=text, mime_type=kind)
        return Resource(uri=self.uri, name=name, title=title, description=text, mime_type=kind)

    def match(self, uri: str) -> Mapping[str, str] | None:
        """Return the values of the variables in *uri*; None when it does not match."""
        found = self.pattern.fullmatch(uri)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def template_pattern(template: str) -> re.Pattern[str]:
    """Return a pattern for the URIs of an RFC 6570 template: `{name}` is one path segment, `{+name}` any rest.

    Raises:
      ValueError: it has other expressions, or a variable twice.
    """
    pieces: list[str] = []
    end = 0
    for found in _VARIABLE.finditer(template):
        pieces.append(re.escape(template[end : found.start()]))
        pieces.append(f"(?P<{found[2]}>{'.+' if found[1] else '[^/]+'})")
        end = found.end()
    rest = template[end:]
    if "{" in _VARIABLE.sub("", template) or "}" in _VARIABLE.sub("", template):
        raise ValueError(f"{template!r}: only {{name}} and {{+name}} are understood in templates")
    try:
        return re.compile("".join(pieces) + re.escape(rest))
    except re.error as exc:
        raise ValueError(f"{template!r}: {exc}") from exc


def resource_of(
    function: Callable[..., Any],
    uri: str,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    mime_type: str | None = None,
    required_level: int = 0,
    complete: Mapping[str, Complete] | None = None,
) -> ServedResource:
    """Return a resource for a function; its parameters are the variables of *uri*; one may be a `ToolContext`.

    Raises:
      TypeError: the parameters and the variables differ.
      ValueError: *uri* is not a template.
    """
    hints = typing.get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    context = next((one for one in names if hints.get(one) is ToolContext), None)
    served = ServedResource(
        uri=uri,
        name=name or function.__name__,
        read=_reader(function, context, hints),
        title=title,
        description=inspect.getdoc(function) if description is None else description,
        mime_type=mime_type,
        required_level=required_level,
        complete=complete or {},
    )
    if {one for one in names if one != context} != set(served.pattern.groupindex):
        raise TypeError(f"{function!r} does not take the variables of {uri!r}")
    return served


def _reader(function: Callable[..., Any], context_name: str | None, hints: Mapping[str, Any]) -> Read:
    async def read(variables: Mapping[str, str], context: ToolContext) -> object:
        arguments = converted(variables, hints)
        if context_name is not None:
            arguments[context_name] = context
        return await call_function(function, arguments)

    return read


def converted(given: Mapping[str, str], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Convert text arguments to the types that a function expects.

    Raises:
      PeerError: one does not fit.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = msgspec.convert(value, hints.get(name, str), strict=False)
        except msgspec.ValidationError as exc:
            raise PeerError(f"{name}: {exc}"[:200], code=INVALID_PARAMS) from exc
    return found


async def call_function(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a sync function in a thread, an async one here.

    Raises:
      Exception: raised by the function.

    Cancellation: as for the function; one that runs in a thread is waited for.
    """
    if inspect.iscoroutinefunction(function):
        await trio.lowlevel.checkpoint()
        return await function(**arguments)
    return await trio.to_thread.run_sync(partial(function, **arguments))


def _resolved(path: str | Path) -> Path:
    return Path(path).resolve()


@attrs.frozen
class FolderResources:
    """The files of a folder as `file://` resources. Hidden files and links out of the folder are not served."""

    root: Path = attrs.field(converter=_resolved)

    @property
    def prefix(self) -> str:
        """Prefix of every URI."""
        return f"file://{quote(str(self.root))}/"

    def template(self) -> ServedResource:
        """Return the family of all files."""
        return ServedResource(
            uri=self.prefix + "{+path}",
            name=self.root.name or "files",
            title=f"Files of {self.root.name or self.root}",
            read=self._read,
        )

    async def list_files(self) -> list[tuple[str, Resource]]:
        """Return the files with their URIs, sorted.

        Cancellation: waits for the directory that is being read.
        """
        return await trio.to_thread.run_sync(self._scan)

    async def _read(self, variables: Mapping[str, str], _: ToolContext) -> object:
        data = await trio.to_thread.run_sync(self._load, variables["path"])
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    def _scan(self) -> list[tuple[str, Resource]]:
        workspace = Workspace(self.root)
        with workspace.open_directory(".") as directory:
            tree = Tree(directory, hidden=workspace.private_folder())
            found = (self._entry(*one) for one in tree.files() if not _is_hidden(one[0]))
            return sorted(islice((one for one in found if one is not None), MAX_FILES), key=lambda entry: entry[0])

    def _entry(self, relative: str, name: str, parent: int) -> tuple[str, Resource] | None:
        """Return the resource of a file; None for what is not a file, or is gone, or has a name that no URI has."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            uri = self.prefix + quote(relative)
        except (OSError, UnicodeEncodeError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        mime_type, _ = mimetypes.guess_type(name)
        return uri, Resource(uri=uri, name=relative, mime_type=mime_type, size=status.st_size)

    def _load(self, relative: str) -> bytes:
        try:
            if _is_hidden(relative):
                raise ToolFailed("hidden")
            with (
                Workspace(self.root).open_file(relative) as descriptor,
                open(descriptor, "rb", closefd=False) as file,
            ):
                data = file.read(MAX_FILE + 1)
        except (ToolFailed, PermissionDenied) as exc:
            raise unknown_resource(self.prefix + quote(relative, errors="replace")) from exc
        if len(data) > MAX_FILE:
            raise PeerError(f"the file is larger than {MAX_FILE} bytes", code=INVALID_PARAMS)
        return data


def _is_hidden(relative: str) -> bool:
    return any(name.startswith(".") for name in relative.split("/"))


def unknown_resource(uri: str) -> PeerError:
    """Return the error for a URI that is not served here."""
    data: JsonObject = {"uri": uri[:2000]}
    return PeerError("unknown resource", code=INVALID_PARAMS, data=data)
