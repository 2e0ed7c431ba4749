"""run_command with real child processes: what may run, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.tools import ToolContext, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, ChildPolicy, CommandPolicy, register_builtins

CONTEXT = ToolContext(auth=AuthContext.local())
PYTHON = f"{sys.executable} -c **"


def registry_of(root, *allow, environment=None, **child):
    registry = ToolRegistry()
    commands = CommandPolicy(allow=allow, environment=environment or {}, child=ChildPolicy(**child))
    register_builtins(registry, root, BuiltinPolicy(unapproved=True, commands=commands))
    return registry


async def run(registry, *argv, **more):
    call = ToolCall(id="1", name="run_command", arguments=json.dumps({"argv": argv, **more}))
    (answer,) = await registry.execute_all([call], CONTEXT)
    return answer


async def result(registry, *argv, **more):
    answer = await run(registry, *argv, **more)
    assert answer.outcome == "ok", answer
    return json.loads(answer.text)


async def script(registry, code, *argv, **more):
    return await result(registry, sys.executable, "-c", code, *argv, **more)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def gone(pid):
    with trio.fail_after(5):
        while alive(pid):
            await trio.sleep(0.01)


async def test_a_program_runs_in_the_workspace_and_its_outcome_is_told(tmp_path):
    (tmp_path / "sub").mkdir()
    registry = registry_of(tmp_path, PYTHON)
    code = "import os, sys; print(os.getcwd(), sys.stdin.read()); print('why', file=sys.stderr); sys.exit(3)"
    told = await script(registry, code, directory="sub", stdin="héllo")
    assert (told["exit_code"], told["stdout"], told["stderr"]) == (3, f"{tmp_path}/sub héllo\n", "why\n")


async def test_output_beyond_the_pipe_and_the_cap_is_drained_and_its_ends_are_kept(tmp_path):
    # The original waited for the end before it read: 64 KiB of output hung until the timeout, and were lost.
    registry = registry_of(tmp_path, PYTHON, longest_output=2048)
    told = await script(registry, "import sys\nfor n in range(200000): print(n); print(n, file=sys.stderr)")
    for stream in ("stdout", "stderr"):
        assert told[stream].startswith("0\n1\n2\n")
        assert told[stream].endswith("199998\n199999\n")
        assert " bytes left out]" in told[stream]
        assert len(told[stream]) < 2200
    assert told["exit_code"] == 0


async def test_what_was_written_before_the_time_was_over_is_kept(tmp_path):
    registry = registry_of(tmp_path, PYTHON, total=0.4, grace=0.1)
    told = await script(registry, "import time; print('so far', flush=True); time.sleep(100)")
    assert (told["exit_code"], told["stdout"], told["note"]) == (None, "so far\n", "ended after 0.4 seconds")


async def test_a_program_that_does_not_read_its_input_is_not_waited_for(tmp_path):
    told = await script(registry_of(tmp_path, PYTHON), "pass", stdin="x" * 1_000_000)
    assert told["exit_code"] == 0


async def test_a_signal_is_named(tmp_path):
    told = await script(registry_of(tmp_path, PYTHON), "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert told["note"] == "ended by SIGSEGV"


async def test_only_the_named_variables_reach_the_program(tmp_path):
    os.environ["A_SECRET_KEY"] = "sk-secret"
    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        registry = registry_of(tmp_path, PYTHON, environment={"COLOR": "no"})
        told = await script(registry, "import json, os; print(json.dumps(dict(os.environ)))")
    finally:
        del os.environ["A_SECRET_KEY"], os.environ["LC_ALL"]
    found = json.loads(told["stdout"])
    assert found["HOME"] == str(tmp_path)
    assert set(found) <= {"PATH", "HOME", "COLOR", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}


def test_a_policy_does_not_show_what_it_puts_into_the_environment():
    assert "sk-secret" not in repr(CommandPolicy(environment={"KEY": "sk-secret"}))


FAMILY = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"])
print(os.getpid(), child.pid, flush=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
"""


