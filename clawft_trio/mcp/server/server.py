"""The tools, resources and prompts that are offered to MCP clients. Independent of pipes and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from clawft_trio.mcp.server.changes import Change, Changes
from clawft_trio.mcp.server.prompts import ServedPrompt, prompt_of
from clawft_trio.mcp.server.resources import Complete, FolderResources, ServedResource, resource_of
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.tool import Tool

F = TypeVar("F", bound=Callable[..., Any])


class McpServer:
    """Tools, resources and prompts for MCP clients.

        server = McpServer([weather])

        @server.resource("city://{name}", mime_type="application/json")
        async def city(name: str) -> dict[str, object]: ...

        @server.prompt
        def review(code: str, language: Literal["python", "rust"] = "python") -> str: ...

        await serve_mcp(server)                              # for a host that starts this process
        await serve_mcp_http(server, "127.0.0.1:8000")       # streamable HTTP

    Additions and removals while clients are connected are reported to them.

    Args:
      tools: a registry, or tools.
    """

    def __init__(self, tools: ToolRegistry | Iterable[Tool] = ()) -> None:
        self.tools: ToolRegistry = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)
        self.changes: Changes = Changes()
        self._resources: dict[str, ServedResource] = {}
        self._folders: list[FolderResources] = []
        self._prompts: dict[str, ServedPrompt] = {}

    def __repr__(self) -> str:
        return f"<McpServer: {len(self.tools)} tools, {len(self._resources)} resources, {len(self._prompts)} prompts>"

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        required_level: int = 0,
        complete: Mapping[str, Complete] | None = None,
    ) -> Callable[[F], F]:
        """Offer the return value of a function under *uri*: text, bytes, JSON or `ResourceContents`.

        Variables of the URI, `{name}` for one segment or `{+name}` for the rest, are the function's parameters.

        Args:
          complete: completes variables: called with the typed text and the values that are known.

        Raises:
          TypeError: the function does not accept the variables.
          ValueError: *uri* is not a template, or is already used.
        """

        def add(function: F) -> F:
            self.add_resource(
                resource_of(
                    function,
                    uri,
                    name=name,
                    title=title,
                    description=description,
                    mime_type=mime_type,
                    required_level=required_level,
                    complete=complete,
                )
            )
            return function

        return add

    def add_resource(self, resource: ServedResource) -> None:
        """Offer *resource*.

        Raises:
          ValueError: its URI is already used.
        """
        if resource.uri in self._resources:
            raise ValueError(f"there is a resource {resource.uri!r} already")
        self._resources[resource.uri] = resource
        self.changes.report(Change("resources"))

    def remove_resource(self, uri: str) -> None:
        """Stop offering the resource or template *uri*.

        Raises:
          KeyError: there is none.
        """
        del self._resources[uri]
        self.changes.report(Change("resources"))

    def add_folder(self, root: Path) -> None:
        """Offer the files below *root*, read-only; hidden files and links out of it are left out."""
        folder = FolderResources(root)
        self._folders.append(folder)
        self.add_resource(folder.template())

    def resource_changed(self, uri: str) -> None:
        """Report that the resource at *uri* has new contents."""
        self.changes.report(Change("resource", uri))

    @property
    def resources(self) -> Sequence[ServedResource]:
        """The resources and templates, sorted by URI."""
        return [self._resources[uri] for uri in sorted(self._resources)]

    def is_hidden(self, uri: str, level: int) -> bool:
        """Return whether *uri* is a resource that senders of *level* may not read."""
        fitting = [one for one in self._resources.values() if one.match(uri) is not None]
        return bool(fitting) and all(one.required_level > level for one in fitting)

    @property
    def folders(self) -> Sequence[FolderResources]:
        """The folders with offered files."""
        return self._folders

    @overload
    def prompt(self, function: F, /) -> F: ...

    @overload
    def prompt(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        required_level: int = 0,
        complete: Mapping[str, Complete] | None = None,
    ) -> Callable[[F], F]: ...

    def prompt(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        required_level: int = 0,
        complete: Mapping[str, Complete] | None = None,
    ) -> Any:
        """Offer a function as a prompt: `@server.prompt`, or with arguments. Its parameters are the prompt's arguments.

        It returns text, a content block, a `PromptMessage`, or a list of these.

        Raises:
          ValueError: the name is already used.
        """

        def add(filled: F) -> F:
            self.add_prompt(
                prompt_of(
                    filled,
                    name=name,
                    title=title,
                    description=description,
                    required_level=required_level,
                    complete=complete,
                )
            )
            return filled

        return add if function is None else add(function)

    def add_prompt(self, prompt: ServedPrompt) -> None:
        """Offer *prompt*.

        Raises:
          ValueError: its name is already used.
        """
        if prompt.name in self._prompts:
            raise ValueError(f"there is a prompt {prompt.name!r} already")
        self._prompts[prompt.name] = prompt
        self.changes.report(Change("prompts"))

    def remove_prompt(self, name: str) -> None:
        """Stop offering the prompt *name*.

        Raises:
          KeyError: there is none.
        """
        del self._prompts[name]
        self.changes.report(Change("prompts"))

    @property
    def prompts(self) -> Mapping[str, ServedPrompt]:
        """The prompts by name."""
        return self._prompts

    @contextmanager
    def watching(self, watcher: Callable[[Change], None]) -> Iterator[None]:
        """Call *watcher*, sync and cheap, for each change of tools, resources and prompts inside the block."""
        with self.changes.watching(watcher), self.tools.watching(lambda: watcher(Change("tools"))):
            yield
