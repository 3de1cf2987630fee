"""Example episodes with a step viewer: who answered, what was sent and said, tokens, dollars, marks of waste.

What it knows: an audit's examples, how many of them a page can bear. What it does not do: need a script; steps open
without one, and with one the keys j and k or the arrows walk through them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from potstill.logs.records import PREVIEW
from potstill.measure.audit.result import Audit, Example, ExampleCall
from potstill.measure.html.labels import Labels
from potstill.measure.html.links import Key, episode_anchor, references, step_anchor
from potstill.measure.html.table import paragraph, section
from potstill.measure.html.text import Html, clip, count, esc, join, name, plural, usd
from potstill.measure.html.words import mark

MOST_EPISODES = 60
MOST_STEPS = 60
BUDGET_BYTES = 900_000
"""Of all examples together, so that the page stays below 1.5 MB."""
_DECIDED = "decided: "
Shown = tuple[Example, int, Html]
"""An example, how many of its steps are shown, and its markup."""


def shown_examples(audit: Audit, labels: Labels, groups: Mapping[Key, tuple[str, ...]]) -> list[Shown]:
    """The examples that a page has room for: those that figures, or ``groups``, refer to first."""
    shown: list[Shown] = []
    left = BUDGET_BYTES
    for example in _by_reference(audit, groups):
        if len(shown) == MOST_EPISODES:
            break
        markup, steps = _episode(len(shown) + 1, example, labels)
        size = len(markup.encode())
        if size > left:
            continue
        left -= size
        shown.append((example, steps, markup))
    return shown


def _by_reference(audit: Audit, groups: Mapping[Key, tuple[str, ...]]) -> list[Example]:
    """Examples in the order in which figures name them, the first of every figure before the second of any."""
    known = {example.id: example for example in audit.examples}
    lists = [*references(audit), *groups.values()]
    ranked = [ids[at] for at in range(max(map(len, lists), default=0)) for ids in lists if at < len(ids)]
    wanted = dict.fromkeys(identity for identity in ranked if identity in known)
    return [known[identity] for identity in (*wanted, *(other for other in known if other not in wanted))]


def examples_section(shown: Sequence[Shown], audit: Audit) -> Html:
    """The viewer; a sentence if the audit kept no episodes."""
    title = "Example episodes"
    if not shown:
        return section("examples", title, paragraph("The audit kept no episodes to show."))
    hint = Html(
        '<p class="quiet keys">Open an episode, then walk through its steps with <kbd>j</kbd> and <kbd>k</kbd> or the '
        "arrow keys; <kbd>Enter</kbd> opens and closes a step.</p>"
    )
    rest = len(audit.examples) - len(shown)
    more = paragraph(f"{plural(rest, 'more example is', 'more examples are')} in the output of --json.", "quiet")
    return section("examples", title, hint, *(markup for _, _, markup in shown), more if rest > 0 else "")


def _episode(at: int, example: Example, labels: Labels) -> tuple[Html, int]:
    calls = example.calls[:MOST_STEPS]
    steps = join(_step(at, number, len(example.calls), call, example) for number, call in enumerate(calls, 1))
    rest = len(example.calls) - len(calls)
    more = paragraph(f"{plural(rest, 'more step')} not shown.", "quiet") if rest else Html("")
    listed = f'<ol class="steps">{steps}</ol>' if calls else paragraph("Its calls are not in the log.", "quiet")
    body = f'<div id="{episode_anchor(at)}" class="body">{_facts(example)}{listed}{more}</div>'
    return Html(f'<details class="episode">{_head(at, example, labels)}{body}</details>'), len(calls)


def _head(at: int, example: Example, labels: Labels) -> Html:
    ended = outcome(example)
    facts = [labels.by_key(example.model, example.run), plural(len(example.calls), "step"), usd(example.usd)]
    marks = dict.fromkeys(kind for call in example.calls for kind in call.marks)
    task = f"task {name(example.task_id, 60)}" if example.task_id else "task unknown"
    return Html(
        f'<summary><span class="number">{at}</span> <span class="outcome {ended[0]}">{ended[1]}</span> '
        f'<span class="task">{esc(task)}</span> <span class="quiet">{esc(" · ".join(facts))}</span> '
        f"{_marks(marks)}</summary>"
    )


def outcome(example: Example) -> tuple[str, str]:
    """The class and the word for how an episode ended."""
    if example.error is not None:
        return "broke", "⚠ broke"
    if example.success is None:
        return "unknown", "? unknown"
    return ("good", "✓ success") if example.success else ("bad", "✗ failure")


def _facts(example: Example) -> Html:
    place = f"{name(example.file, 160)}, line {example.line:,}"
    parts = [
        ("Episode", name(example.id, 120)),
        ("Run", name(example.run, 120) if example.run else "–"),
        ("Log", place),
    ]
    if example.error is not None:
        parts.append(("Error", clip(example.error, 400)))
    rows = join(Html(f"<div><dt>{esc(term)}</dt><dd>{esc(text)}</dd></div>") for term, text in parts)
    return Html(f'<dl class="facts">{rows}</dl>')


def _marks(marks: Iterable[str]) -> Html:
    return join((Html(f'<span class="mark">{esc(name(mark(kind), 40))}</span>') for kind in marks), " ")


# --- one step ---------------------------------------------------------------------------------------------------------


def _step(at: int, number: int, of: int, call: ExampleCall, example: Example) -> Html:
    who = call.answerer or (call.model if call.model != example.model else None)
    badge = Html(f'<span class="who">{esc(name(who, 30))}</span> ') if who else Html("")
    head = Html(
        f'<span class="number">{number}<span class="of"> of {of}</span></span> '
        f'<span class="type">{esc(name(call.step_type, 50))}</span> {badge}'
        f'<span class="quiet">{esc(_cost(call))}</span> {_marks(call.marks)}'
    )
    body = f'<div id="{step_anchor(at, number)}" class="body">{_said(call)}</div>'
    return Html(f"<li><details><summary>{head}</summary>{body}</details></li>")


def _cost(call: ExampleCall) -> str:
    cached = f" ({count(call.cached_input_tokens)} cached)" if call.cached_input_tokens is not None else ""
    return f"{count(call.input_tokens)} in{cached} · {count(call.output_tokens)} out · {usd(call.usd)}"


def _said(call: ExampleCall) -> Html:
    parts = [_quoted("Sent, last message", call.prompt), _quoted("Answer", call.answer)]
    votes, decision = _decision(call.votes)
    parts += [_listed("Votes of the student", votes), decision, _listed("Demonstrations shown", call.demonstrations)]
    model = f"Model: {name(call.model)}" + (f"; answered by {name(call.answerer)}" if call.answerer else "")
    return join([*parts, paragraph(model, "quiet")])


def _decision(votes: Sequence[str]) -> tuple[Sequence[str], Html]:
    """The votes, and apart from them what was decided: it stands behind the last vote."""
    if not votes or not votes[-1].startswith(_DECIDED):
        return votes, Html("")
    said = paragraph(clip(votes[-1].removeprefix(_DECIDED), 300), "decision")
    return votes[:-1], join([Html("<h4>Decision</h4>"), said])


def _quoted(title: str, text: str) -> Html:
    cut = "…" if len(text) == PREVIEW else ""
    quoted = (
        f'<pre dir="auto">{esc(clip(text))}{cut}</pre>' if text else '<p class="quiet">nothing, or not in the log</p>'
    )
    return Html(f"<h4>{esc(title)}</h4>{quoted}")


def _listed(title: str, texts: Sequence[str]) -> Html:
    if not texts:
        return Html("")
    counted = Counter(texts).most_common()
    items = join(
        Html(f'<li dir="auto">{esc(f"{times} × " if times > 1 else "")}{esc(clip(text, 300))}</li>')
        for text, times in counted[:12]
    )
    rest = paragraph(f"and {len(counted) - 12:,} more", "quiet") if len(counted) > 12 else Html("")
    return Html(f'<h4>{esc(title)}</h4><ul class="votes">{items}</ul>{rest}')
