"""The statements of a module, with the names that each of them binds, changes and uses."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

Node = ast.stmt
Chain = tuple[str, ...]  # a name and the attributes after it: ("helpers", "layers", "small")
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Imported(NamedTuple):
    """A name that an import statement binds; ``name`` is None if it binds the module itself."""

    bound: str
    module: str
    level: int
    name: str | None


class Uses(NamedTuple):
    """The names that a statement uses and does not define, and those that it imports itself."""

    chains: frozenset[Chain]
    imports: tuple[Imported, ...]


@dataclass(frozen=True, eq=False)
class Syntax:
    """The statements of a module, and what they do to its names."""

    statements: list[Node]
    bindings: dict[str, list[Node]] = field(default_factory=dict)  # the statements that bind a name
    affecting: dict[str, list[Node]] = field(default_factory=dict)  # the statements that change its value in place
    imports: dict[Node, list[Imported]] = field(default_factory=dict)  # of import statements at the top level
    stars: list[Imported] = field(default_factory=list)


@lru_cache(maxsize=256)
def syntax_of(text: str) -> Syntax | None:
    """Return the statements of a module with their names; None if the text is not valid Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    syntax = Syntax([statement for statement in tree.body if not _is_main_guard(statement)])
    changed = {each.name: _changed_by_call(each) for each in tree.body if isinstance(each, ast.FunctionDef)}
    for statement in syntax.statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = list(_imported(statement))
            syntax.imports[statement] = [each for each in names if each.name != "*"]
            syntax.stars.extend(each for each in names if each.name == "*")
        for name in _bound_by(statement):
            syntax.bindings.setdefault(name, []).append(statement)
        for name in _affected_by(statement, changed) - _bound_by(statement):
            syntax.affecting.setdefault(name, []).append(statement)
    return syntax


def top_statements(syntax: Syntax, line: int) -> list[Node]:
    """Return the statements at the top level of a module that a line belongs to."""
    return [each for each in syntax.statements if _first_line(each) <= line <= (each.end_lineno or each.lineno)]


@lru_cache(maxsize=4096)
def plain(statement: Node) -> str:
    """Return a statement as text without comments, docstrings and line numbers; equal in all versions of Python."""
    return _plain(statement)


@lru_cache(maxsize=4096)
def used_by(statement: Node) -> Uses:
    """Return the names that a statement uses."""
    nested = [each for each in ast.walk(statement) if isinstance(each, ast.Import | ast.ImportFrom)]
    imports = tuple(each for node in nested for each in _imported(node) if each.name != "*")
    return Uses(frozenset(_free(statement)), imports)


def _plain(value: object) -> str:
    if isinstance(value, ast.AST):
        fields = dict(ast.iter_fields(value))
        if isinstance(value, DOCUMENTED) and value.body and _is_text(value.body[0]):
            fields["body"] = value.body[1:]
        shown = {
            name: _plain(each)
            for name, each in fields.items()
            if each not in (None, []) and name not in {"ctx", "kind", "type_comment"}
        }
        return f"{type(value).__name__}({', '.join(f'{name}={text}' for name, text in shown.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return repr(value)


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_main_guard(statement: Node) -> bool:
    return isinstance(statement, ast.If) and "__name__" in {
        each.id for each in ast.walk(statement.test) if isinstance(each, ast.Name)
    }


def _first_line(statement: Node) -> int:
    decorators = statement.decorator_list if isinstance(statement, Definition) else []
    return min([statement.lineno, *(each.lineno for each in decorators)])


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[Imported]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Imported(alias.asname or alias.name, node.module or "", node.level, alias.name)
        elif alias.asname:
            yield Imported(alias.asname, alias.name, 0, None)
        else:  # ``import a.b`` binds a
            yield Imported(alias.name.partition(".")[0], alias.name.partition(".")[0], 0, None)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a node runs: for the definition of a function or class, only its decorators."""
    yield node
    if isinstance(node, ast.Lambda):
        return
    children = node.decorator_list if isinstance(node, Definition) else ast.iter_child_nodes(node)
    for child in children:
        yield from _inside(child)


def _bound_by(statement: Node) -> set[str]:
    if isinstance(statement, Definition):
        return {statement.name}
    names = set()
    for node in _inside(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, Definition):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {each.bound for each in _imported(node) if each.name != "*"}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
    return names


def _affected_by(statement: Node, changed: dict[str, set[str]]) -> set[str]:
    """Return the names whose values a statement may change in place, also through the functions that it calls."""
    if isinstance(statement, Definition):
        calls = [root for decorator in statement.decorator_list if (root := _root(decorator)) is not None]
        return set().union(*(changed.get(name, set()) for name in calls))
    names = _touched(_inside(statement), statement)
    for node in _inside(statement):
        if isinstance(node, ast.Call) and (root := _root(node.func)) is not None:
            names |= changed.get(root, set())
    if names and isinstance(statement, ast.For):
        names |= {each.id for each in ast.walk(statement.iter) if isinstance(each, ast.Name)}
    return names


def _changed_by_call(function: ast.FunctionDef) -> set[str]:
    """Return the names outside a function that change when it is called, or when the function it returns is."""
    nodes = list(ast.walk(function))
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    return declared | (_touched(nodes, function) - _local_to(function))


def _touched(nodes: Iterable[ast.AST], statement: Node) -> set[str]:
    """Return the names of which an item or attribute is set or a method is called, and the arguments of calls."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names |= {root} if (root := _root(node)) else set()
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if isinstance(call.func, ast.Attribute):
                names |= {root} if (root := _root(call.func)) else set()
            if not isinstance(statement, Definition):
                given = [*call.args, *(keyword.value for keyword in call.keywords)]
                names |= {each.id for each in given if isinstance(each, ast.Name)}
    return names


def _root(node: ast.AST) -> str | None:
    """Return the name that a chain of attributes, items and calls starts with; None if it is no name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _local_to(scope: Scope) -> set[str]:
    arguments = scope.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {each.arg for each in every if each is not None}
    body = [scope.body] if isinstance(scope, ast.Lambda) else scope.body
    declared: set[str] = set()
    for statement in body:
        for node in _inside(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, Definition):
                names.add(node.name)
            elif isinstance(node, ast.Global):
                declared |= set(node.names)
    return names - declared


def _free(node: ast.AST) -> set[Chain]:
    """Return the names that a node uses and that are not local to a function in it, each with its attributes."""
    attributes: list[str] = []
    inner = node
    while isinstance(inner, ast.Attribute):
        attributes.append(inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        return {(inner.id, *reversed(attributes))}
    if not isinstance(node, Scope):
        return set().union(*map(_free, ast.iter_child_nodes(node)))
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    outside = [child for child in ast.iter_child_nodes(node) if child not in body]  # defaults, annotations, decorators
    local = _local_to(node)
    return set().union(
        *map(_free, outside), ({chain for each in body for chain in _free(each) if chain[0] not in local})
    )
