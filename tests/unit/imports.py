# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of aovpnd imports, read from its source: nothing is executed."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
"""The top of the tree."""


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One module named in one import statement. ``lazy``: inside a function, so it costs nothing until then."""

    importer: str
    line: int
    target: str
    lazy: bool

    def __str__(self) -> str:
        """As in a compiler's message."""
        return f"{self.importer}:{self.line} imports {self.target}"


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, source: str, known: Iterable[str]) -> tuple[Import, ...]:
    """All imports of a module, also inside functions; ``from package import name`` may name a known module."""
    tree = ast.parse(source, filename=name)
    known = frozenset(known)
    found = set()
    for node, lazy in _walk(tree, lazy=False):
        match node:
            case ast.Import():
                targets = {alias.name for alias in node.names}
            case ast.ImportFrom(module=str() as module):
                longer = {f"{module}.{alias.name}" for alias in node.names}
                targets = {target if target in known else module for target in longer}
            case _:
                continue
        found |= {Import(name, node.lineno, target, lazy) for target in targets}
    return tuple(sorted(found))


def _walk(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        yield from _walk(child, lazy=lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def circles(edges: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Every smallest set of modules that import each other in a circle, as the path of one circle through it."""
    reach = {name: _reachable(name, edges) for name in edges}
    rings = {frozenset(other for other in reach[name] if name in reach.get(other, ())) for name in edges}
    return tuple(sorted(tuple(sorted(ring)) for ring in rings if ring))


def _reachable(start: str, edges: Mapping[str, Iterable[str]]) -> frozenset[str]:
    seen: set[str] = set()
    todo = list(edges.get(start, ()))
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(edges.get(name, ()))
    return frozenset(seen)


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python itself."""
    return module.partition(".")[0] in sys.stdlib_module_names
