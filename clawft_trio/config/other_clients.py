"""Converts files of other programs: MCP servers in the form of other clients, and sections of clawft.

This module works on decoded JSON, before it is structured. It renames and moves keys that have a counterpart, and
removes all others with a warning that names the key. No setting that limits an agent is dropped without a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from clawft_trio.config.schema import Config
from clawft_trio.config.structuring import folded, names_of
from clawft_trio.config.tool_sections import McpServerConfig
from clawft_trio.errors import Problem

_KNOWN = {folded(name): name for field in attrs.fields(McpServerConfig) for name in names_of(field)}

# Keys of other clients with the same meaning.
_RENAMED = {
    "type": "transport",
    "transporttype": "transport",
    "cmd": "command",
    "envs": "env",
    "uri": "url",
    "serverurl": "url",
    "httpurl": "url",
    "baseurl": "url",
    "environment": "env",
    "requestheaders": "headers",
    "httpheaders": "headers",
    "workingdirectory": "cwd",
    "allowedtools": "allow",
    "enabledtools": "allow",
    "includetools": "allow",
    "tools": "allow",
    "disabledtools": "deny",
    "excludetools": "deny",
    "blockedtools": "deny",
}

# Reasons for the warning about a key of another client.
_NO_COUNTERPART = {
    "autoapprove": "no call is approved in advance; hand in `approve`",
    "alwaysallow": "no call is approved in advance; hand in `approve`",
    "trust": "no call is approved in advance; hand in `approve`",
    "timeout": "its unit differs between clients; write `total_ms`",
    "autostart": "every server that is not `disabled` is started",
    "envfile": "no file of variables is read; write them under `env`",
}

_TRANSPORTS = {
    "stdio": "stdio",
    "local": "stdio",
    "http": "http",
    "remote": "http",
    "streamablehttp": "http",
    "sse": "sse",
}

# Names of the top-level key with the servers, in other programs.
_SERVER_LISTS = ("mcpServers", "servers", "context_servers", "mcp_servers", "amp.mcpServers")

_UNUSED_SECTIONS = {
    "gateway": "start one with `clawft-trio mcp` or your own server",
    "channels": "hand adapters to `open_agent(channels=...)`",
    "delegation": "give the agent sub-agents instead",
    "voice": "there is no voice channel",
    "kernel": "there is no kernel",
}


def adopt(data: Any) -> tuple[Any, list[Problem]]:
    """Return *data*, the decoded file, in this library's own terms, and the warnings.

    A value of an unexpected type is left unchanged: structuring reports it with its place.
    """
    warnings: list[Problem] = []
    if not isinstance(data, dict):
        return data, warnings
    data = _with_servers_in_place(dict(data), warnings)
    tools = data.get("tools")
    if isinstance(tools, dict):
        data["tools"] = _tools(dict(tools), warnings)
    _note_unused(data, warnings)
    return _with_known_users(data, warnings), warnings


def server_map(data: Any) -> Mapping[str, Any] | None:
    """Return the servers in *data*, a decoded file of another client; None when it is not such a file."""
    if not isinstance(data, dict):
        return None
    places = [data.get(name) for name in _SERVER_LISTS]
    if isinstance(inner := data.get("mcp"), dict):
        # VS Code's settings.json has the servers one level deeper, opencode.json has them here.
        places.append(inner.get("servers", inner))
    if isinstance(inner := data.get("extensions"), dict):
        # Goose: other kinds of extensions are not servers.
        places.append(
            {name: one for name, one in inner.items() if isinstance(one, dict) and one.keys() & {"cmd", "uri"}}
        )
    if isinstance(tools := data.get("tools"), dict):
        places += [value for key, value in tools.items() if folded(key) == "mcpservers"]
    return next((place for place in places if isinstance(place, dict)), None)


def _with_servers_in_place(data: dict[str, Any], warnings: list[Problem]) -> dict[str, Any]:
    """Move servers from the top of another client's file to `tools.mcp_servers`; drop its other keys with a warning."""
    name = next((name for name in _SERVER_LISTS if isinstance(data.get(name), dict)), None)
    if name is None:
        return data
    servers = data.pop(name)
    if isinstance(data.get("inputs"), list):
        servers = _with_inputs(servers, data.pop("inputs"))
    tools = data.setdefault("tools", {})
    if not isinstance(tools, dict):
        return data
    key = next((key for key in tools if folded(key) == "mcpservers"), "mcpServers")
    own = tools.get(key, {})
    if isinstance(own, dict):
        data["tools"] = {**tools, key: {**servers, **own}}
    for other in [key for key in data if folded(key) not in _TOP_KEYS]:
        warnings.append(Problem(f"$.{other}", "of another program; not used"))
        del data[other]
    return data


_TOP_KEYS = frozenset(folded(name) for field in attrs.fields(Config) for name in names_of(field))


