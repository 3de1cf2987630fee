"""The sections of a playbook: which there are, in which order, and how a name that somebody typed finds its own.

What it knows: the default sections, those that arXiv 2510.04618's released code begins an empty playbook with. What it
does not do: bullets, texts.

A section has a *key* (``problem_solving_heuristics``), which bullets carry, and a *title*, which the text shows. Every
spelling of a name gives one key: ``Problem-Solving Heuristics``, ``PROBLEM_SOLVING_HEURISTICS`` and ``problem solving
heuristics`` are one section. A key consists of letters, digits and underscores, so a name can forge no header, no line
and no id.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from potstill.distill.playbook.operations import MAX_SECTION_CHARACTERS
from potstill.errors import ConfigError
from potstill.types import Struct

OTHERS = "others"
"""Key of the section for everything that has none. It stands last."""


class Section(Struct, frozen=True, kw_only=True):
    key: str
    title: str


class Sections(Struct, frozen=True, kw_only=True):
    """An order of sections. Bullets of other sections stand behind these, by their key, and ``others`` stands last.

    Make one with ``sections_named``; ``DEFAULT`` is the paper's.
    """

    known: tuple[Section, ...]

    def place(self, name: str) -> str:
        """The key of the known section that is meant; ``others`` where none is.

        >>> DEFAULT.place("Problem-Solving HEURISTICS"), DEFAULT.place("weather")
        ('problem_solving_heuristics', 'others')
        """
        key = section_key(name)
        return key if any(each.key == key for each in self.known) else OTHERS

    def title(self, key: str) -> str:
        """What stands behind ``##``; an unknown section is called by its key, in capitals.

        >>> DEFAULT.title("formulas_and_calculations"), DEFAULT.title("house rules")
        ('FORMULAS & CALCULATIONS', 'HOUSE RULES')
        """
        wanted = section_key(key)
        found = next((each.title for each in self.known if each.key == wanted), None)
        return found or wanted.replace("_", " ").upper()

    def rank(self, key: str) -> tuple[int, str]:
        """Sorts keys into the order in which sections stand."""
        wanted = section_key(key)
        order = {each.key: position for position, each in enumerate(self.known)}
        if wanted == OTHERS:
            return len(self.known) + 1, wanted
        return order.get(wanted, len(self.known)), wanted


@lru_cache(maxsize=4096)
def section_key(name: str) -> str:
    """Any spelling of a name as its key, at most ``MAX_SECTION_CHARACTERS`` long; ``others`` where nothing is left.

    ``&`` counts as ``and``: the paper's release writes ``FORMULAS & CALCULATIONS`` and
    ``formulas_and_calculations`` for one section.

    >>> section_key(" Formulas & Calculations "), section_key("##\\n[b-9]"), section_key("!")
    ('formulas_and_calculations', 'b_9', 'others')
    """
    plain = name[: 4 * MAX_SECTION_CHARACTERS]
    for _ in range(2):  # folding can undo the normal form, and the normal form can bring capitals
        plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold())
    return _letters(plain.replace("&", " and "))[:MAX_SECTION_CHARACTERS].strip().replace(" ", "_") or OTHERS


def sections_named(*titles: str) -> Sections:
    """Sections in this order; ``others`` is added if it is missing. Raises ``ConfigError`` for a name given twice.

    >>> [section.key for section in sections_named("House rules", "Tools").known]
    ['house_rules', 'tools', 'others']
    """
    made: dict[str, Section] = {}
    for title in titles:
        key = section_key(title)
        if key in made:
            raise ConfigError(f"The section '{title}' is the section '{made[key].title}' again. Name each only once.")
        made[key] = Section(key=key, title=_title(title))
    last = made.pop(OTHERS, Section(key=OTHERS, title="OTHERS"))
    return Sections(known=(*made.values(), last))


def _title(name: str) -> str:
    """One line without anything that a header, a bullet or a terminal reads."""
    return _letters(unicodedata.normalize("NFKC", name), "-&'").upper()[:MAX_SECTION_CHARACTERS].strip() or "OTHERS"


def _letters(text: str, kept: str = "") -> str:
    """Letters with their marks, digits, and what is ``kept``; one space for all that stands between."""
    return " ".join("".join(c if c.isalnum() or c in kept or _is_mark(c) else " " for c in text).split())


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")


DEFAULT = sections_named(
    "Strategies & hard rules",
    "Formulas & calculations",
    "Code snippets & templates",
    "Common mistakes to avoid",
    "Problem-solving heuristics",
    "Context clues & indicators",
    "Others",
)
"""The sections of the paper's release (arXiv 2510.04618)."""
