"""The page: its head, its security policy, its sections in order; and writing it to a file, whole or not at all.

What it knows: how the sections stand together. What it does not do: what stands in them. The policy allows nothing but
the style sheet and the script whose hashes it names, so that even markup that got past the escaping could not act.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from potstill.durable import replacing
from potstill.measure.audit.result import Audit
from potstill.measure.html.break_even import break_even_chart
from potstill.measure.html.charts import check_available
from potstill.measure.html.curves import budget_chart
from potstill.measure.html.dirt import files_section, warnings_section
from potstill.measure.html.examples import examples_section, shown_examples
from potstill.measure.html.frontier_chart import frontier_chart
from potstill.measure.html.groups import groups_table
from potstill.measure.html.headline import headline_section
from potstill.measure.html.labels import Labels
from potstill.measure.html.links import Links, examples_of_groups
from potstill.measure.html.method import command_section, method_section
from potstill.measure.html.spend import spend_section, student_section
from potstill.measure.html.table import section
from potstill.measure.html.text import Html, esc, join, name
from potstill.measure.html.waste import cache_section, waste_section

TITLE = "What the agent spent"
_CONTENTS = (
    ("groups", "Success and cost"), ("spend", "Spending"), ("students", "Cheap steps"), ("waste", "Waste"),
    ("cache", "Caching"), ("examples", "Episodes"), ("files", "Files"), ("method", "Method"), ("command", "Reproduce"),
)  # fmt: skip


def render(audit: Audit, *, command: str, title: str = TITLE, confidence: float = 0.95) -> str:
    """The report as one HTML document. ``command`` reproduces it; ``confidence`` is that of the audit's intervals.

    Raises ``MissingExtra`` without matplotlib.
    """
    check_available()
    style, script = _asset("report.css"), _asset("report.js")
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'),
            Html(f'<link rel="icon" href="data:,"><title>{esc(name(title))} · potstill audit</title>'),
            Html(f"<style>{style}</style>"),
        ]
    )
    skip = '<a class="skip" href="#main">Skip to the figures</a>'
    main = Html(f'<main id="main">{_main(audit, command, confidence)}</main>')
    body = join([Html(skip), _header(audit, title), main, Html(f"<script>{script}</script>")])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def write(audit: Audit, path: Path | str, *, command: str, title: str = TITLE, confidence: float = 0.95) -> None:
    """Write the report. An interruption leaves the old file; raises ``StoreError`` where it cannot be written."""
    text = render(audit, command=command, title=title, confidence=confidence).encode()
    with replacing(Path(path)) as target:
        target.write(text)


def _asset(file: str) -> str:
    return resources.files("potstill.measure.html").joinpath(file).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    allowed = "; ".join(
        f"{kind}-src 'sha256-{digest}'" for kind, digest in zip(("style", "script"), hashes, strict=True)
    )
    return f"default-src 'none'; {allowed}; img-src data:; base-uri 'none'; form-action 'none'"


def _header(audit: Audit, title: str) -> Html:
    links = join(Html(f'<a href="#{identity}">{esc(text)}</a>') for identity, text in _CONTENTS)
    return Html(
        f'<header><p class="brand">potstill audit</p><h1>{esc(name(title, 120))}</h1>'
        f'<nav aria-label="Contents">{links}</nav></header>'
    )


def _main(audit: Audit, command: str, confidence: float) -> Html:
    labels = Labels(audit)
    groups = examples_of_groups(audit)
    shown = shown_examples(audit, labels, groups)
    links = Links([(example, steps) for example, steps, _ in shown], groups)
    curves = [
        Html("<h3>Success within a budget</h3>"), budget_chart(audit, labels),
        Html("<h3>Break-even</h3>"), break_even_chart(audit, labels),
    ]  # fmt: skip
    return join(
        [
            headline_section(audit, labels, links, confidence),
            warnings_section(audit),
            section(
                "groups",
                "Success and cost",
                frontier_chart(audit, labels, confidence),
                groups_table(audit, labels, links),
                *curves,
            ),
            spend_section(audit, links),
            student_section(audit, links),
            waste_section(audit, links),
            cache_section(audit, links),
            examples_section(shown, audit),
            files_section(audit),
            method_section(audit, confidence),
            command_section(command),
        ]
    )
