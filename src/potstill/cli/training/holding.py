"""Holds debates: situations out of the store, policies as speakers, a file of debates.

What it knows: where the parts lie. What it does not do: parse or print (``distill_debates``), know what a debate is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from potstill.cli.training.plan import environment_of, filters_of
from potstill.distill.weights.data.checks import refuse_empty
from potstill.distill.weights.data.decisions import Counting, labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.debates.graph import Debate, pairs
from potstill.distill.weights.debates.holding import Speaker, debates, drawn, recorded
from potstill.distill.weights.debates.lines import write_debates
from potstill.errors import ConfigError, ModelError
from potstill.trajectories.opening import read_store
from potstill.types import Answerer

EVERYBODY = frozenset({Answerer.STUDENT, Answerer.TEACHER})


class HoldingPlan(NamedTuple):
    out: Path
    db: str
    filters: dict[str, Any]
    speakers: Mapping[str, Speaker]
    n: int
    seed: int


class Held(NamedTuple):
    """What was written."""

    file: str
    debates: int
    telling: int
    """Those with a right turn and a wrong one."""
    right: dict[str, float | None]
    """Of each speaker, the share of its debates in which it was right; None: it was silent in all."""


def planned(options: dict[str, Any]) -> HoldingPlan:
    """Everything that can be refused before an episode is read. Raises ``ConfigError``, ``BadModelFile``."""
    out = options["out"]
    if out is None:
        raise ConfigError("Nothing says where the debates go. Type for example: --out debates.jsonl")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    specs = options["speakers"]
    if len(set(specs)) < 2 or len(set(specs)) < len(specs):
        told = ", ".join(f"'{spec}'" for spec in specs) or "nobody"
        raise ConfigError(
            f"A debate needs two speakers or more, each once; here speaks {told}. Type for example: "
            "--speaker policy:a.policy --speaker policy:b.policy"
        )
    filters = filters_of(options)
    environment = environment_of(options["db"], filters, options["environment"])
    return HoldingPlan(
        out=out,
        db=options["db"],
        filters={**filters, "environment": environment},
        speakers={spec: _speaker(spec, options["db"], {**filters, "environment": environment}) for spec in specs},
        n=options["n"],
        seed=options["seed"],
    )


def make(plan: HoldingPlan) -> Held:
    """Hold the debates and write them. Raises ``ConfigError``, ``StoreError``."""
    try:
        held = list(debates(drawn(_decisions(plan), plan.n, plan.seed), plan.speakers, plan.filters["split"]))
    except ModelError as error:
        raise ConfigError(f"A speaker cannot answer in '{plan.filters['environment']}'. {error}") from error
    if not held:
        raise ConfigError(
            f"In none of {plan.n} situations at most did two speakers say something. Runs speak where they were in the "
            "same situation: let them play the same tasks from the same seeds, or give policies."
        )
    write_debates(plan.out, held)
    return Held(
        file=str(plan.out),
        debates=len(held),
        telling=sum(bool(pairs(one)) for one in held),
        right={name: _right(held, name) for name in plan.speakers},
    )


def _decisions(plan: HoldingPlan) -> list[Labelled]:
    counting = Counting()
    with read_store(plan.db) as store:
        found = list(labelled(store.select(**plan.filters), counting=counting))
    refuse_empty(counting.report)
    return found


def _right(held: list[Debate], name: str) -> float | None:
    said = [turn.action in debate.right for debate in held for turn in debate.turns if turn.speaker == name]
    return sum(said) / len(said) if said else None


def _speaker(spec: str, db: str, filters: Mapping[str, Any]) -> Speaker:
    """A small policy as its runtime answers, or what was done in a run; other models would have to be paid for."""
    from potstill.models.policy import open_policy

    kind, _, what = spec.partition(":")
    if kind == "run" and what:
        return _run(what, db, filters)
    if kind != "policy" or not what:
        raise ConfigError(
            f"The speaker is '{spec}'. Allowed: policy:FILE, such as --speaker policy:student.policy, and run:NAME, a "
            "recorded run."
        )
    policy = open_policy(what)
    return lambda one: policy.probabilities(one.situation, one.admissible)


def _run(name: str, db: str, filters: Mapping[str, Any]) -> Speaker:
    """Whatever was done in the run, by whom and however its episodes ended: who is right is known from elsewhere."""
    asked = {key: filters[key] for key in ("namespace", "environment", "split")}
    with read_store(db) as store:
        found = list(labelled(store.select(**asked, run_id=name), EVERYBODY, only_successes=False))
    if not found:
        raise ConfigError(
            f"The run '{name}' has no decision in '{asked['environment']}', split '{asked['split']}'. See which runs "
            "there are: potstill trajectories list"
        )
    return recorded(found)
