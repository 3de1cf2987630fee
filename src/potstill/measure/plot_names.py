"""Names beside the points of a plot: inside it, clear of each other and of the error bars, where there is room.

What it knows: matplotlib axes on an Agg canvas that hold the points already. What it does not do: draw the points, or
import matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

_AROUND = [(dx, dy) for far in (6, 16, 28, 40, 54) for dy in (far, -far) for dx in (6, -6, 0)]
"""Places of a name around its point, in points of the page: the first that is free is taken."""
_HALF_MARKER_POINTS = 4.0


class Named(NamedTuple):
    """A point, its error bar's ends (twice the point where there is none), and its name."""

    text: str
    x: float
    y: float
    low: float
    high: float


def write_names(axes: Any, points: Sequence[Named]) -> None:
    """Write each point's name. To be called last: only then is it known where the points are on the page.

    A point without text is kept clear and gets no name.
    """
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer).frozen()
    half = _HALF_MARKER_POINTS * axes.figure.dpi / 72
    taken = []
    for point in points:
        places = [(point.x, point.y), (point.x, point.low), (point.x, point.high)]
        (x, y), low, high = axes.transData.transform(places)
        taken += [type(frame).from_extents(x - half, y - half, x + half, y + half)]
        taken += [type(frame).from_extents(x - half / 4, low[1], x + half / 4, high[1])]
    for point in points:
        if not point.text:
            continue
        # matplotlib reads "$" as mathematics; a name is only ever text.
        text = "".join(letter if letter.isprintable() else "?" for letter in point.text)
        at = (point.x, point.y)
        name = axes.annotate(text, at, xytext=_AROUND[0], textcoords="offset points", parse_math=False)
        name.set_in_layout(False)
        boxes = [_box_at(name, offset, renderer) for offset in _AROUND]
        best = min(range(len(boxes)), key=lambda at: (_crowding(boxes[at], taken, frame), at))
        taken.append(_box_at(name, _AROUND[best], renderer))


def _box_at(name: Any, offset: tuple[int, int], renderer: Any) -> Any:
    """Move a name to an offset from its point; where it then is on the page."""
    across, up = offset
    name.set_position(offset)
    name.set_horizontalalignment("left" if across > 0 else "right" if across < 0 else "center")
    name.set_verticalalignment("bottom" if up > 0 else "top")
    return name.get_window_extent(renderer)


def _crowding(box: Any, others: list[Any], frame: Any) -> float:
    """Area that a name shares with others or has outside the plot."""
    shared = sum(_area(box, other) for other in others)
    return float(round(shared + box.width * box.height - _area(box, frame), 3))


def _area(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, float(width)) * max(0.0, float(height))
