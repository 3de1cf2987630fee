"""Which bullets a Reflector or a Curator is shown, and so may name: those that matter to it, within a limit of tokens.

What it knows: what stands first. What it does not do: say what to do with them (``prompts``), or choose what an agent
is shown (``page`` and ``budget`` do that, by utility; here what counts is what the lessons are about).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.render import bullet_line, entry, header, in_order, render
from potstill.distill.playbook.roles.contract import Case, Lesson
from potstill.distill.playbook.sections import DEFAULT, Sections, section_key
from potstill.distill.playbook.shortlist import Shortlist
from potstill.protocols import Ranker, TokenCounter
from potstill.types import Struct

_SECTION_SHARE = 0.5
"""Of the tokens, for bullets of the sections concerned that no lesson is about: other sections must not starve."""
_PASSED_OVER = 20
"""Bullets that are too long for what is left, before no shorter one is looked for: a book may hold 100,000."""


class Listed(Struct, frozen=True, kw_only=True):
    """Bullets as a text, and what the text leaves out."""

    bullets: tuple[Bullet, ...] = ()
    """In the order of the text."""
    text: str = ""
    of: int = 0
    """How many could have stood in it."""

    @property
    def revisions(self) -> dict[str, int]:
        """What may be named, and at which revision it was read."""
        return {one.id: one.revision for one in self.bullets}


def list_for_case(
    case: Case, bullets: Mapping[str, Bullet], tokens: int, counter: TokenCounter, sections: Sections = DEFAULT
) -> Listed:
    """The bullets that the episode was shown: first those that it named, then the others in the order of its text."""
    ids = dict.fromkeys((*case.cited, *case.shown))
    shown = frozenset(case.shown)
    wanted = [bullets[id] for id in ids if id in shown and id in bullets and not bullets[id].removed]
    return _listed(_fitting(wanted, tokens, counter, sections), len(wanted), tokens, counter, sections)


class ForLessons:
    """Chooses bullets for lessons; keeps the texts of a book ranked from one time to the next. Safe in threads.

    ``make`` gives empty rankers (``retrieval.registry.ranker_factory``).
    """

    def __init__(self, make: Callable[[], Ranker], counter: TokenCounter, sections: Sections = DEFAULT) -> None:
        self._nearest = Shortlist(make)
        self._counter = counter
        self._sections = sections
        self._held: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def choose(self, lessons: Sequence[Lesson], bullets: Mapping[str, Bullet], tokens: int) -> Listed:
        """At most ``tokens`` tokens of bullets, removed ones left out.

        First those that a lesson tags, then others of their sections (up to half of the tokens, the nearest to the
        lessons first), then pinned ones, then all others, the nearest first.
        """
        living = [one for one in in_order(bullets.values(), self._sections) if not one.removed]
        everything = _fitting(living, tokens, self._counter, self._sections, passed_over=0)
        if len(everything) < len(living):
            everything = self._some(lessons, living, tokens)
        else:
            with self._lock:
                self._hold([])
        return _listed(everything, len(living), tokens, self._counter, self._sections)

    def _some(self, lessons: Sequence[Lesson], living: Sequence[Bullet], tokens: int) -> list[Bullet]:
        near = self._by_nearness(lessons, living)
        tags = {tag.id for lesson in lessons for tag in lesson.reflection.bullet_tags}
        tagged = [one for one in living if one.id in tags]
        concerned = {section_key(one.section) for one in tagged}
        neighbours = [one for one in near if section_key(one.section) in concerned and one.id not in tags]
        first = _fitting(neighbours, int(tokens * _SECTION_SHARE), self._counter, self._sections)
        order = (*tagged, *first, *(one for one in near if one.pinned), *near)
        return _fitting({one.id: one for one in order}.values(), tokens, self._counter, self._sections)

    def _by_nearness(self, lessons: Sequence[Lesson], living: Sequence[Bullet]) -> list[Bullet]:
        """All of them; those that share no word with the lessons stand last, in their order."""
        words = "\n".join(part for lesson in lessons for part in _words(lesson) if part)
        with self._lock:  # what is held and what is asked belong together
            self._hold(living)
            found = self._nearest.nearest(words, len(living))
        near = frozenset(one.id for one in found)
        return [*found, *(one for one in living if one.id not in near)]

    def _hold(self, living: Sequence[Bullet]) -> None:
        """Nothing of a text that has gone stays in a ranker: its source may have been forgotten."""
        texts = {(one.id, one.content) for one in living}
        if texts or self._held:
            self._nearest.hold(living, anew=not self._held <= texts)
        self._held = texts


def _words(lesson: Lesson) -> tuple[str, ...]:
    said = lesson.reflection
    return lesson.goal, said.key_insight, said.correct_approach, said.root_cause_analysis, said.error_identification


# --- what fits ------------------------------------------------------------------------------------------------------


def _listed(chosen: Sequence[Bullet], of: int, tokens: int, counter: TokenCounter, sections: Sections) -> Listed:
    while True:
        ordered = in_order(chosen, sections)
        text = render([entry(one) for one in ordered], sections)
        if not chosen or counter.count(text) <= tokens:
            return Listed(bullets=tuple(ordered), text=text, of=of)
        chosen = chosen[:-1]  # a tokenizer for which the whole is more than its parts


def _fitting(
    wanted: Iterable[Bullet],
    tokens: int,
    counter: TokenCounter,
    sections: Sections,
    *,
    passed_over: int = _PASSED_OVER,
) -> list[Bullet]:
    """Those for which there is room, in this order; up to ``passed_over`` that are too long are passed over."""
    chosen: list[Bullet] = []
    opened: set[str] = set()
    left = tokens
    for one in wanted:
        key = section_key(one.section)
        cost = counter.count(bullet_line(one) + "\n")
        if key not in opened:
            cost += counter.count("\n" + header(key, sections) + "\n")
        if cost <= left:
            chosen.append(one)
            opened.add(key)
            left -= cost
        elif passed_over > 0:
            passed_over -= 1
        else:
            break
    return chosen
