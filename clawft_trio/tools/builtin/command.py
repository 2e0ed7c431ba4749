"""The tool run_command: run a program with arguments, without a shell, if a policy allows it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta

from clawft_trio.errors import PermissionDenied, ToolFailed
from clawft_trio.tools.builtin.safe_options import NOTHING, SAFE_OPTIONS, starts_programs
from clawft_trio.tools.child_process import ChildPolicy, Finished, run_child
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import Workspace

_ANY = "**"


def _rule(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))
    if not words or _ANY in words[:-1]:
        raise ValueError(f"command rule {text!r}: expected a program and patterns of arguments, '**' only at the end")
    if os.sep in words[0] and not os.path.isabs(words[0]):
        raise ValueError(f"command rule {text!r}: a program is a bare name or an absolute path")
    program = _name_of(words[0])
    if words == ("*",):
        return (*words, _ANY)
    if len(words) == 1 and starts_programs(program):
        raise ValueError(
            f"command rule {text!r}: {program} starts other programs, so name its arguments too "
            f"('{program} … **'), or allow everything it can do with '{program} **'"
        )
    return words


def _name_of(program: str) -> str:
    return os.path.basename(program)


def _rules(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(_rule(text) for text in texts)


def _absolute(_: object, __: object, value: str) -> None:
    if not all(os.path.isabs(part) for part in value.split(os.pathsep)):
        raise ValueError(f"search path {value!r}: every part has to be absolute")


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)


@attrs.frozen(kw_only=True)
class CommandPolicy:
    """Rules for the programs that run_command may start.

    A rule is one of:

    * a program alone (`ls`, `sort`): any operands, and the options that `safe_options.py` lists for it. So
      `sort --compress-program=x` and `rg --pre x` are refused. A program that is not listed there may be started
      only without arguments, and a program that starts others (`env`, `git`, `python`, the loader `ld.so`) cannot be
      named alone.
    * a program and patterns (`*`, `?`, `[…]`) of its arguments, one for each: `git log -n ?`. A pattern matches an
      option only if it begins with a dash itself.
    * the same with a final `**`, which matches any further arguments, options included: `git status **`.
    * `*`, which allows every program.

    A program is a bare name that is found on `path`, or an absolute path exactly as in the rule.

    Rules restrict the programs started here, not what these start, read or write. There is no sandbox of the operating
    system around them, and a program that reads settings from the workspace (`make`, `git`) does what a model writes
    there. Where this matters, require approval, or run the whole process in a container.
    """

    #: the rules; empty by default, when run_command is not offered
    allow: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: search path of programs
    path: str = attrs.field(default="/usr/local/bin:/usr/bin:/bin", validator=_absolute)
    #: variables for programs in addition to PATH and HOME; HOME is the workspace
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    #: variables that are copied from this process; all others are left out
    inherit: tuple[str, ...] = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
    child: ChildPolicy = attrs.field(factory=ChildPolicy)
    rules: tuple[tuple[str, ...], ...] = attrs.field(init=False, repr=False)

    @rules.default
    def _parse(self) -> tuple[tuple[str, ...], ...]:
        return _rules(self.allow)

    def allows(self, argv: Sequence[str]) -> bool:
        """Whether a rule allows *argv*."""
        return any(_fits(rule, argv) for rule in self.rules)


def _fits(rule: Sequence[str], argv: Sequence[str]) -> bool:
    program, *patterns = rule
    if argv[0] != program and not (program == "*" and os.sep not in argv[0]):
        return False
    arguments = argv[1:]
    if not patterns:
        return SAFE_OPTIONS.get(_name_of(program), NOTHING).allow(arguments)
    if patterns[-1] == _ANY:
        patterns = patterns[:-1]
        arguments = arguments[: len(patterns)]
    return len(arguments) == len(patterns) and all(map(_matches, arguments, patterns))


def _matches(argument: str, pattern: str) -> bool:
    # `sort *` is meant for files, and must not allow `sort --compress-program=sh`.
    return fnmatchcase(argument, pattern) and (pattern.startswith("-") or not argument.startswith("-"))


Word = Annotated[str, Meta(max_length=100_000)]


def command_tool(workspace: Workspace, policy: CommandPolicy) -> Tool:
    """Make the tool run_command for one workspace."""
    # run_child ends the program itself and keeps its output; the tool's own limit is a second guard.
    total = policy.child.total + 2 * policy.child.grace + 10.0

    @tool(
        mode="mutating",
        writes="directory",
        root=workspace.root,
        total=total,
        aliases=("exec_shell", "spawn"),
        description=_description(policy),
    )
    async def run_command(
        argv: Annotated[list[Word], Meta(min_length=1, max_length=1000)],
        directory: Annotated[str, Meta(min_length=1, max_length=4096)] = ".",
        stdin: Annotated[str, Meta(max_length=1_000_000)] = "",
    ) -> dict[str, Any]:
        """Run a program.

        Args:
          argv: The program and its arguments, one string each.
          directory: Where to run it, relative to the workspace.
          stdin: What the program may read.
        """
        _refuse_unless_allowed(argv, policy)
        program, descriptor = await trio.to_thread.run_sync(_locate, argv[0], directory, workspace, policy)
        try:
            finished = await run_child(
                [program, *argv[1:]],
                cwd=descriptor,
                environment=_environment(workspace, policy),
                stdin=stdin.encode(errors="replace"),
                policy=policy.child,
            )
        finally:
            os.close(descriptor)
        return _result(finished, policy)

    return run_command


def _description(policy: CommandPolicy) -> str:
    allowed = ", ".join(policy.allow[:40])
    return (
        "Run a program and wait for it. No shell reads the arguments: no pipes, wildcards or redirection. "
        f"It may take {policy.child.total:g} seconds. Allowed: {allowed}."
    )


def _refuse_unless_allowed(argv: Sequence[str], policy: CommandPolicy) -> None:
    if not policy.allows(argv):
        shown = shlex.join([word[:200] for word in argv[:20]])[:200]
        raise PermissionDenied(f"This command is not allowed: {shown}. Allowed: {_listed(policy)}.")
    if any("\0" in word for word in argv):
        raise ToolFailed("an argument cannot hold NUL")


def _locate(name: str, directory: str, workspace: Workspace, policy: CommandPolicy) -> tuple[str, int]:
    """Find the program, and open the directory for the caller to close. Blocks the thread."""
    program = shutil.which(name, path=policy.path)
    with workspace.open_directory(directory) as descriptor:
        if program is None:
            raise ToolFailed(f"there is no program {name!r}")
        return program, os.dup(descriptor)


def _listed(policy: CommandPolicy) -> str:
    return ", ".join(policy.allow[:40]) or "nothing"


def _environment(workspace: Workspace, policy: CommandPolicy) -> dict[str, str]:
    kept = {name: os.environ[name] for name in policy.inherit if name in os.environ}
    return {**kept, "PATH": policy.path, "HOME": str(workspace.root), **policy.environment}


def _signal_name(number: int) -> str:
    # Real-time signals have numbers only.
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _result(finished: Finished, policy: CommandPolicy) -> dict[str, Any]:
    result: dict[str, Any] = {"exit_code": finished.exit_code}
    if finished.exit_code is None:
        result["note"] = f"ended after {policy.child.total:g} seconds"
    elif finished.exit_code < 0:
        result["note"] = f"ended by {_signal_name(-finished.exit_code)}"
    elif finished.left_something:
        result["note"] = "something that it started still runs and holds its output"
    return result | {"stdout": finished.stdout, "stderr": finished.stderr, "seconds": round(finished.duration, 3)}
