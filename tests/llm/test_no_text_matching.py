"""No decision looks at the text of an error: checked in the syntax tree of every file."""

import ast
from pathlib import Path

import pytest

import clawft_trio

FILES = sorted(Path(clawft_trio.__file__).parent.rglob("*.py"))

# Names that hold an exception without an `except … as` in sight.
ERRORS = {"exc", "error", "err", "cause", "failure", "exception", "__cause__", "__context__", "original"}
TEXTS = {"message", "body", "args", "stderr", "problems"}
PREDICATES = {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "isdecimal", "isdigit"}
PATTERNS = {"match", "search", "fullmatch", "findall", "finditer", "fnmatch", "fnmatchcase"}


class Finder(ast.NodeVisitor):
    """Collects the places where the text of an error is compared with something."""

    def __init__(self):
        self.found = []
        self.errors = [set(ERRORS)]
        self.tainted = [set()]

    def visit_FunctionDef(self, node):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        typed = {a.arg for a in arguments if a.annotation and self.is_error_type(a.annotation)}
        self.errors.append(self.errors[-1] | typed)
        self.tainted.append(set())
        self.generic_visit(node)
        self.errors.pop()
        self.tainted.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def is_error_type(self, annotation):
        names = {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
        return any(name.endswith(("Error", "Exception")) for name in names)

    def visit_ExceptHandler(self, node):
        if node.name:
            self.errors[-1].add(node.name)
        self.generic_visit(node)

    def visit_Assign(self, node):
        if self.is_text(node.value):
            targets = [name for target in node.targets for name in ast.walk(target)]
            self.tainted[-1] |= {name.id for name in targets if isinstance(name, ast.Name)}
        self.generic_visit(node)

    def visit_NamedExpr(self, node):
        if self.is_text(node.value):
            self.tainted[-1].add(node.target.id)
        self.generic_visit(node)

    def is_error(self, node):
        if isinstance(node, ast.Name):
            return node.id in self.errors[-1]
        return isinstance(node, ast.Attribute) and node.attr in ERRORS

    def is_text(self, node):
        """Whether *node* is, or is made of, the text of an error."""
        if isinstance(node, ast.Name):
            return node.id in self.tainted[-1]
        if isinstance(node, ast.Attribute):
            return node.attr in TEXTS and self.is_error(node.value)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in {"str", "repr", "format", "ascii"}:
                return any(self.is_error(a) or self.is_text(a) for a in node.args)
            return isinstance(function, ast.Attribute) and self.is_text(function.value)
        if isinstance(node, ast.JoinedStr):
            return any(
                isinstance(v, ast.FormattedValue) and (self.is_error(v.value) or self.is_text(v.value))
                for v in node.values
            )
        if isinstance(node, ast.Subscript):
            return self.is_text(node.value)
        if isinstance(node, ast.BinOp):
            return self.is_text(node.left) or self.is_text(node.right)
        return False

    def note(self, node):
        self.found.append(f"{node.lineno}: {ast.unparse(node)}")

    def visit_Compare(self, node):
        if any(map(self.is_text, [node.left, *node.comparators])):
            self.note(node)
        self.generic_visit(node)

    def visit_Match(self, node):
        if self.is_text(node.subject):
            self.note(node.subject)
        self.generic_visit(node)

    def visit_Call(self, node):
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in PREDICATES and self.is_text(function.value):
            self.note(node)
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in PATTERNS and any(map(self.is_text, node.args)):
            self.note(node)
        self.generic_visit(node)


def text_decisions(source):
    finder = Finder()
    finder.visit(ast.parse(source))
    return finder.found


def test_the_whole_package_is_looked_at():
    assert {"failures.py", "errors.py", "retry.py"} <= {path.name for path in FILES}


def test_no_decision_looks_at_the_text_of_an_error():
    found = {str(path): text_decisions(path.read_text(encoding="utf-8")) for path in FILES}
    assert {path: decisions for path, decisions in found.items() if decisions} == {}


BAD = [
    "try: f()\nexcept ValueError as e:\n  if 'quota' in str(e): g()",
    "try: f()\nexcept ValueError as e:\n  text = str(e)\n  if text.lower().startswith('rate'): g()",
    "try: f()\nexcept ValueError as e:\n  return g() if e.args[0] == 'x' else h()",
    "def f(e: ProviderError):\n  return 'overloaded' in e.message",
    "def f(e: ProviderError):\n  return re.search('quota|credits', e.body)",
    "def f(error):\n  return error.body.find('credits') >= 0",
    "def f(error):\n  match error.message:\n    case 'x': return 1",
    "async def f(problem: Exception | None):\n  if f'{problem}' == 'gone': g()",
    "def f(r):\n  return 'x' in str(r.error)",
    "def f(exc):\n  if (said := repr(exc)) and 'x' in said: g()",
]
GOOD = [
    "try: f()\nexcept ValueError as e:\n  raise X(str(e)) from e",
    "def f(error):\n  return error.code in CODES and error.status == 429 and isinstance(error, X)",
    "def f(error):\n  return error.message or 'nothing said'",
    "def f(reply):\n  return 'x' in reply.message",
]


@pytest.mark.parametrize("source", BAD)
def test_a_decision_by_text_is_found(source):
    assert text_decisions(source)


@pytest.mark.parametrize("source", GOOD)
def test_what_only_passes_text_on_is_allowed(source):
    assert text_decisions(source) == []
