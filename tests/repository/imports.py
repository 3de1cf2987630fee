"""Reads what each module of the package imports, from the source: also inside functions and under TYPE_CHECKING."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Import:
    """One import of a potstill module by another. Names are dotted module names."""

    importer: str
    imported: str
    line: int
    at_import_time: bool
    """At the top level and not for type checkers only: what can make a cycle."""


def module_name(path: Path, source: Path = SOURCE) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(source: Path = SOURCE) -> dict[str, Path]:
    return {module_name(path, source): path for path in sorted((source / "potstill").rglob("*.py"))}


def imports(source: Path = SOURCE) -> list[Import]:
    """Every import of one module of the package by another."""
    known = modules(source)
    found = []
    for name, path in known.items():
        visitor = _Visitor(name, path.name == "__init__.py", set(known))
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        found += visitor.found
    return found


class _Visitor(ast.NodeVisitor):
    def __init__(self, importer: str, package: bool, known: set[str]) -> None:
        self.importer, self.package, self.known = importer, package, known
        self.found: list[Import] = []
        self._deferred = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._deferred += 1
        self.generic_visit(node)
        self._deferred -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        typing_only = "TYPE_CHECKING" in ast.unparse(node.test)
        self._deferred += typing_only
        self.generic_visit(node)
        self._deferred -= typing_only

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.importer.split(".")
            parts = parts[: len(parts) - node.level + self.package]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            self._add(submodule if submodule in self.known else base, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        """``import_module("potstill...")`` and dotted targets such as "potstill.cli.run:run" given to it."""
        if ast.unparse(node.func).endswith("import_module") and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                self._deferred += 1
                self._add(argument.value, node.lineno)
                self._deferred -= 1
        self.generic_visit(node)

    def _add(self, imported: str, line: int) -> None:
        if imported == "potstill" or imported.startswith("potstill."):
            self.found.append(Import(self.importer, imported, line, self._deferred == 0))
