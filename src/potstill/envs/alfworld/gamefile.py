"""A game on disk: ``TYPE-OBJECT-MOVABLE-RECEPTACLE-SCENE/TRIAL/game.tw-pddl``, checked when it is read.

It knows ALFWorld's folder names and the fields of the file; it does not play.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from potstill.errors import BadTask
from potstill.types import Struct

GAME_FILE = "game.tw-pddl"
GOAL = re.compile(r"Your task is to: ([^\"\\\n]*)")
TASK_TYPES = (
    "look_at_obj_in_light",
    "pick_and_place_simple",
    "pick_clean_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_two_obj_and_place",
)
MAX_BYTES = 16 * 2**20


class GameFile(Struct, frozen=True, kw_only=True):
    """The fields of ``game.tw-pddl``. ``walkthrough``: commands that win from the start."""

    pddl_domain: str
    pddl_problem: str
    grammar: str
    walkthrough: tuple[str, ...] = ()
    solvable: bool = True


class Parameters(Struct, frozen=True, kw_only=True):
    """What the task is about, read from the folder's name."""

    kind: str
    object: str
    movable_receptacle: str
    receptacle: str
    """Where to put it; in ``look_at_obj_in_light`` the lamp."""
    scene: str


def parse_folder(name: str) -> Parameters | None:
    """Parameters of a game folder, or None where the name is not ALFWorld's.

    >>> parse_folder("pick_two_obj_and_place-CD-None-Safe-308").receptacle
    'Safe'
    """
    parts = name.split("-")
    if len(parts) != 5 or parts[0] not in TASK_TYPES:
        return None
    kind, item, movable, receptacle, scene = (("" if part == "None" else part) for part in parts)
    return Parameters(kind=kind, object=item, movable_receptacle=movable, receptacle=receptacle, scene=scene)


def goal_of(text: str) -> str:
    """The goal that an observation (or a game's file) states: the line after ``Your task is to:``; else empty."""
    found = GOAL.search(text)
    return found.group(1).strip() if found else ""


def read_goal(path: Path) -> str:
    """The goal of a game without loading it; empty where the file does not state one or cannot be read."""
    try:
        return goal_of(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def read_game(path: Path) -> GameFile:
    """Read and check a game. Raises ``BadTask`` for a file that is not one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadTask(f"{path} has {path.stat().st_size} bytes; an ALFWorld game has at most {MAX_BYTES}.")
        return msgspec.json.decode(path.read_bytes(), type=GameFile)
    except OSError as error:
        raise BadTask(f"The game {path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadTask(
            f"{path} is not an ALFWorld game ({error}); unpack it again or pass another directory with --tasks."
        ) from error
