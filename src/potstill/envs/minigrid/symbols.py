"""The agent's view as symbols, in one line of JSON: for policies that read grids (``potstill.edge.grids``).

What it knows: the package's own coding of a cell. What it does not do: words (``text``), pixels (``images``).

``{"grid": G, "direction": d}``: ``G[i][j]`` is ``[object, colour, state]`` of the cell in column i (from left to right)
and row j (from far to near), with the numbers of ``minigrid.core.constants``; object 0 was not seen. The agent stands
in column 3, row 6, looks away from that row, and what it carries lies in its own cell. ``d`` is 0 right, 1 down, 2
left, 3 up: where it looks in the world, without which no mission could say 'on your left' of the start.
"""

from __future__ import annotations

import json

from potstill.envs.minigrid.world import World


def describe_symbols(world: World) -> str:
    return json.dumps({"grid": world.view.tolist(), "direction": world.direction}, separators=(",", ":"))
