"""The tool run_command: a program with its arguments, without a shell, as far as a policy allows."""

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
from clawft_trio.tools.child_process import ChildPolicy, Finished, run_child
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import Workspace

# Programs whose arguments, or whose own commands, start any other program. To allow one by its name alone is to
# allow everything, so a rule for one has to say which arguments.
_LAUNCHERS_TEXT = (
    "ash awk bash bun busybox cargo chroot cmake csh dash deno docker doas ed emacs env expect find fish "
    "flock gawk gdb git go ionice ksh less lua make man mawk more nice node nohup npm npx nsenter "
    "parallel perl php pip pip3 pnpm podman python python3 rsync ruby runuser script sed setsid sh ssh "
    "stdbuf strace su sudo systemd-run tar tclsh time timeout tmux unshare uv uvx vi vim watch xargs yarn "
    "zip zsh "
)
_LAUNCHERS = frozenset(_LAUNCHERS_TEXT.split())

_ANY = "**"


def _rule(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))
    if not words or _ANY in words[:-1]:
        raise ValueError(f"command rule {text!r}: expected a program and patterns of arguments, '**' only at the end")
    if os.sep in words[0] and not os.path.isabs(words[0]):  # noqa: PTH117 - a word, not yet a path
        raise ValueError(f"command rule {text!r}: a program is a bare name or an absolute path")
    program = os.path.basename(words[0])  # noqa: PTH119 - a name, not a path
    if len(words) == 1 and program.rstrip("0123456789.") in _LAUNCHERS:
        raise ValueError(
            f"command rule {text!r}: {program} starts other programs, so name its arguments too "
            f"('{program} … **'), or allow everything it can do with '{program} **'"
        )
    return words if len(words) > 1 else (*words, _ANY)


def _rules(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(_rule(text) for text in texts)


def _absolute(_: object, __: object, value: str) -> None:
    if not all(os.path.isabs(part) for part in value.split(os.pathsep)):  # noqa: PTH117 - parts of a search path
        raise ValueError(f"search path {value!r}: every part has to be absolute")


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)


@attrs.frozen(kw_only=True)
class CommandPolicy:
    """Which programs run_command may start, and how.

    A rule is a program and patterns (`*`, `?`, `[…]`) of its arguments, one for each; a last `**` stands for any
    further ones. `ls` is short for `ls **`, except for programs that start others (`env`, `git`, `python`, …),
    where the arguments have to be named: `git status **`. `*` allows every program. A program is a bare name that
    is found on `path`, or an absolute path exactly as in the rule.

    Rules bind what is started here, not what that starts, reads or writes: there is no sandbox of the operating
    system around it, and a program that obeys files in the workspace (`make`, `git` and its config) does what a
    model writes there. Where this matters, ask for approval, or run the whole process in a container.
    """

    #: nothing by default, and then there is no tool
    allow: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: where programs are found
    path: str = attrs.field(default="/usr/local/bin:/usr/bin:/bin", validator=_absolute)
    #: variables that a program gets besides PATH and HOME, which is the workspace
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    #: variables that it gets from this process; nothing else comes from there
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
    if patterns and patterns[-1] == _ANY:
        patterns = patterns[:-1]
        arguments = arguments[: len(patterns)]
    return len(arguments) == len(patterns) and all(map(fnmatchcase, arguments, patterns))


Word = Annotated[str, Meta(max_length=100_000)]


def command_tool(workspace: Workspace, policy: CommandPolicy) -> Tool:
    """The tool run_command for one workspace."""
    # It ends by itself, to keep what was written until then; the tool's own limit only guards against a mistake.
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
        finished = await run_child(
            await _resolve(argv, directory, workspace, policy),
            cwd=str(workspace.root / directory),
            environment=_environment(workspace, policy),
            stdin=stdin.encode(errors="replace"),
            policy=policy.child,
        )
        return _told(finished, policy)

    return run_command


def _description(policy: CommandPolicy) -> str:
    allowed = ", ".join(policy.allow[:40])
    return (
        "Run a program and wait for it. No shell reads the arguments: no pipes, wildcards or redirection. "
        f"It may take {policy.child.total:g} seconds. Allowed: {allowed}."
    )


async def _resolve(argv: list[str], directory: str, workspace: Workspace, policy: CommandPolicy) -> list[str]:
    if not policy.allows(argv):
        raise PermissionDenied(f"This command is not allowed: {shlex.join(argv)[:200]}. Allowed: {_listed(policy)}.")
    if any("\0" in word for word in argv):
        raise ToolFailed("an argument cannot hold NUL")

    def look() -> str | None:
        with workspace.open_directory(directory):
            return shutil.which(argv[0], path=policy.path)

    program = await trio.to_thread.run_sync(look)
    if program is None:
        raise ToolFailed(f"there is no program {argv[0]!r}")
    return [program, *argv[1:]]


def _listed(policy: CommandPolicy) -> str:
    return ", ".join(policy.allow[:40]) or "nothing"


def _environment(workspace: Workspace, policy: CommandPolicy) -> dict[str, str]:
    kept = {name: os.environ[name] for name in policy.inherit if name in os.environ}
    return {**kept, "PATH": policy.path, "HOME": str(workspace.root), **policy.environment}


def _signal_name(number: int) -> str:
    # Real-time signals have numbers only.
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _told(finished: Finished, policy: CommandPolicy) -> dict[str, Any]:
    told: dict[str, Any] = {"exit_code": finished.exit_code}
    if finished.exit_code is None:
        told["note"] = f"ended after {policy.child.total:g} seconds"
    elif finished.exit_code < 0:
        told["note"] = f"ended by {_signal_name(-finished.exit_code)}"
    elif finished.left_something:
        told["note"] = "something that it started still runs and holds its output"
    return told | {"stdout": finished.stdout, "stderr": finished.stderr, "seconds": round(finished.duration, 3)}
