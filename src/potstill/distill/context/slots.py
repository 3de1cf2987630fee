"""Tasks with their things taken out: ``put a clean mug in fridge`` becomes ``put a clean <1> in <2>``.

What it knows: which words of a goal name things, and how actions and observations look without names. What it does not
do: ranking, choosing actions.

A goal's *things* are its words that are arguments of actions (stand after the verb) and are no function words; their
order in the goal gives them their slot. So two tasks of one kind look the same, whatever they are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from potstill.types import Struct

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_MENTION = re.compile(r"([^\W\d_]+)(?:(\s+)(\d+)\b)?", re.UNICODE)
FUNCTION_WORDS = frozenset(
    {
        "a", "an", "and", "any", "are", "as", "at", "back", "be", "by", "for", "from", "go", "has", "have",
        "i", "if", "in", "inside", "into", "is", "it", "its", "me", "my", "next", "not", "of", "off", "on",
        "one", "onto", "or", "out", "over", "some", "that", "the", "their", "them", "then", "there", "these",
        "this", "three", "to", "two", "under", "up", "using", "with", "you", "your",
    }
)  # fmt: skip


class Things(Struct, frozen=True, kw_only=True):
    """The things of one goal by slot: ``names[0]`` is the first that the goal mentions."""

    names: tuple[str, ...] = ()

    def slot(self, word: str) -> str:
        """``<1>`` for the first thing, the word itself for what is none."""
        return f"<{self.names.index(word) + 1}>" if word in self.names else word

    def abstract(self, text: str) -> list[str]:
        """The words of a text, things as slots, numbers left out."""
        return [self.slot(word) for word in words(text) if not word.isdigit()]


def words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def argument_words(actions: Iterable[str]) -> set[str]:
    """The words that stand after the verb of an action, without numbers and function words."""
    found: set[str] = set()
    for action in actions:
        found.update(words(action)[1:])
    return {word for word in found if not word.isdigit()} - FUNCTION_WORDS


def things_of(goal: str, arguments: AbstractSet[str]) -> Things:
    """The things that a goal names, in its order, each once."""
    names = [word for word in words(goal) if word in arguments]
    return Things(names=tuple(dict.fromkeys(names)))


def shape_of(goal: str, arguments: AbstractSet[str]) -> str:
    """The goal without the things that it names.

    >>> shape_of("Put a clean mug in fridge.", {"mug", "fridge"})
    'put a clean 1 in 2'
    """
    return " ".join(word.strip("<>") for word in things_of(goal, arguments).abstract(goal))


def rename(
    action: str,
    theirs: Things,
    ours: Things,
    last_theirs: str = "",
    last_ours: str = "",
    arguments: AbstractSet[str] = frozenset(),
) -> str:
    """Another task's action in our terms: things by slot; what the last action was about, by place; the rest stays.

    With a demonstration that went to ``shelf 1`` and an agent that went to ``drawer 3``, ``open shelf 1`` becomes
    ``open drawer 3``.

    >>> rename("move mug 2 to fridge 1", Things(names=("mug", "fridge")), Things(names=("plate", "shelf")))
    'move plate 2 to shelf 1'
    """
    partner: dict[str, str] = {}
    numbered: dict[tuple[str, str], tuple[str, str]] = {}
    for them, us in zip(_mentions(last_theirs, arguments), _mentions(last_ours, arguments), strict=False):
        if theirs.slot(them[0]) == them[0] and ours.slot(us[0]) == us[0]:
            partner[them[0]] = us[0]
        if partner.get(them[0]) == us[0] or theirs.slot(them[0]) == ours.slot(us[0]):
            numbered[them] = us
    partner.update(zip(theirs.names, ours.names, strict=False))

    def replace(match: re.Match[str]) -> str:
        word, space, number = match.group(1), match.group(2) or "", match.group(3) or ""
        known = numbered.get((word.lower(), number))
        return " ".join(filter(None, known)) if known else partner.get(word.lower(), word) + space + number

    return _MENTION.sub(replace, action)


def state_tokens(
    goal: str, observation: str, history: Sequence[str], things: Things, arguments: AbstractSet[str] = frozenset()
) -> list[str]:
    """What a state is about, as tokens that say where they come from.

    ``g`` goal words and ``n`` the things by name; ``o`` words of the observation that name nothing; ``t`` the things
    that it shows; ``a`` the last two actions; ``d`` what was done to things, counted; ``p`` the phase: the last verb,
    things in sight and deeds in one. Numbers and other names are gone, so states of one phase match.
    """
    shown = things.abstract(observation.replace(goal, " ") if goal else observation)
    seen = sorted({word for word in shown if word.startswith("<")})
    deeds = _deeds(history, things)
    verb = next(iter(words(history[-1])), "") if history else ""
    tokens = [f"g:{word}" for word in things.abstract(goal) if word not in FUNCTION_WORDS]
    tokens += [f"n:{slot}:{name}" for slot, name in enumerate(things.names, start=1)]
    tokens += [f"o:{word}" for word in shown if word not in arguments and not word.startswith("<")]
    tokens += [f"t:{word}" for word in seen or ["none"]]
    for ago, action in enumerate(reversed(history[-2:]), start=1):
        done = [word if word not in arguments else "*" for word in things.abstract(action)]
        tokens.append(f"a{ago}:{' '.join(done)}")
    tokens += [f"d:{deed}" for deed in deeds]
    tokens += [f"p:{verb}:{' '.join(seen)}:{'; '.join(deeds)}", f"q:{verb}:{' '.join(seen)}"]
    return tokens


def _deeds(history: Sequence[str], things: Things) -> list[str]:
    counts: dict[str, int] = {}
    for action in history:
        done = things.abstract(action)
        slots = [word for word in done if word.startswith("<")]
        if "<1>" in slots:
            counts[done[0]] = counts.get(done[0], 0) + 1
    return [f"{deed} {count}" for deed, count in sorted(counts.items())]


def _mentions(action: str, arguments: AbstractSet[str]) -> list[tuple[str, str]]:
    """The arguments of an action with their numbers, such as ``("drawer", "3")``."""
    found = [(match.group(1).lower(), match.group(3) or "") for match in _MENTION.finditer(action)]
    return [mention for mention in found[1:] if mention[0] in arguments]
