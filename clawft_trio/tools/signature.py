"""Read the signature of a tool function of any kind: parameter names, type hints, defaults and docstring.

Accepts functions, bound methods, `functools.partial` (bound arguments are hidden from the model), callable objects
(through their `__call__`) and decorated functions (`functools.wraps`). Hints are resolved one by one, so that a return
type that is imported only for type checkers does not matter. A parameter's type that is imported only for type
checkers (`if TYPE_CHECKING:`) is imported when the tool is made; a type that is local to the function that makes the
tool is found there.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import attrs


@attrs.frozen
class Signature:
    """Name, parameters, hints and docstring of a tool function."""

    #: name for error messages, and the tool's default name
    name: str
    parameters: tuple[inspect.Parameter, ...]
    #: resolved hints by parameter name, metadata of `Annotated` included
    hints: Mapping[str, Any]
    #: the docstring, without its indentation; "" when there is none
    docstring: str
    #: the function inside partials, methods and callable objects
    function: Callable[..., Any]


def read_signature(called: Callable[..., Any], *, name: str | None = None) -> Signature:
    """Read the signature of *called*.

    Args:
      called: any callable except a class.
      name: the tool's name; None for the function's own.

    Raises:
      TypeError: *called* is not a callable with named parameters, or a hint cannot be resolved. The message names the
        tool and the parameter.
    """
    if isinstance(called, classmethod | staticmethod):
        raise TypeError(f"{called!r}: put @tool on the bound method, as in tool(Class.method)")
    if inspect.isclass(called) or not callable(called):
        raise TypeError(f"{repr(called)[:200]} is no function")
    function, bound = _inner(called)
    name = name or _name_of(called, function)
    parameters = tuple(one for one in _parameters(called, name) if one.name not in bound)
    names = [one.name for one in parameters]
    return Signature(name, parameters, _resolved(function, names, name), _docstring(called, function), function)


def return_hint(called: Callable[..., Any]) -> Any:
    """Return the hint of *called*'s return value; None if it is missing or cannot be resolved."""
    function, _ = _inner(called)
    try:
        return _resolve(function, "return", _annotations(function).get("return"))
    except Exception:  # noqa: BLE001 - evaluating a foreign annotation may raise anything; nothing depends on it
        return None


def returns_coroutine(called: Callable[..., Any]) -> bool:
    """Whether calling *called* makes a coroutine, also through partials, objects and wrappers (`functools.wraps`)."""
    function, _ = _inner(called)
    return any(inspect.iscoroutinefunction(one) for one in _unwrapped(function))


def is_async_generator(called: Callable[..., Any]) -> bool:
    """Whether calling *called* makes an async generator."""
    function, _ = _inner(called)
    return any(inspect.isasyncgenfunction(one) for one in _unwrapped(function))


def _inner(called: Callable[..., Any]) -> tuple[Callable[..., Any], set[str]]:
    """Return the innermost function of *called*, and the names that partials bind."""
    bound: set[str] = set()
    while isinstance(called, functools.partial):
        bound |= set(called.keywords)
        called = called.func
    if inspect.isroutine(called) or inspect.isclass(called):
        return called, bound
    inside, more = _inner(type(called).__call__)
    return inside, bound | more


def _unwrapped(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return *function* and the functions that it wraps, outermost first."""
    chain = [function]
    while (inner := getattr(chain[-1], "__wrapped__", None)) is not None and inner not in chain:
        chain.append(inner)
    return chain


def _name_of(called: Callable[..., Any], function: Callable[..., Any]) -> str:
    called = _without_partials(called)
    owner = getattr(called, "__self__", None)
    if inspect.isroutine(called) and getattr(called, "__name__", "") == "__call__" and owner is not None:
        called = owner
    return str(getattr(function, "__name__", "")) if inspect.isroutine(called) else type(called).__name__


def _without_partials(called: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(called, functools.partial):
        called = called.func
    return called


def _docstring(called: Callable[..., Any], function: Callable[..., Any]) -> str:
    """Return the docstring of the function; for a callable object without one, that of its class."""
    called = _without_partials(called)
    if inspect.isroutine(called):
        return inspect.getdoc(function) or ""
    # `getdoc` would return "Call self as a function." from the base of every class.
    return inspect.cleandoc(function.__doc__ or type(called).__doc__ or "")


def _parameters(called: Callable[..., Any], name: str) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(called).parameters.values())
    except (TypeError, ValueError) as exc:
        raise TypeError(f"{name}: its parameters cannot be read ({exc})") from exc


def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    target = _unwrapped(function)[-1]
    target = getattr(target, "__func__", target)
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - it exists from 3.14 on

        return annotationlib.get_annotations(target, format=annotationlib.Format.FORWARDREF)
    annotations: Mapping[str, Any] = getattr(target, "__annotations__", {})
    return annotations


def _resolved(function: Callable[..., Any], names: list[str], tool: str) -> dict[str, Any]:
    raw = _annotations(function)
    hints: dict[str, Any] = {}
    for name in names:
        if name not in raw:
            continue
        try:
            hints[name] = _resolve(function, name, raw[name])
        except Exception as exc:
            raise TypeError(
                f"{tool}: the type hint of parameter {name!r} cannot be resolved ({type(exc).__name__}: {exc}); "
                "types of tool parameters are needed when the program runs"
            ) from exc
    return hints


def _resolve(function: Callable[..., Any], name: str, hint: Any) -> Any:
    """Resolve forward references in *hint*: names are looked up in the module and in the enclosing functions."""
    target = _unwrapped(function)[-1]
    target = getattr(target, "__func__", target)
    scope = dict(getattr(target, "__globals__", {}))
    scope.update(_locals_around(target))
    closure = getattr(target, "__closure__", None) or ()
    for free, cell in zip(getattr(getattr(target, "__code__", None), "co_freevars", ()), closure, strict=False):
        try:
            scope[free] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    try:
        return _evaluated(name, hint, scope)
    except NameError:
        return _evaluated(name, hint, {**_imported_for_checkers(target), **scope})


def _evaluated(name: str, hint: Any, scope: dict[str, Any]) -> Any:
    holder = type("_Holder", (), {"__annotations__": {name: hint}})
    return typing.get_type_hints(holder, globalns=scope, localns=scope, include_extras=True)[name]


def _locals_around(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the variables of the running functions in which *function* was defined.

    An annotation that is text does not make a variable of the enclosing function a free variable.
    """
    around = str(getattr(function, "__qualname__", ""))
    found: dict[str, Any] = {}
    frame = sys._getframe() if "<locals>" in around else None
    while frame is not None:
        inside = f"{frame.f_code.co_qualname}.<locals>."
        if frame.f_globals is getattr(function, "__globals__", None) and around.startswith(inside):
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def _imported_for_checkers(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the names that the module of *function* imports under `if TYPE_CHECKING:`, where the import succeeds."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None:
        return {}
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for statement in _checked_only(tree):
        try:
            found.update(_names_of_import(statement, module.__package__ or ""))
        except Exception:  # noqa: BLE001, S112 - a foreign module may raise anything; the hint is then reported
            continue
    return found


def _checked_only(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from (one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom))


def _names_of_import(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Any]]:
    if isinstance(statement, ast.Import):
        for one in statement.names:
            module = import_module(one.name)
            top = one.name.partition(".")[0]
            yield (one.asname, module) if one.asname else (top, sys.modules[top])
        return
    source = import_module("." * statement.level + (statement.module or ""), package or None)
    for one in statement.names:
        yield one.asname or one.name, getattr(source, one.name)
