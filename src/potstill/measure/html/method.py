"""How the figures were made, what they assume, and the command that makes them again.

What it knows: the audit's method, in words. What it does not do: compute.
"""

from __future__ import annotations

from potstill.measure.audit.result import Audit
from potstill.measure.html.table import paragraph, section
from potstill.measure.html.text import Html, clip, esc, join, name

METHOD = (
    ("Success", "Successes over attempts, infrastructure errors and duplicates left out. Interval: Wilson's, at the "
     "effective number of attempts where tasks have several."),
    ("Cost of a success", "All dollars of a group, infrastructure errors included, duplicates not, over its successes: "
     "failures count as cost (cost of pass, arXiv 2504.13359). Interval: percentile bootstrap over whole tasks; ∞ "
     "where samples without a success are too many."),
    ("Infrastructure errors", "Attempts that a refused key or a crash ended: neither success nor honest failure. They "
     "are reported apart, and both ways."),
    ("Frontier", "The non-decreasing concave hull of success over dollars per episode: a user who mixes two groups by "
     "task reaches any point between them."),
    ("Budget curve", "S(B): the share of attempts that succeed and cost at most B; a lower bound, since an agent that "
     "knows its budget can spend it better."),
    ("Break-even", "Set-up divided by the difference of dollars per episode (arXiv 2512.02543). It says nothing about "
     "quality."),
    ("Dollars", "As the log says; where it says nothing, tokens at list prices, with cache reads and writes at their "
     "own rates. A model without a price is never priced at zero: what cannot be known is a dash."),
    ("Cache", "Savings assume that every repeated prefix above the model's minimum length would be read from the cache "
     "at its rate; writes are paid at theirs."),
    ("Same answer", "Share of steps at which the cheap model gave the other's answer, with Wilson's interval."),
    ("Texts", "Previews, cut; control and line-turning characters are shown as their codes."),
)  # fmt: skip


def method_section(audit: Audit, confidence: float) -> Html:
    """Terms with their meaning."""
    facts = [
        ("Prices", f"List prices of {name(audit.prices_date, 20)}."),
        (
            "Intervals",
            f"{100 * confidence:g} %; a bootstrap has a fixed seed, so the same data give the same interval.",
        ),
        *METHOD,
    ]
    if audit.aiq is not None:
        facts.append(
            ("AIQ", f"Average success over the frontier's range of dollars (arXiv 2403.12031): {audit.aiq:.3f}.")
        )
    rows = join(Html(f"<div><dt>{esc(term)}</dt><dd>{esc(text)}</dd></div>") for term, text in facts)
    return section("method", "Method and assumptions", Html(f'<dl class="method">{rows}</dl>'))


def command_section(command: str) -> Html:
    """What reproduces the page."""
    text = f'<pre tabindex="0"><code>{esc(clip(command, 4000))}</code></pre>'
    same = paragraph("The same files, options and version give the same figures; --json has them all.", "quiet")
    return section("command", "Reproduce", Html(text), same)
