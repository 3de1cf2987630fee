"""Stacked bars: how the whole is divided, with the names of the parts inside them.

What it knows: slices of spending. What it does not do: tables; these stand below, in the same order and colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.measure.html.charts import INK, PAPER, QUIET, TINTS, Size, chart, tint
from potstill.measure.html.text import Html, name

WIDE_BAR = Size("wide", 984, 0, 13)
NARROW_BAR = Size("narrow", 350, 0, 11.5)
_ROW_PIXELS = 62
REST = "others"


class Slice(NamedTuple):
    """A part of a bar. ``amount`` is in the unit of the whole bar."""

    name: str
    amount: float
    link: str = ""
    """Where on the page it leads to."""


class Bar(NamedTuple):
    """One division of the whole."""

    title: str
    slices: Sequence[Slice]


def slices_of(named: Sequence[tuple[str, float]], anchors: str = "") -> list[Slice]:
    """Slices in the order given, the last ones beyond the number of colours joined into one.

    With ``anchors`` each leads to the table row of its place: ``anchors-1`` and so on.
    """
    links = [f"#{anchors}-{at}" if anchors else "" for at in range(1, len(named) + 1)]
    kept = [
        Slice(name(text, 60), amount, link) for (text, amount), link in zip(named, links, strict=True) if amount > 0
    ]
    if len(kept) <= TINTS:
        return kept
    rest = kept[TINTS - 1 :]
    return [*kept[: TINTS - 1], Slice(f"{len(rest)} {REST}", sum(part.amount for part in rest), rest[0].link)]


def bars_chart(identity: str, title: str, bars: Sequence[Bar], caption: str) -> Html:
    """Bars of equal length below each other, each divided into its slices."""
    shown = [bar for bar in bars if bar.slices]
    height = 10 + _ROW_PIXELS * len(shown)
    words = "; ".join(f"{bar.title}: " + ", ".join(_in_words(bar, part) for part in bar.slices) for bar in shown)

    def painter(axes: Any, size: Size) -> None:
        _paint(axes, shown, size)

    sizes = [size._replace(height=height) for size in (WIDE_BAR, NARROW_BAR)]
    return chart(identity, title, words, painter, caption=caption, kind="full", wide=sizes[0], narrow=sizes[1])


def _in_words(bar: Bar, part: Slice) -> str:
    return f"{part.name} {_share(bar, part):.0f} %"


def _share(bar: Bar, part: Slice) -> float:
    return 100 * part.amount / sum(other.amount for other in bar.slices)


def _paint(axes: Any, bars: Sequence[Bar], size: Size) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 100)
    axes.set_ylim(-len(bars) + 0.45, 0.75)
    axes.figure.get_layout_engine().set(w_pad=0, h_pad=0)
    axes.figure.draw_without_rendering()
    for row, bar in enumerate(bars):
        axes.text(0, 0.36 - row, bar.title, color=QUIET, fontsize=size.font, va="bottom", parse_math=False)
        start = 0.0
        for at, part in enumerate(bar.slices):
            width = _share(bar, part)
            axes.barh(
                -row, width, left=start, height=0.52, color=tint(at), edgecolor=PAPER, linewidth=1.5,
                url=part.link or None,
            )  # fmt: skip
            _write_inside(axes, start, width, row, part, size)
            start += width


def _write_inside(axes: Any, start: float, width: float, row: int, part: Slice, size: Size) -> None:
    """The slice's name and share, or as much of them as has room; nothing in a sliver."""
    pixels = width / 100 * size.width - 14
    for text in (f"{part.name} {width:.0f} %", part.name, f"{width:.0f} %"):
        label = axes.text(
            start + 700 / size.width, -row, text, color=INK, fontsize=size.font - 0.5, va="center", parse_math=False,
            url=part.link or None,
        )  # fmt: skip
        label.set_in_layout(False)
        if label.get_window_extent(axes.figure.canvas.get_renderer()).width <= pixels:
            return
        label.remove()