def _with_inputs(servers: Any, inputs: Iterable[Any]) -> Any:
    """Return *servers* with `${input:id}` replaced by the default of that input, where it has one."""
    defaults = {
        f"${{input:{one['id']}}}": f"${{input:{one['id']}:-{one['default']}}}"
        for one in inputs
        if isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("default"), str)
    }

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            for place, default in defaults.items():
                value = value.replace(place, default)
            return value
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        return [filled(inner) for inner in value] if isinstance(value, list) else value

    return filled(servers)


def _tools(tools: dict[str, Any], warnings: list[Problem]) -> dict[str, Any]:
    for key, value in tools.items():
        if folded(key) == "mcpservers" and isinstance(value, dict):
            tools[key] = servers_of(value, f"$.tools.{key}", warnings)
        elif folded(key) == "restricttoworkspace" and value is False:
            warnings.append(Problem(f"$.tools.{key}", "file tools stay in the workspace all the same"))
        elif folded(key) == "web" and value:
            warnings.append(Problem(f"$.tools.{key}", "not used: there is no web search; add an MCP server or a tool"))
    return tools


def servers_of(servers: Mapping[str, Any], place: str, warnings: list[Problem]) -> dict[str, Any]:
    """Return *servers* in this library's terms."""
    return {
        name: _server(server, f"{place}[{name!r}]", warnings) if isinstance(server, dict) else server
        for name, server in servers.items()
    }


def _server(server: Mapping[str, Any], place: str, warnings: list[Problem]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in server.items():
        name = _KNOWN.get(folded(key)) or _RENAMED.get(folded(key))
        if folded(key) == "enabled" and isinstance(value, bool):
            made["disabled"] = not value
        elif folded(key) == "tools" and not _is_list_of_text(value):
            warnings.append(Problem(f"{place}.{key}", "not used"))
        elif name is not None:
            # Two spellings of one key stay two keys, so that structuring refuses them.
            made[key if name in made else name if folded(key) in _RENAMED else key] = value
        else:
            why = _NO_COUNTERPART.get(folded(key), "")
            close = difflib.get_close_matches(folded(key), _KNOWN, n=1, cutoff=0.8)
            hint = f"; did you mean {_KNOWN[close[0]]!r}?" if close and not why else ""
            warnings.append(Problem(f"{place}.{key}", "not used" + (f": {why}" if why else hint)))
    return _plain(made, place, warnings)


def _plain(server: dict[str, Any], place: str, warnings: list[Problem]) -> dict[str, Any]:
    """Return *server* with the value types of this library: a command and its arguments, text in `env`, a transport."""
    command = server.get("command")
    if isinstance(command, dict):
        # Zed's older form: {"path": …, "args": […], "env": {…}}
        nested = {"command": command.get("path"), "args": command.get("args"), "env": command.get("env")}
        server.update({key: value for key, value in nested.items() if value is not None})
    elif _is_list_of_text(command) and command:
        server["command"], server["args"] = command[0], [*command[1:], *server.get("args", [])]
    for key in ("env", "headers"):
        values = server.get(key)
        if isinstance(values, dict):
            server[key] = {name: _as_text(value) for name, value in values.items() if value is not None}
    for key in ("command", "url"):
        if server.get(key) in ("", None):
            server.pop(key, None)
    if isinstance(server.get("transport"), str):
        transport = _TRANSPORTS.get(folded(server["transport"]))
        if transport == "sse":
            warnings.append(Problem(f"{place}.transport", "HTTP with SSE is asked as streamable HTTP"))
        if transport is not None:
            server["transport"] = "stdio" if transport == "stdio" else "http"
    return server


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _note_unused(data: Mapping[str, Any], warnings: list[Problem]) -> None:
    for key, value in data.items():
        if folded(key) in _UNUSED_SECTIONS and value:
            warnings.append(Problem(f"$.{key}", f"not used: {_UNUSED_SECTIONS[folded(key)]}"))


def _with_known_users(data: dict[str, Any], warnings: list[Problem]) -> dict[str, Any]:
    """Return *data* without permissions of users without a channel: they would apply to this name on every channel."""
    path, users = _users(data)
    if users is None:
        return data
    vague = [key for key, entry in users.items() if ":" not in key and not _has_channel(entry)]
    if not vague:
        return data
    why = 'not used: on which channel? write the key as "channel:sender", or add `channel`'
    warnings += [Problem(f"{path}[{key!r}]", why) for key in vague]
    kept = {key: entry for key, entry in users.items() if key not in vague}
    routing, permissions = dict(data["routing"]), dict(data["routing"]["permissions"])
    permissions["users"] = kept
    routing["permissions"] = permissions
    return {**data, "routing": routing}


def _users(data: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    routing = data.get("routing")
    permissions = routing.get("permissions") if isinstance(routing, dict) else None
    users = permissions.get("users") if isinstance(permissions, dict) else None
    return "$.routing.permissions.users", users if isinstance(users, dict) else None


def _has_channel(entry: Any) -> bool:
    return not isinstance(entry, dict) or any(folded(key) == "channel" for key in entry)
