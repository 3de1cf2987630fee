"""The cost-success plot: arms with error bars, and the frontier. Drawn by matplotlib (extra ``report``).

What it knows: a ``Measurement``. What it does not do: compute anything. matplotlib is imported when a plot is drawn (it
takes most of a second), draws without a display, and writes no dates, so that the same numbers give the same file.
"""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import ConfigError, MissingExtra
from potstill.measure.plot_names import Named, write_names

if TYPE_CHECKING:
    from potstill.measure.measurement import ArmSummary, Measurement

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's palette: told apart with any common colour blindness.
_COLOURS = {"teacher": "#D55E00", "student": "#0072B2", "cascade": "#009E73", "control": "#CC79A7"}
_MARKERS = {"teacher": "s", "student": "o", "cascade": "D", "control": "^"}


def write_plot(measurement: Measurement, path: Path) -> None:
    """Write the plot as PNG, SVG or PDF, by the file's ending. Raises ``MissingExtra`` without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"Cannot write a plot as '{path.suffix}'. Allowed endings: {', '.join(FORMATS)}.")
    kind = path.suffix[1:].lower()
    path.write_bytes(_render(measurement, kind, ink="#222222", paper="white"))


def svg(measurement: Measurement) -> str:
    """The plot as an SVG element to stand inside HTML: text takes the page's colour, the ground is transparent."""
    text = _render(measurement, "svg", ink="#777777", paper="none").decode()
    return text[text.index("<svg") :].replace("#777777", "currentColor")


def has_plot(measurement: Measurement) -> bool:
    """Whether any arm has both a cost and a success."""
    return any(_drawable(arm) for arm in measurement.arms)


def _drawable(arm: ArmSummary) -> bool:
    return arm.cost_per_episode_usd is not None and arm.success is not None


def _render(measurement: Measurement, kind: str, *, ink: str, paper: str) -> bytes:
    try:
        matplotlib = import_module("matplotlib")
        canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
        new_figure = import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise MissingExtra("drawing a plot", "report") from error
    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "potstill", "font.size": 9.0, **colours}
    with matplotlib.rc_context(settings):
        figure = new_figure(figsize=(6.4, 4.0), dpi=160, layout="constrained", facecolor=paper)
        canvas(figure)
        axes = figure.add_subplot(facecolor=paper)
        _draw(axes, measurement, ink)
        figure.draw_without_rendering()  # settles where everything is
        write_names(axes, [_named(arm) for arm in measurement.arms if _drawable(arm)])
        buffer = io.BytesIO()
        no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        figure.savefig(buffer, format=kind, metadata=no_date)
    return buffer.getvalue()


def _draw(axes: Any, measurement: Measurement, ink: str) -> None:
    for arm in measurement.arms:
        if _drawable(arm):
            _point(axes, arm, ink)
    for group in dict.fromkeys(arm.group for arm in measurement.arms):
        on_hull = [arm for arm in measurement.arms if arm.group == group and arm.on_frontier]
        line = sorted((arm.cost_per_episode_usd or 0.0, 100 * (arm.success or 0.0)) for arm in on_hull)
        if line:
            axes.plot(*zip(*line, strict=True), color=ink, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlabel(f"US dollars per episode (prices of {measurement.prices_date})")
    axes.set_ylabel("success, %")
    axes.set_ylim(-4, 104)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)


def _point(axes: Any, arm: ArmSummary, ink: str) -> None:
    success, cost = 100 * (arm.success or 0.0), arm.cost_per_episode_usd
    colour = _COLOURS.get(arm.kind, ink)
    low, high = _bar(arm)
    errors = [[success - low], [high - success]] if high > low else None
    axes.errorbar(
        cost, success, yerr=errors, fmt=_MARKERS.get(arm.kind, "o"), color=colour, capsize=3, markersize=6, zorder=2
    )


def _bar(arm: ArmSummary) -> tuple[float, float]:
    """The ends of an arm's error bar in per cent; twice the success itself where there is no interval."""
    success = 100 * (arm.success or 0.0)
    interval = arm.success_ci_by_task if arm.seeds > 1 else arm.success_ci
    if interval is None:
        return success, success
    return min(success, 100 * interval[0]), max(success, 100 * interval[1])


def _named(arm: ArmSummary) -> Named:
    low, high = _bar(arm)
    return Named(arm.arm, arm.cost_per_episode_usd or 0.0, 100 * (arm.success or 0.0), low, high)
