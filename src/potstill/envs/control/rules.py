"""Rules by hand that come with a control task, as a function of what is seen: a teacher for many states at a time.

What it knows: gymnasium's rules for LunarLander. What it does not do: play (``environment``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from potstill.envs.control.games import LUNAR_LANDER, Game

_DISCRETE = SimpleNamespace(unwrapped=SimpleNamespace(continuous=False))
"""All that gymnasium's rules ask of the environment."""


def rules_of(game: Game) -> Callable[[Any], int] | None:
    """An observation (d,) to the number of gymnasium's action; None for a game without rules of its own."""
    if game is not LUNAR_LANDER:
        return None
    rules = importlib.import_module("gymnasium.envs.box2d.lunar_lander")
    return lambda seen: int(rules.heuristic(_DISCRETE, seen))
