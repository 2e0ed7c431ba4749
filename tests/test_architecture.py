"""Rules of the code that a syntax tree can check."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import clawft_trio

PACKAGE = Path(clawft_trio.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SILENCED = re.compile(r"# (noqa|type: ignore|pyright: ignore)")


@cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))) for path in FILES]


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_only_the_guest_module_imports_asyncio_and_no_module_starts_threads() -> None:
    for name, tree in trees():
        # Host side of trio's guest mode: it runs on asyncio's loop, and nothing in the package imports it.
        if name == "asyncio_guest.py":
            continue
        assert "clawft_trio.asyncio_guest" not in set(imports(tree)), name
        roots = {module.partition(".")[0] for module in imports(tree)}
        assert not roots & {"asyncio", "threading", "multiprocessing", "concurrent"}, name


def test_one_file_imports_httpx() -> None:
    users = [name for name, tree in trees() if {"httpx", "httpx2"} & {m.partition(".")[0] for m in imports(tree)}]
    assert users == ["net/http.py"]


def test_no_clock_but_trios() -> None:
    # A thread that waits for another process's lock has no trio at hand.
    threads = ("sqlite.py", "sqlite_lanes.py", "postgres_lane.py", "postgres_session.py")
    in_a_thread = {f"store/{name}" for name in threads}
    forbidden = {"time", "monotonic", "perf_counter", "sleep", "time_ns", "monotonic_ns", "perf_counter_ns"}
    for name, tree in trees():
        if name in in_a_thread:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
                assert node.attr not in forbidden, f"{name}:{node.lineno}"
        assert "time" not in imports(tree), name


def test_callers_own_deadlines() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef):
                arguments = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                assert "timeout" not in arguments, f"{name}:{node.lineno} {node.name}"


def public_async_functions(tree: ast.Module) -> Iterator[ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (inner for inner in node.body if isinstance(inner, ast.AsyncFunctionDef))


def is_overload(node: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def test_public_async_functions_say_what_cancellation_leaves() -> None:
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees()
        if not name.startswith("cli/")
        for node in public_async_functions(tree)
        if not node.name.startswith("_")
        and not is_overload(node)
        and "Cancellation:" not in (ast.get_docstring(node) or "")
    ]
    assert silent == []


def test_every_cancel_has_a_reason() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cancel":
                owner = ast.unparse(node.func.value)
                if "scope" in owner.lower():
                    assert any(keyword.arg == "reason" for keyword in node.keywords), f"{name}:{node.lineno}"


MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONSTRUCTORS = {
    "list",
    "dict",
    "set",
    "bytearray",
    "deque",
    "defaultdict",
    "Counter",
    "OrderedDict",
    "WeakKeyDictionary",
}
CONSTRUCTORS |= {"WeakValueDictionary", "WeakSet", "count", "cycle", "Random"}
CHANGES = {"append", "add", "update", "setdefault", "pop", "popitem", "clear", "extend", "insert", "discard", "remove"}
CHANGES |= {"appendleft", "popleft", "sort", "reverse", "move_to_end", "seed"}


def containers(tree: ast.Module) -> set[str]:
    """The names of a module's top level, and of its classes, that hold something which can be changed."""
    found = set()
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for node in itertools.chain(tree.body, *(each.body for each in classes)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            call = node.value.func if isinstance(node.value, ast.Call) else None
            called = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
            if isinstance(node.value, MUTABLE) or called in CONSTRUCTORS:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def changed(function: ast.AST) -> Iterator[tuple[str, int]]:
    """The names whose contents a function changes, without those that it binds itself; also as `Class.name`."""
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    for node in ast.walk(function):
        target = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            target = node.func.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "next" and node.args:
            target = node.args[0]
        if isinstance(target, ast.Name) and target.id not in own:
            yield target.id, node.lineno
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            yield target.attr, node.lineno


def instance_attributes(tree: ast.Module) -> set[str]:
    """The attributes that methods assign: they are an instance's, also where a class has one of that name."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def state_of_modules(named: list[tuple[str, ast.Module]]) -> list[str]:
    """Where a function rebinds a global, or changes a container of a module's top level, its own or an imported one."""
    everywhere = set().union(*(containers(tree) for _, tree in named))
    found = []
    for name, tree in named:
        found += [f"{name}:{node.lineno}" for node in ast.walk(tree) if isinstance(node, ast.Global)]
        watched = containers(tree) | {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name in everywhere
        }
        watched -= instance_attributes(tree)
        for node in ast.walk(tree) if watched else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                found += [f"{name}:{line}" for what, line in changed(node) if what in watched]
    return sorted(set(found))


def test_no_module_level_mutable_state() -> None:
    """Module-level names are constants: no function rebinds one or changes what it holds."""
    assert state_of_modules(trees()) == []


def test_the_check_of_module_level_state_finds_each_form() -> None:
    module = """
KNOWN = {}
SEEN: list[int] = []
LAST = None
def keep(key, KNOWN_TOO):
    KNOWN[key] = 1
    SEEN.append(key)
    KNOWN_TOO.append(key)
def last(key):
    global LAST
    LAST = key
def local():
    SEEN = []
    SEEN.append(1)
class Kept:
    ROWS = []
    def __init__(self):
        self.names = {}
    def keep(self, row):
        Kept.ROWS.append(row)
        self.ROWS.append(row)
        self.names[row] = 1
IDS = itertools.count()
def new_id():
    return next(IDS)
"""
    other = "from one import KNOWN\ndef forget():\n    del KNOWN['a']\n    KNOWN.get('b')"
    assert state_of_modules([("one", ast.parse(module)), ("two", ast.parse(other))]) == [
        "one:10",
        "one:20",
        "one:21",
        "one:25",
        "one:6",
        "one:7",
        "two:3",
    ]


def test_checkers_are_silenced_in_few_places() -> None:
    """Each with a reason that a reader can check: fewer than a hundred in the package."""
    silenced = [line for path in FILES for line in path.read_text("utf-8").split("\n") if SILENCED.search(line)]
    assert len(silenced) < 100


def test_the_package_imports_on_windows_too() -> None:
    """What only POSIX has is imported where it is used, never at the top of a module."""
    posix = {"fcntl", "pwd", "grp", "resource", "termios"}
    for name, tree in trees():
        top = {
            module.partition(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for module in imports(ast.Module([node], []))
        }
        assert not top & posix, name