async def family(tmp_path):
    with trio.fail_after(10):
        while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 2:
            await trio.sleep(0.01)
    return [int(pid) for pid in (tmp_path / "pids").read_text().split()]


async def test_cancelling_kills_the_program_and_its_children(tmp_path):
    registry = registry_of(tmp_path, PYTHON, grace=0.2)
    code = FAMILY + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, registry, sys.executable, "-c", code, "pids")
        pids = await family(tmp_path)
        assert all(map(alive, pids))
        began = trio.current_time()
        nursery.cancel_scope.cancel(reason="test")
    assert trio.current_time() - began < 3
    for pid in pids:
        await gone(pid)


async def test_the_whole_group_is_asked_to_end_before_it_is_killed(tmp_path):
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open('bye', 'a').write(sys.argv[1]), sys.exit()))\n"
        "open('ready', 'a').write(sys.argv[1])\n"
        "time.sleep(100)"
    )
    code = (
        "import subprocess, sys\n"
        f"polite = {polite!r}\n"
        "subprocess.Popen([sys.executable, '-c', polite, 'b'])\n"
        "exec(polite)"
    )
    registry = registry_of(tmp_path, PYTHON, grace=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, registry, sys.executable, "-c", code, "a")
        while not (tmp_path / "ready").exists() or len((tmp_path / "ready").read_text()) < 2:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel(reason="test")
    assert "a" in (tmp_path / "bye").read_text()


async def test_children_that_outlive_a_program_are_killed_and_do_not_hold_it_up(tmp_path):
    registry = registry_of(tmp_path, PYTHON, total=30)
    began = trio.current_time()
    told = await script(registry, FAMILY, "pids")
    assert trio.current_time() - began < 5
    assert told["exit_code"] == 0
    for pid in await family(tmp_path):
        await gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes of a session")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_children_in_a_group_of_their_own_are_killed(tmp_path, cancelled):
    """Job control of a shell makes such groups, and so does `timeout`."""
    registry = registry_of(tmp_path, PYTHON, total=30, grace=0.1)
    code = FAMILY.replace("subprocess.Popen([", "subprocess.Popen(process_group=0, args=[")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, registry, sys.executable, "-c", code + "time.sleep(99)" * cancelled, "pids")
        pids = await family(tmp_path)
        if cancelled:
            nursery.cancel_scope.cancel(reason="test")
    for pid in pids:
        await gone(pid)


async def test_children_of_a_program_that_ends_as_it_is_cancelled_are_killed(tmp_path):
    registry = registry_of(tmp_path, PYTHON, total=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, registry, sys.executable, "-c", FAMILY + "time.sleep(0.2)", "pids")
        parent, child = await family(tmp_path)
        # It ends while the event loop does something else, so that its end and the cancellation are seen together.
        while alive(parent):
            time.sleep(0.001)  # noqa: ASYNC251
        nursery.cancel_scope.cancel(reason="test")
    await gone(child)


async def test_a_process_that_leaves_the_session_is_not_found_but_holds_nothing_up(tmp_path):
    """setsid is the one way out: it takes an operating system's sandbox to close it."""
    registry = registry_of(tmp_path, PYTHON, total=30, grace=0.2)
    code = FAMILY.replace("subprocess.Popen([", "subprocess.Popen(start_new_session=True, args=[")
    began = trio.current_time()
    told = await script(registry, code, "pids")
    assert trio.current_time() - began < 5
    assert told["note"] == "something that it started still runs and holds its output"
    _, escaped = await family(tmp_path)
    assert alive(escaped)
    with contextlib.suppress(ProcessLookupError):
        os.kill(escaped, signal.SIGKILL)


async def test_no_descriptor_and_no_zombie_is_left(tmp_path):
    registry = registry_of(tmp_path, PYTHON, "nothing-there", total=0.3, grace=0.1)
    await script(registry, "pass")
    before = descriptors()
    for code in ("pass", "import time; time.sleep(9)", "print('x' * 100000)"):
        await script(registry, code)
    assert (await run(registry, "nothing-there")).outcome == "error"
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


