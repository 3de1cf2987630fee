"""Vectors as texts, and a network of vectors where situations come.

An environment of vectors shows a JSON list of numbers as its observation's text. Training and acting read it by this
one function, so both see the same numbers. Knows texts and positions. Does not know networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .layers import Floats

LARGEST = float(np.finfo(np.float32).max)


def vector_of(text: str) -> Floats | None:
    """The numbers of a JSON list, (d,) float32; None for any other text.

    >>> vector_of("[0.5, -1]").tolist()
    [0.5, -1.0]
    >>> vector_of("[]") is vector_of("You see a lamp.") is vector_of("[1e999]") is None
    True
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or not values or not all(fits(value) for value in values):
        return None
    return np.array(values, np.float32)


def fits(value: Any) -> bool:
    """Whether a value of JSON is a number that single precision can hold."""
    return type(value) in (int, float) and abs(value) <= LARGEST and not math.isnan(value)


class VectorReader:
    """Answers situations with a network of vectors; the goal and the past are not read."""

    def __init__(self, actions: Sequence[str], logits: Callable[[Floats], Floats]) -> None:
        """``logits``: a vector (d,) to one logit for each of ``actions``; raises ``ValueError`` for another width."""
        self._places = {action: place for place, action in enumerate(actions)}
        self._logits = logits

    def logits(self, situation: Mapping[str, Any], candidates: Sequence[str]) -> Floats:
        """One for each candidate. Raises ``ValueError`` for an observation or an action that the network has not."""
        seen = str(situation.get("observation", ""))
        vector = vector_of(seen)
        if vector is None:
            raise ValueError(
                f"It reads vectors, and the observation is no JSON list of numbers: {' '.join(seen.split())[:60]!r}."
            )
        unknown = [action for action in candidates if action not in self._places]
        if unknown:
            raise ValueError(f"It has no action {unknown[0][:60]!r}; it has: {', '.join(self._places)[:200]}.")
        found: Floats = np.asarray(self._logits(vector), np.float32)[[self._places[action] for action in candidates]]
        return found
