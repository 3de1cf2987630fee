"""A module imports only from layers above its own (the list below is the one of the contributor's guide)."""

from __future__ import annotations

from pathlib import Path

import pytest
from imports import Import, imports, modules

LAYERS = [
    ("types", "errors", "edge"),
    ("protocols", "plugins", "options", "locks", "zstandard", "config", "durable"),
    ("wire",),
    ("models", "envs", "retrieval", "trajectories", "logs"),
    ("decide",),
    ("measure",),
    ("run", "record"),
    ("distill",),
    ("serve",),
    ("cli",),
]
SIBLINGS_APART = {
    "models",
    "envs",
    "retrieval",
    "trajectories",
    "logs",
    "distill.context",
    "distill.playbook",
    "distill.weights",
}
"""Parts of one layer that never import each other."""
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
ABOVE_ALL = {"potstill", "potstill.__main__"}
"""The package itself holds the version, which everyone may read; ``__main__`` starts the command line."""


def part(module: str) -> str:
    return module.split(".")[1]


def sibling(module: str) -> str:
    pieces = module.split(".")[1:]
    return ".".join(pieces[:2]) if pieces[0] == "distill" else pieces[0]


def same_layer(link: Import) -> bool:
    return RANK[part(link.imported)] == RANK[part(link.importer)]


def violations(found: list[Import]) -> list[str]:
    wrong = []
    for link in found:
        if link.importer in ABOVE_ALL or link.imported in ABOVE_ALL:
            continue
        mine, theirs = sibling(link.importer), sibling(link.imported)
        downwards = RANK[part(link.imported)] > RANK[part(link.importer)]
        if downwards or (mine != theirs and {mine, theirs} <= SIBLINGS_APART and same_layer(link)):
            wrong.append(f"{link.importer}:{link.line} imports {link.imported}")
    return wrong


def test_every_module_belongs_to_a_layer() -> None:
    strangers = {part(name) for name in modules() if name not in ABOVE_ALL} - set(RANK)
    assert not strangers, f"not in the list of layers: {strangers}"


def test_imports_go_to_layers_above_only() -> None:
    found = imports()
    assert len(found) > 100, "the walk found too little to prove anything"
    assert violations(found) == []


def walk_all(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "cycle: " + " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in sorted(graph[name]):
                walk(imported, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_no_cycle_of_modules() -> None:
    """Whatever the entry point, each module can be imported first."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for link in imports():
        if link.at_import_time and link.imported in graph:
            graph[link.importer].add(link.imported)
    walk_all(graph)


def test_no_cycle_of_the_gateways_folders() -> None:
    graph: dict[str, set[str]] = {}
    for link in imports():
        ends = [name.split(".") for name in (link.importer, link.imported)]
        if all(len(end) == 4 and end[1] == "serve" for end in ends) and ends[0][2] != ends[1][2]:
            graph.setdefault(ends[0][2], set()).add(ends[1][2])
            graph.setdefault(ends[1][2], set())
    assert len(graph) > 5
    walk_all(graph)


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("models/x.py", "def f():\n    from potstill.envs import y", "potstill.envs"),
        ("types.py", "import potstill.decide.cascade", "potstill.decide.cascade"),
        ("run/x.py", "from ..distill import context", "potstill.distill.context"),
        ("distill/context/x.py", "from potstill.distill import playbook", "potstill.distill.playbook"),
        (
            "wire/x.py",
            "async def f():\n    from importlib import import_module\n    import_module('potstill.cli.main')",
            "cli",
        ),
    ],
)
def test_the_walk_sees_a_forbidden_import(tmp_path: Path, path: str, text: str, named: str) -> None:
    for name in ("envs/y.py", "decide/cascade.py", "distill/context/__init__.py", "distill/playbook/__init__.py", path):
        file = tmp_path / "potstill" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if name == path else "", encoding="utf-8")
    wrong = violations(imports(tmp_path))
    assert len(wrong) == 1
    assert named in wrong[0]