ORIGINAL_BYPASSES = [
    ["echo `id`"],
    ["echo hi & curl x"],
    ["echo hi\ncurl x"],
    ["env", "curl", "x"],
    ["xargs", "curl"],
    ["find", ".", "-exec", "touch", "made", ";"],
    ["rm", "-rf", "~"],
    ["rm", "-rf", "/"],
    ["python3", "-c", "open('made', 'w')"],
    ["sh", "-c", "echo hi > made"],
    ["./echo"],
    ["/tmp/echo"],
    ["/bin/echo"],
    ["../../bin/echo"],
    [""],
]


@pytest.mark.parametrize("argv", ORIGINAL_BYPASSES, ids=" ".join)
async def test_what_the_original_let_through_is_refused(tmp_path, argv):
    answer = await run(registry_of(tmp_path, "echo", "cat"), *argv)
    assert answer.outcome == "refused"
    assert "not allowed" in answer.text
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("word", ["`id`", "$(id)", "&", "|", ";", "> /etc/cron.d/x", "~", "*", "\n"])
async def test_what_a_shell_would_read_is_only_text(tmp_path, word):
    told = await result(registry_of(tmp_path, "echo"), "echo", word, "touch made")
    assert told["stdout"] == f"{word} touch made\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("ls", [["ls"], ["ls", "-la", "x"]], [["lsof"], ["/bin/ls"]]),
        ("git status **", [["git", "status"], ["git", "status", "-s"]], [["git"], ["git", "-c", "x", "status"]]),
        ("git log -n ?", [["git", "log", "-n", "5"]], [["git", "log", "-n", "55"], ["git", "log", "-n", "5", "x"]]),
        ("/bin/echo", [["/bin/echo", "x"]], [["echo", "x"]]),
        ("*", [["anything", "at", "all"]], [["./local"], ["/bin/sh"]]),
        ("'a b' 'c d'", [["a b", "c d"]], [["a", "b", "c", "d"]]),
    ],
)
def test_a_rule_allows_what_it_says(rule, allowed, refused):
    policy = CommandPolicy(allow=(rule,))
    assert all(map(policy.allows, allowed))
    assert not any(map(policy.allows, refused))


@pytest.mark.parametrize(
    "rule", ["env", "git", "python3", "python3.11", "/usr/bin/find", "", "ls ** x", "./x", "a/b", "'"]
)
def test_a_rule_that_would_say_more_than_it_seems_is_refused(rule):
    with pytest.raises(ValueError, match=r"command rule|quotation"):
        CommandPolicy(allow=(rule,))


def test_a_search_path_has_no_relative_part():
    with pytest.raises(ValueError, match="absolute"):
        CommandPolicy(path="/bin:.")


async def test_nothing_is_allowed_by_default(tmp_path):
    assert "run_command" not in register_builtins(ToolRegistry(), tmp_path, BuiltinPolicy(unapproved=True))


@pytest.mark.parametrize(
    ("argv", "more", "outcome"),
    [
        ("ls", {}, "invalid"),
        ([], {}, "invalid"),
        (["ls", "a\0b"], {}, "error"),
        (["ls"], {"directory": "../.."}, "refused"),
        (["ls"], {"directory": "missing"}, "error"),
    ],
)
async def test_what_cannot_be_run_is_an_answer(tmp_path, argv, more, outcome):
    call = ToolCall(id="1", name="run_command", arguments=json.dumps({"argv": argv, **more}))
    (answer,) = await registry_of(tmp_path, "ls").execute_all([call], CONTEXT)
    assert answer.outcome == outcome


async def test_commands_of_one_directory_take_turns_with_its_files(tmp_path):
    registry = registry_of(tmp_path, PYTHON)
    code = "import time; time.sleep(0.3); open('f', 'w').write('done')"
    began = time.monotonic()
    calls = [
        ToolCall(id="1", name="run_command", arguments=json.dumps({"argv": [sys.executable, "-c", code]})),
        ToolCall(id="2", name="read_file", arguments='{"path": "f"}'),
    ]
    _, read = await registry.execute_all(calls, CONTEXT)
    assert read.text == "done"
    assert time.monotonic() - began >= 0.3
