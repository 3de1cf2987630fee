"""The control arm that needs no language model: do what the nearest demonstration did, with its things renamed.

What it knows: the nearest step by BM25 over (goal, observation, actions so far) with things taken out (``slots``), and
which admissible action resembles the copied one most. What it does not do: language models, learning.

If a small language model does not beat this, its demonstrations did the work (every table carries it).
"""

from __future__ import annotations

import difflib
import re
import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np

from potstill.distill.context.library import DemonstrationLibrary
from potstill.distill.context.shelf import Entry
from potstill.distill.context.slots import (
    FUNCTION_WORDS,
    Things,
    argument_words,
    rename,
    state_tokens,
    things_of,
    words,
)
from potstill.protocols import ContextBlock, ContextQuery
from potstill.retrieval.lexical import LexicalRanker
from potstill.types import Action, DemonstrationRef, Struct

_NUMBER = re.compile(r"\d{1,9}")
REPEAT_PENALTY, LARGEST_PENALTY = 0.3, 0.6
"""What an action loses for each time that it was done before, and at most. The first time is free if the demonstration
did it again too, and always so for what has no arguments (``look``). Without this two states copy each other for ever;
with more, an unlikely verb wins over every place that was visited. Tuned on ALFWorld train games."""


class _State(Struct, frozen=True, kw_only=True):
    """One step of a demonstration: what was done, in which episode, and whether it had been done before."""

    entry: int
    index: int
    repeated: bool


class _Book:
    """All demonstrated states of one namespace and environment, ranked without names."""

    def __init__(self) -> None:
        self.arguments: set[str] = set()
        self.entries: list[Entry] = []
        self.states: list[_State] = []
        self.tasks: list[str] = []
        self.things: list[Things] = []
        self.ranker = LexicalRanker(str.split)

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.arguments |= argument_words(step.action for step in entry.steps)
        for entry in entries:
            self._add(entry)

    def would_rename(self, entries: Sequence[Entry]) -> bool:
        """Whether new entries name arguments that may be things of the goals that were added before."""
        return any(argument_words(step.action for step in entry.steps) - self.arguments for entry in entries)

    def _add(self, entry: Entry) -> None:
        actions = [step.action for step in entry.steps]
        things = things_of(entry.goal, self.arguments)
        texts = []
        for index, step in enumerate(entry.steps):
            tokens = state_tokens(entry.goal, step.observation, actions[:index], things, self.arguments)
            texts.append(_as_text(tokens))
            repeated = step.action in actions[:index]
            self.states.append(_State(entry=len(self.entries), index=index, repeated=repeated))
            self.tasks.append(entry.task_id)
        self.ranker.add(texts)
        self.entries.append(entry)
        self.things.append(things)


class CopyNearest:
    """``protocols.Control``: the action of the nearest demonstrated state, fitted to what is admissible now.

    Without demonstrations, or where nothing is near, it takes the first admissible action not done before.
    """

    name = "copy-nearest"

    def __init__(self, library: DemonstrationLibrary) -> None:
        self._library = library
        self._books: dict[tuple[str, str], _Book] = {}
        self._lock = threading.Lock()

    async def act(self, query: ContextQuery, admissible: Sequence[str]) -> tuple[Action, ContextBlock]:
        """The chosen action and where it came from; a step without admissible actions copies the action as it is."""
        book = self._book(query)
        arguments = book.arguments | argument_words(admissible)
        things = things_of(query.goal, arguments)
        state, score = self._nearest(book, query, things, arguments)
        if state is None:
            return Action(text=_fresh(admissible, query.history)), ContextBlock()
        entry = book.entries[state.entry]
        before = entry.steps[state.index - 1].action if state.index else ""
        last = query.history[-1] if query.history else ""
        copied = entry.steps[state.index].action
        wanted = rename(copied, book.things[state.entry], things, before, last, arguments)
        text = best_match(wanted, admissible, query.history, repeats=state.repeated) if admissible else wanted
        ref = DemonstrationRef(trajectory_id=entry.trajectory_id, start=state.index, stop=state.index + 1, score=score)
        return Action(text=text), ContextBlock(demonstrations=(ref,))

    def _book(self, query: ContextQuery) -> _Book:
        """The book of the query's shelf, completed with what was added to the library since."""
        with self._lock:
            key = (query.namespace, query.task.environment)
            book = self._books.setdefault(key, _Book())
            fresh = self._library.shelf_entries(query, start=len(book.entries))
            if book.entries and book.would_rename(fresh):
                book = self._books[key] = _Book()
                fresh = self._library.shelf_entries(query)
            book.add(fresh)
            return book

    def _nearest(
        self, book: _Book, query: ContextQuery, things: Things, arguments: set[str]
    ) -> tuple[_State | None, float]:
        if not book.states:
            return None, 0.0
        tokens = state_tokens(query.goal, query.observation, query.history, things, arguments)
        scores = book.ranker.scores(_as_text(tokens))[: len(book.states)]
        scores[np.array(book.tasks, dtype=object)[: len(scores)] == query.task.id] = 0.0
        best = int(scores.argmax())
        return (book.states[best], float(scores[best])) if scores[best] > 0 else (None, 0.0)


def best_match(wanted: str, admissible: Sequence[str], history: Sequence[str], *, repeats: bool = False) -> str:
    """The admissible action most like ``wanted``; what was done before loses ``REPEAT_PENALTY`` for each time.

    Of equals the one with the lowest numbers, then the first: ``go to drawer 2`` before ``go to drawer 10``.
    """
    done = Counter(history)
    free = wanted if repeats and len(words(wanted)) == 1 else None

    def merit(action: str) -> tuple[float, list[int]]:
        times = 0 if action == free else max(0, done[action] - int(repeats))
        penalty = min(LARGEST_PENALTY, REPEAT_PENALTY * times)
        return similarity(wanted, action) - penalty, [-int(number) for number in _NUMBER.findall(action)]

    return max(admissible, key=merit)


def similarity(wanted: str, action: str) -> float:
    """How alike two actions are, in [0, 1]: the verb .4, shared argument words .4, the letters .1, all of it .1.

    Numbers count only in the last part: which drawer it was is another house's matter.
    """
    if wanted == action:
        return 1.0
    ours, theirs = words(wanted), words(action)
    verb = 0.4 if ours[:1] == theirs[:1] else 0.0
    left, right = _arguments(ours), _arguments(theirs)
    overlap = len(left & right) / len(left | right) if left | right else 1.0
    letters = difflib.SequenceMatcher(None, _NUMBER.sub("", wanted), _NUMBER.sub("", action), autojunk=False).ratio()
    return verb + 0.4 * overlap + 0.1 * letters


def _arguments(tokens: list[str]) -> set[str]:
    return {word for word in tokens[1:] if not word.isdigit()} - FUNCTION_WORDS


def _fresh(admissible: Sequence[str], history: Sequence[str]) -> str:
    done = set(history)
    return next((action for action in admissible if action not in done), admissible[0] if admissible else "")


def _as_text(tokens: Sequence[str]) -> str:
    return " ".join(token.replace(" ", "_") for token in tokens)
