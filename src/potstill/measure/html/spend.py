"""Where the dollars go: by model, type of step and outcome; and which types of step a cheap model would do.

What it knows: an audit's slices of spending and agreements. What it does not do: waste and caching.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.measure.audit.result import Audit, Spend, StudentStep
from potstill.measure.html.bars import Bar, bars_chart, slices_of
from potstill.measure.html.charts import TINTS
from potstill.measure.html.links import Links
from potstill.measure.html.table import paragraph, section, table
from potstill.measure.html.text import (
    DASH,
    Html,
    count,
    esc,
    join,
    name,
    percent,
    short_count,
    usd_or_more,
    with_interval,
)


def spend_section(audit: Audit, links: Links) -> Html:
    """The bars and the three tables below them."""
    divisions = (
        ("By model", audit.by_model),
        ("By type of step", audit.by_step_type),
        ("By outcome", audit.by_outcome),
    )
    ordered = [(title, _ordered(slices)) for title, slices in divisions if slices]
    if not ordered:
        return section("spend", "Where the money goes", paragraph("These logs hold no calls with tokens or dollars."))
    dollars = any(_known(slice_) for _, slices in ordered for slice_ in slices)
    bounded = any(slice_.usd is None and _known(slice_) for _, slices in ordered for slice_ in slices)
    bars = [
        Bar(title, slices_of([(s.name, _amount(s, dollars)) for s in slices], anchors(title)))
        for title, slices in ordered
    ]
    unit = "calls (dollars are not known)" if not dollars else "dollars that are known" if bounded else "dollars"
    drawing = bars_chart("spend-chart", f"Shares of {unit}", bars, f"Shares of all {unit}; the tables have each slice.")
    tables = [join([Html(f"<h3>{esc(title)}</h3>"), _table(title, slices, links)]) for title, slices in ordered]
    if bounded:
        tables.append(paragraph("≥: a lower bound, because the cost of some episodes is not known.", "quiet"))
    return section("spend", "Where the money goes", drawing, *tables)


def anchors(title: str) -> str:
    """The beginning of the page's ids of a table's rows."""
    return title.lower().replace(" ", "-")


def _known(slice_: Spend) -> float:
    """The dollars of a slice that are known."""
    return slice_.known_usd if slice_.usd is None else slice_.usd


def _amount(slice_: Spend, dollars: bool) -> float:
    return _known(slice_) if dollars else float(slice_.calls or slice_.episodes)


def _ordered(slices: Sequence[Spend]) -> list[Spend]:
    return sorted(slices, key=lambda slice_: (-_known(slice_), -slice_.calls, slice_.name))


def _table(title: str, slices: Sequence[Spend], links: Links) -> Html:
    columns = (
        title.removeprefix("By "),
        "share",
        "$",
        "calls",
        "episodes",
        "input",
        "from cache",
        "output",
        "examples",
    )
    whole = sum(map(_known, slices))
    rows = [
        (
            swatched(at, slice_.name, f"{anchors(title)}-{at + 1}"),
            percent(_known(slice_) / whole if whole else slice_.share),
            usd_or_more(slice_.usd, slice_.known_usd),
            count(slice_.calls),
            count(slice_.episodes),
            short_count(slice_.input_tokens),
            short_count(slice_.cached_input_tokens),
            short_count(slice_.output_tokens),
            links.to(slice_.examples),
        )
        for at, slice_ in enumerate(slices)
    ]
    return table(title, columns, rows, limit=60)


def swatched(at: int, text: str, anchor: str) -> Html:
    """A slice's name behind its colour in the bars; long names may break behind an underscore."""
    named = esc(name(text)).replace("_", "_<wbr>")
    return Html(
        f'<span class="swatched" id="{anchor}"><span class="swatch b-t{min(at, TINTS - 1)}" aria-hidden="true"></span>'
        f"<span>{named}</span></span>"
    )


# --- what a cheap model would do --------------------------------------------------------------------------------------


def student_section(audit: Audit, links: Links) -> Html:
    """Per type of step: what it costs, and how often a cheaper model gave the same answer."""
    title = "Which steps a cheap model would do"
    if not audit.student_steps:
        why = (
            "Nothing can be said: no two models answered the same steps in these logs. Record samples of a cheap model "
            "beside the expensive one's answers (potstill run, or the gateway's shadow mode), and audit again."
        )
        return section("students", title, paragraph(why))
    spending = {slice_.name: slice_ for slice_ in audit.by_step_type}
    ordered = sorted(audit.student_steps, key=lambda step: -_dollars(spending, step))
    rows = [_student_row(step, spending.get(step.step_type), links) for step in ordered]
    columns = (
        "type of step", "cheap model", "against", "share of $", "$", "compared", "same answer", "its success",
        "examples",
    )  # fmt: skip
    note = "Agreement is no proof of success: potstill calibrate turns it into a threshold with a guarantee."
    return section("students", title, table("agreement", columns, rows, words=(0, 1, 2)), paragraph(note, "quiet"))


def _dollars(spending: dict[str, Spend], step: StudentStep) -> float:
    slice_ = spending.get(step.step_type)
    return _known(slice_) if slice_ is not None else 0.0


def _student_row(step: StudentStep, slice_: Spend | None, links: Links) -> tuple[object, ...]:
    return (
        name(step.step_type),
        name(step.model),
        name(step.against),
        DASH if slice_ is None else percent(slice_.share),
        DASH if slice_ is None else usd_or_more(slice_.usd, slice_.known_usd),
        count(step.n),
        with_interval(step.agreement, step.agreement_ci, percent),
        percent(step.success),
        links.to(step.examples),
    )
