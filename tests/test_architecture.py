"""House rules that a syntax tree can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import clawft_trio

PACKAGE = Path(clawft_trio.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


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
    in_a_thread = {"store/sqlite.py", "store/sqlite_lanes.py", "store/postgres_lane.py"}
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


def test_no_module_level_mutable_state() -> None:
    """Module-level names are constants: nobody rebinds them, and nothing writes to a module-level container."""
    for name, tree in trees():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), f"{name}:{node.lineno} rebinds a global"


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
