"""The report: one HTML file that opens from disk, without network or scripts.

What it knows: a ``Measurement`` and how to write it as HTML. What it does not do: compute; draw (``plot.py`` does).
All text from stores and models is escaped. Colours follow the reader's light or dark setting, tables scroll on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from potstill.errors import MissingExtra
from potstill.measure import plot
from potstill.measure.breakeven import why_never
from potstill.measure.measurement import ArmSummary, Measurement
from potstill.types import Step, Trajectory

_SHOWN_STEPS = 60
_SHOWN_CHARACTERS = 600

METHOD = (
    "Success: share of judged episodes, with Wilson's interval; a broken episode is a failure.",
    "Cost of pass: all dollars over all successes, so failures count as cost; its interval and the intervals of "
    "differences resample whole tasks (bootstrap).",
    "Marginal dollars per success: what one more success costs when moving up from the next cheaper arm.",
    "Frontier: the non-decreasing concave hull of success over cost; arms below it are never the best buy.",
    "Teacher's share: of steps it decided, and of dollars.",
    "Tokens add up: uncached + cache reads + cache writes = input. Unknown is a dash, never zero.",
)


def render_html(measurement: Measurement, *, command: str = "potstill measure", title: str = "potstill") -> str:
    """The whole report as one HTML document. ``command`` is what reproduces it."""
    parts = [
        _headline(measurement),
        f"<figure>{_figure(measurement)}<figcaption>{_caption(measurement)}</figcaption></figure>",
        "<h2>Arms</h2>",
        _table(measurement),
        _versus(measurement),
        _break_even(measurement),
        "<h2>Where the dollars and tokens go</h2>",
        _spend(measurement),
        "<h2>Method and assumptions</h2>",
        _method(measurement),
        f"<h2>Reproduce</h2><pre><code>{escape(command)}</code></pre>",
        _examples(measurement),
    ]
    style = resources.files("potstill.measure").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}: success and cost</title><style>{style}</style></head>"
        f"<body><main><h1>Success and cost</h1>{''.join(parts)}</main></body></html>\n"
    )


def cheapest_success(measurement: Measurement) -> ArmSummary | None:
    """The arm that pays least for a success, as the report's first line names it."""
    known = [arm for arm in measurement.arms if arm.cost_of_pass_usd is not None]
    return min(known, key=lambda arm: arm.cost_of_pass_usd or 0.0, default=None)


def _headline(measurement: Measurement) -> str:
    best = cheapest_success(measurement)
    if best is None:
        return "<p class=lead>No arm has a known cost and a success.</p>"
    text = f"<b>{escape(best.arm)}</b> pays least for a success: {_usd(best.cost_of_pass_usd)}"
    text += f" ({_span(best.cost_of_pass_ci_usd, _usd)}) at {_percent(best.success)} success"
    text += f" ({_span(best.success_ci, _percent)})"
    if best.versus is not None and best.versus.cost is not None and best.versus.cost.ratio is not None:
        ratio = best.versus.cost
        text += f"; an episode costs {ratio.ratio:.2g} times one of <b>{escape(best.versus.arm)}</b>"
        text += f" ({_span(ratio.ratio_ci, '{:.2g}'.format)})"
    return f"<p class=lead>{text}.</p>"


def _figure(measurement: Measurement) -> str:
    if not plot.has_plot(measurement):
        return "<p>No arm has both a cost and a success: nothing to plot.</p>"
    try:
        drawing = plot.svg(measurement)
    except MissingExtra as error:
        return f"<p>No plot: {escape(str(error))}</p>"
    label = "Success over cost per episode, by arm; the table below has the numbers."
    return drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _caption(measurement: Measurement) -> str:
    confidence = f"{100 * measurement.options.confidence:g}"
    return f"Success over cost per episode with {confidence} % intervals; dashed: the frontier."


def _table(measurement: Measurement) -> str:
    columns = (
        "arm", "episodes", "seeds", "success", "$ per episode", "$ per success", "uncached",
        "$ per extra success", "teacher's steps", "teacher's dollars", "cache hits", "steps",
    )  # fmt: skip
    rows = []
    for arm in measurement.arms:
        star = " ★" if arm.on_frontier else ""
        rows.append(
            (
                f"{escape(arm.arm)}{star}",
                f"{arm.n}" + (f" <small>{arm.errors} broken</small>" if arm.errors else ""),
                f"{arm.seeds}",
                f"{_percent(arm.success)}<small>{_span(arm.success_ci, _percent)}</small>",
                _usd(arm.cost_per_episode_usd),
                f"{_usd(arm.cost_of_pass_usd)}<small>{_span(arm.cost_of_pass_ci_usd, _usd)}</small>",
                _usd(arm.uncached.cost_of_pass_usd),
                _usd(arm.marginal_usd_per_success),
                _percent(arm.teacher_step_share),
                _percent(arm.teacher_cost_share),
                _percent(arm.cache_hit_rate),
                f"{arm.steps_mean:.1f}",
            )
        )
    return _html_table(columns, rows) + "<p><small>★ on the frontier</small></p>"


