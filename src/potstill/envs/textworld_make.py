"""Makes one TextWorld game: ``python -m potstill.envs.textworld_make KIND SETTINGS SEED FOLDER``.

It is a program of its own because TextWorld's generator depends on Python's hash seed: the caller sets PYTHONHASHSEED,
so that a kind, settings and seed name the same game everywhere. It writes ``game.z8`` and ``game.json`` into FOLDER.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def make(kind: str, settings: dict[str, object], seed: int, folder: Path) -> None:
    textworld = import_module("textworld")
    options = textworld.GameOptions()
    options.seeds = seed
    options.path = str(folder / "game.z8")
    _, make_game, _ = import_module("textworld.challenges").CHALLENGES[f"tw-{kind}"]
    game = make_game(settings, options)
    textworld.generator.compile_game(game, options)
    (folder / "game.ni").unlink(missing_ok=True)


if __name__ == "__main__":
    make(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
