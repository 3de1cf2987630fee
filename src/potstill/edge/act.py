"""Questions and decisions as JSON: what the command line, the standard input and HTTP share.

A question for a ranker: ``{"goal", "observation", "past": [{"observation", "action"}, ...], "admissible": [...]}``;
for an mlp: ``{"vector": [...]}``. The decision: ``{"action", "index", "probability", "probabilities"}``, the likeliest
action, the first of equals; ``id`` of the question stands in it where there is one. Knows their form, not where they
come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .layers import Floats
from .mlp import Mlp
from .policy import Policy
from .vectors import fits

MOST_CANDIDATES = 10_000
OF_VECTORS = ("vector", "id")
OF_TEXTS = ("goal", "observation", "past", "admissible", "id")


def decide(policy: Policy, question: Mapping[str, Any]) -> dict[str, Any]:
    """The decision. Raises ``ValueError`` saying which part of the question cannot be used, and what it should be."""
    names: Sequence[str]
    with np.errstate(all="ignore"):
        if isinstance(policy.network, Mlp):
            _refuse_unknown(question, OF_VECTORS)
            names, logits = policy.network.actions, policy.network.logits(_vector(question))
        else:
            _refuse_unknown(question, OF_TEXTS)
            names = _candidates(question)
            logits = policy.network.logits(_situation(question), names)
    shares = np.exp(policy.log_probabilities(logits))
    best = int(np.argmax(logits))
    found = {"action": names[best], "index": best, "probability": float(shares[best]), "probabilities": shares.tolist()}
    return {"id": question["id"], **found} if "id" in question else found


def answered(policy: Policy, text: str | bytes) -> dict[str, Any]:
    """The decision to a question that somebody wrote, or ``{"error": why there is none}``."""
    try:
        question = json.loads(text)
        if not isinstance(question, dict):
            raise ValueError(f"The question is a JSON {type(question).__name__}; it must be an object.")
        return decide(policy, question)
    except json.JSONDecodeError as error:
        return {"error": f"The question is not JSON: {error}."}
    except RecursionError:
        return {"error": "The question is nested too deeply."}
    except ValueError as error:
        return {"error": str(error)}


def answers(policy: Policy, lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """One decision or error for each line that is not empty, in order, as soon as it is there."""
    return (answered(policy, line) for line in lines if line.strip())


def _refuse_unknown(question: Mapping[str, Any], known: Sequence[str]) -> None:
    """A misspelt part would be an empty one to the policy, and its decision a guess that nobody notices."""
    for name in question:
        if name not in known:
            raise ValueError(f"The question has a field {str(name)[:40]!r}. This policy reads: {', '.join(known)}.")


def _vector(question: Mapping[str, Any]) -> Floats:
    values = question.get("vector")
    if not isinstance(values, list) or not all(fits(value) for value in values):
        raise ValueError('This policy takes a vector. Give {"vector": [numbers]}, all finite.')
    return np.asarray(values, np.float32)


def _candidates(question: Mapping[str, Any]) -> list[str]:
    found = question.get("admissible")
    if not isinstance(found, list) or not found or not all(isinstance(action, str) for action in found):
        raise ValueError('This policy chooses among actions. Give {"admissible": ["...", ...]}, one at least.')
    if len(found) > MOST_CANDIDATES:
        raise ValueError(f"{len(found)} admissible actions; allowed: up to {MOST_CANDIDATES}.")
    return found


def _situation(question: Mapping[str, Any]) -> dict[str, Any]:
    goal, seen, past = (question.get(name, empty) for name, empty in (("goal", ""), ("observation", ""), ("past", [])))
    if not isinstance(goal, str) or not isinstance(seen, str):
        raise ValueError("goal and observation must be texts.")
    if not isinstance(past, list) or not all(_is_turn(turn) for turn in past):
        raise ValueError('past must be a list of {"observation": text, "action": text}, oldest first.')
    return {"goal": goal, "observation": seen, "past": past}


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(name), str) for name in ("observation", "action"))