def _versus(measurement: Measurement) -> str:
    rows = []
    for arm in measurement.arms:
        if arm.versus is None or arm.versus.success is None:
            continue
        success, cost = arm.versus.success, arm.versus.cost
        rows.append(
            (
                f"{escape(arm.arm)} − {escape(arm.versus.arm)}",
                f"{success.n}",
                f"{_points(success.difference)} pp<small>{_span(success.difference_ci, _points)}</small>",
                f"{success.p_mcnemar:.3g}",
                "–" if cost is None or cost.ratio is None else f"{cost.ratio:.3g}",
                "–" if cost is None else _span(cost.ratio_ci, "{:.3g}".format),
            )
        )
    if not rows:
        return ""
    columns = ("same tasks and seeds", "pairs", "success", "McNemar p", "cost ratio", "interval")
    return "<h2>Against the reference</h2>" + _html_table(columns, rows)


def _break_even(measurement: Measurement) -> str:
    even = measurement.break_even
    if even is None:
        return ""
    names = f"<b>{escape(even.arm)}</b>", f"<b>{escape(even.reference_arm)}</b>"
    if even.episodes is None:
        return f"<h2>Break-even</h2><p>Never: {why_never(even, *names)}.</p>"
    served = "" if even.episodes_if_served is None else f", or {even.episodes_if_served:.0f} if they were served work"
    return (
        f"<h2>Break-even</h2><p>Demonstrations of {_usd(even.demonstrations_usd)} have paid for themselves after "
        f"<b>{round(even.episodes)}</b> episodes of {names[0]} instead of {names[1]}{served}.</p>"
    )


def _spend(measurement: Measurement) -> str:
    columns = ("per episode", "fresh $", "read $", "written $", "output $", "CPU $", "input tokens", "output tokens")
    rows = []
    for arm in measurement.arms:
        parts, tokens = arm.cost_parts, arm.tokens
        dollars = ["–"] * 5
        if parts is not None:
            amounts = (parts.uncached_usd, parts.read_usd, parts.write_usd, parts.output_usd, parts.compute_usd)
            dollars = [_usd(amount) for amount in amounts]
        counts = ["–"] * 2 if tokens is None else [f"{tokens.input:,.0f}", f"{tokens.output:,.0f}"]
        rows.append((escape(arm.arm), *dollars, *counts))
    return _html_table(columns, rows)


def _method(measurement: Measurement) -> str:
    options = measurement.options
    facts = [
        f"Prices of {measurement.prices_date} ({measurement.prices_source}); prompt cache: {options.cache}.",
        f"Bootstrap: {options.samples} samples, seed {options.seed}; confidence {100 * options.confidence:g} %.",
        *METHOD,
        *(note[:1].upper() + note[1:] + "." for note in measurement.notes),
    ]
    return "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>"


# --- example episodes -------------------------------------------------------------------------------------------------


def _examples(measurement: Measurement) -> str:
    if not measurement.examples:
        return ""
    return "<h2>Example episodes</h2>" + "".join(_episode(trajectory) for trajectory in measurement.examples)


def _episode(trajectory: Trajectory) -> str:
    ended = "succeeded" if trajectory.succeeded else "broke" if trajectory.error is not None else "failed"
    goal = trajectory.goal or trajectory.task.goal
    head = f"{trajectory.arm or trajectory.kind.value}: {trajectory.task.id}, seed {trajectory.seed}, {ended}"
    head += f", {len(trajectory.steps)} steps"
    steps = "".join(_step(step) for step in trajectory.steps[:_SHOWN_STEPS])
    more = len(trajectory.steps) - _SHOWN_STEPS
    rest = f"<p><small>{more} more steps</small></p>" if more > 0 else ""
    error = f"<p>{escape(trajectory.error.message)}</p>" if trajectory.error is not None else ""
    summary = f"<summary>{escape(head)}</summary><p><small>{escape(trajectory.id)}</small><br>{escape(goal)}</p>"
    return f"<details>{summary}{error}<ol>{steps}</ol>{rest}</details>"


def _step(step: Step) -> str:
    acted = step.action.text or ", ".join(f"{call.name}({call.arguments})" for call in step.action.tool_calls)
    who = step.answerer.value
    decision = step.decision
    why, votes = "", ""
    if decision is not None:
        why = f", {decision.reason.value}"
        shown = [
            _clip(vote.text or str(vote.key), 80) + ("" if vote.key is not None else " ✗") for vote in decision.votes
        ]
        votes = "" if not shown else f"<br><small>votes: {escape(' | '.join(shown))}</small>"
    demos = f", {len(step.demonstrations)} demonstrations" if step.demonstrations else ""
    reasoning = f"<br><i>{escape(_clip(step.reasoning))}</i>" if step.reasoning else ""
    return (
        f"<li><pre>{escape(_clip(step.observation.text))}</pre>{reasoning}<b>{escape(_clip(acted))}</b> "
        f'<span class="who {escape(who)}">{escape(who + why + demos)}</span>{votes}</li>'
    )


def _clip(text: str, length: int = _SHOWN_CHARACTERS) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# --- cells ------------------------------------------------------------------------------------------------------------


def _html_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table whose cells are HTML already. It scrolls sideways inside its frame, by keyboard too."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    label = escape(columns[0])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table: {label}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _usd(value: float | None) -> str:
    return "–" if value is None else f"${value:,.2f}" if value >= 100 else f"${value:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _span(interval: tuple[float | None, float | None] | None, form: object) -> str:
    assert callable(form)
    if interval is None:
        return ""
    low, high = ("∞" if bound is None else form(bound) for bound in interval)
    return f"{low} to {high}"
