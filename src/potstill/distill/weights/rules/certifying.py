"""How many of the rules may answer: the longest beginning of the list whose precision held-out tasks certify.

A task counts as right where every answer that the rules gave in it was the teacher's: steps of one task are no
independent trials, tasks are. Beginnings of the list are tested in order, the surest rules first, each at the whole
level until one fails (fixed-sequence testing, as in ``decide.calibration``); those that answer in too few tasks to pass
even without an error are skipped, which their answers' correctness has no part in. So the chance that what is certified
is less precise than asked is at most ``1 - confidence``, whatever was tried. Pure. Does not know where rules come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from potstill.decide.bounds import binomial_p_value, clopper_pearson_upper
from potstill.decide.calibration.certify import sequences
from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError
from potstill.models.rule_list import Answer, Certificate, Rule, RuleList, answer, rules_sha256
from potstill.types import Struct

STAGES = 8
"""Beginnings of the list that are tested at most."""

Asker = Callable[[Labelled], Mapping[str, float]]
"""A student: the probability of each admissible action."""


class NotCertified(ConfigError):
    """No beginning of the list is as precise as was asked, as far as these tasks can tell."""


class Stage(NamedTuple):
    """One beginning of the list on held-out tasks."""

    rules: int
    answered: int
    tasks: int
    """In which it answered."""
    wrong: int
    """Of these, with an answer that was not the teacher's."""


def certify(
    rules: Sequence[Rule],
    held_out: Sequence[Labelled],
    *,
    precision: float = 0.95,
    confidence: float = 0.95,
    environment: str = "",
    data_sha256: str = "",
) -> RuleList:
    """The longest certified beginning of ``rules``, which must be ordered, the surest first, without these decisions.

    Raises ``NotCertified`` with what was observed and how many tasks it takes, ``ConfigError`` for bad shares.
    """
    for name, value in (("precision", precision), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ConfigError(f"{name} is {value}. Allowed: between 0 and 1, such as 0.95.")
    if not rules or not held_out:
        raise NotCertified("There are no rules, or no held-out decisions to judge them by. Record more episodes.")
    answers = [answer(rules, one.situation, one.admissible) for one in held_out]
    stages = [_stage(size, answers, held_out) for size in _sizes(len(rules))]
    allowed = 1.0 - precision
    open_ = [one for one in stages if one.tasks and binomial_p_value(0, one.tasks, allowed) <= 1.0 - confidence]
    p_values = [binomial_p_value(one.wrong, one.tasks, allowed) for one in open_]
    (passed,), _ = sequences([p_values], 1.0 - confidence)
    if not passed:
        raise NotCertified(_why_not(stages, open_, precision, confidence))
    best = open_[passed - 1]
    kept = tuple(rules[: best.rules])
    proof = Certificate(
        rules_sha256=rules_sha256(kept),
        tasks=best.tasks,
        wrong=best.wrong,
        lower=1.0 - clopper_pearson_upper(best.wrong, best.tasks, confidence),
        precision=precision,
        confidence=confidence,
        share=best.answered / len(held_out),
        environment=environment,
        data_sha256=data_sha256,
    )
    return RuleList(rules=kept, certificate=proof)


def _sizes(rules: int) -> list[int]:
    """At most ``STAGES`` lengths, evenly spread, the whole list among them.

    >>> _sizes(20)
    [2, 5, 7, 10, 12, 15, 17, 20]
    """
    return sorted({max(1, rules * (at + 1) // STAGES) for at in range(STAGES)})


def _stage(size: int, answers: Sequence[Answer | None], held_out: Sequence[Labelled]) -> Stage:
    """What the first ``size`` rules answer is what the whole list answers with one of them."""
    wrong: dict[tuple[str, str], bool] = {}
    answered = 0
    for found, one in zip(answers, held_out, strict=True):
        if found is not None and found.rule < size:
            answered += 1
            task = (one.environment, one.task_id)
            wrong[task] = wrong.get(task, False) or found.action != one.action
    return Stage(size, answered, len(wrong), sum(wrong.values()))


def _why_not(stages: Sequence[Stage], tested: Sequence[Stage], precision: float, confidence: float) -> str:
    asked = f"a precision of {precision:g} with confidence {confidence:g}"
    if not tested:
        needed = math.ceil(math.log(1.0 - confidence) / math.log(precision) - 1e-9)
        most = max(one.tasks for one in stages)
        return (
            f"The rules answer in {most} held-out tasks, and {asked} takes {needed} without an error. Record more "
            f"tasks, hold more out, or ask for a --precision below {precision:g}."
        )
    first = tested[0]
    return (
        f"Even the surest {first.rules} rules were wrong in {first.wrong} of the {first.tasks} held-out tasks in which "
        f"they answered, so {asked} is not certified. Ask for a --precision below {precision:g}, or record more "
        "episodes to learn from."
    )


# --- layers ---------------------------------------------------------------------------------------------------------


class Layer(Struct, frozen=True, kw_only=True):
    """What one layer answers: its share of all decisions, and how many of its answers were not the teacher's."""

    layer: str
    decisions: int
    share: float
    wrong: int
    error: float | None
    """``wrong / decisions``; None where it answered nothing."""


def layers(
    rules: Sequence[Rule], decisions: Sequence[Labelled], student: Asker | None = None, threshold: float = 0.0
) -> list[Layer]:
    """Rules first, then the student where its likeliest action has at least ``threshold``, the teacher last.

    Without a student the teacher has all that no rule answers. The teacher's error is 0 by definition: it is compared
    with itself.
    """
    counts = {name: [0, 0] for name in ("rules", "student", "teacher")}
    for one in decisions:
        found = answer(rules, one.situation, one.admissible)
        name, action = ("rules", found.action) if found is not None else _behind(one, student, threshold)
        counts[name][0] += 1
        counts[name][1] += action != one.action
    return [
        Layer(
            layer=name,
            decisions=count,
            share=count / len(decisions) if decisions else 0.0,
            wrong=wrong,
            error=wrong / count if count else None,
        )
        for name, (count, wrong) in counts.items()
        if name != "student" or student is not None
    ]


def _behind(one: Labelled, student: Asker | None, threshold: float) -> tuple[str, str]:
    if student is not None:
        action, probability = max(student(one).items(), key=lambda pair: pair[1])
        if probability >= threshold:
            return "student", action
    return "teacher", one.action
