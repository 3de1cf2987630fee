"""The head of the page: three figures as cards, and the terminal's sentences.

What it knows: how they are shown. What it does not do: choose or word them; ``measure.audit.headline`` does, so that
page and terminal say the same.
"""

from __future__ import annotations

from potstill.measure.audit.headline import Fact, facts, headline, incomplete
from potstill.measure.audit.result import Audit
from potstill.measure.html.labels import Labels
from potstill.measure.html.links import Links
from potstill.measure.html.text import Html, clip, esc, join


def headline_section(audit: Audit, labels: Labels, links: Links, confidence: float) -> Html:
    """The figures as cards, and the sentences below; before them whether the audit is incomplete."""
    warned = incomplete(audit)
    banner = Html(f'<p class="incomplete" role="note">{esc(warned)}</p>') if warned else Html("")
    cards = join(_card(fact, links, confidence) for fact in facts(audit, labels.of))
    said = join(Html(f"<li>{esc(clip(sentence, 600))}</li>") for sentence in headline(audit) if sentence != warned)
    shown = f'{banner}<dl class="cards">{cards}</dl><ul class="lead">{said}</ul>'
    return Html(f'<section aria-label="Headline">{shown}</section>')


def _card(fact: Fact, links: Links, confidence: float) -> Html:
    interval = Html("")
    if fact.interval:
        interval = Html(f"<small>{100 * confidence:g} % interval: {esc(fact.interval)}</small>")
    figure = esc(fact.figure.replace(" ", "\u00a0")) if fact.figure[:1] in "≥$" or "%" in fact.figure else fact.figure
    return Html(
        f'<div><dt>{esc(fact.title)}</dt><dd><span class="figure">{esc(figure)}</span>{interval}'
        f"<p>{esc(clip(fact.detail, 400))}</p>{_examples(fact, links)}</dd></div>"
    )


def _examples(fact: Fact, links: Links) -> Html:
    """Where to look: at the fact's own episodes, or at those of its groups."""
    if fact.groups:
        shown = join((links.group(group) for group in fact.groups), "; ")
    elif fact.examples:
        shown = links.to(fact.examples, fact.waste)
    else:
        return Html("")
    return Html(f'<p class="quiet examples">Example episodes: {shown}</p>')
