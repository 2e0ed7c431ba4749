"""Converts clawft's command and URL policies to those of this library, with warnings for what cannot be followed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase

from clawft_trio.config.tool_sections import ToolsConfig
from clawft_trio.errors import Problem
from clawft_trio.net import AddressPolicy
from clawft_trio.tools.builtin import ChildPolicy, CommandPolicy, FetchPolicy

# Loopback, private, link-local, shared and unique local addresses.
_PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)

# Cloud metadata services give credentials to any program that reaches them; clawft blocks them first.
_METADATA = ("169.254.169.254", "metadata.google.internal", "fd00:ec2::254")


def command_policy(tools: ToolsConfig) -> CommandPolicy:
    """Return the policy for programs that `run_command` may start: `allow_commands`, and clawft's lists."""
    rules = [*tools.allow_commands, *(name for name, why in _original_rules(tools) if not why)]
    child = ChildPolicy() if tools.exec.timeout is None else ChildPolicy(total=tools.exec.timeout)
    return CommandPolicy(allow=tuple(dict.fromkeys(rules)), child=child)


def fetch_policy(tools: ToolsConfig) -> FetchPolicy:
    """Return the policy for addresses that `web_fetch` may reach."""
    policy = tools.url_policy
    blocked = (*policy.blocked_domains, *_METADATA) if policy.allow_private else policy.blocked_domains
    networks = _PRIVATE_NETWORKS if policy.allow_private else ()
    return FetchPolicy(addresses=AddressPolicy(blocked_domains=blocked, allowed_networks=networks))


def policy_warnings(tools: ToolsConfig) -> Iterator[Problem]:
    """Yield a warning for each rule of clawft's policies that is not followed."""
    policy, urls = tools.command_policy, tools.url_policy
    if policy.mode == "denylist":
        why = "every program that no rule allows is refused; allow programs in tools.allow_commands"
        yield Problem("$.tools.command_policy.mode", f"a deny list allows nothing here: {why}")
    for number, (_, why) in enumerate(_original_rules(tools)):
        if why:
            yield Problem(f"$.tools.command_policy.allowlist[{number}]", f"not obeyed: {why}")
    if not urls.enabled:
        yield Problem("$.tools.url_policy.enabled", "private addresses stay refused; set allow_private to reach them")
    if urls.allowed_domains and not urls.allow_private:
        why = "these domains are reached as all others are: at public addresses only"
        yield Problem("$.tools.url_policy.allowed_domains", f"not obeyed: {why}")


def _original_rules(tools: ToolsConfig) -> Iterator[tuple[str, str]]:
    """Yield each name of clawft's allow list, and why it is not followed; an empty reason when it is."""
    policy = tools.command_policy
    names = policy.allowlist if policy.mode == "allowlist" else ()
    for name in names:
        if any(_is_denied(name, pattern) for pattern in policy.denylist):
            yield name, "the deny list has it, too"
            continue
        try:
            CommandPolicy(allow=(name,))
        except ValueError as exc:
            yield name, str(exc)
        else:
            yield name, ""


def _is_denied(name: str, pattern: str) -> bool:
    try:
        words = shlex.split(pattern)
    except ValueError:
        words = [pattern]
    return bool(words) and (fnmatchcase(name, words[0]) or name == words[0])
