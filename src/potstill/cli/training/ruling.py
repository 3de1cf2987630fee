"""Makes a file of rules: episodes out of the store, rules out of most of them, the certificate out of the rest.

What it knows: where the parts lie. What it does not do: parse or print (``distill_rules``), learn or judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.distill.weights.data.checks import refuse_empty
from potstill.distill.weights.data.decisions import Counting, labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.manifest import Collecting
from potstill.distill.weights.rules.certifying import Asker, certify, layers
from potstill.distill.weights.rules.learning import learn_rules
from potstill.durable import replacing
from potstill.errors import ConfigError
from potstill.models.rule_list import Rule
from potstill.models.rules import read_rules
from potstill.trajectories.opening import read_store, shown
from potstill.trajectories.splits import split_of
from potstill.types import Task, TrajectoryKind

LEARN, HELD_OUT = "train", "valid"


class RulesPlan(NamedTuple):
    out: Path
    db: str
    filters: dict[str, Any]
    held_out: float
    written: tuple[Rule, ...]
    """By hand; empty: to be learnt."""
    leaves: int
    seed: int
    precision: float
    confidence: float
    student: Asker | None
    threshold: float


def planned(options: dict[str, Any]) -> RulesPlan:
    """Everything that can be refused before an episode is read. Raises ``ConfigError``, ``BadModelFile``."""
    out = options["out"]
    if out is None:
        raise ConfigError("Nothing says where the rules go. Type for example: --out house.rules.json")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    filters = {
        "kind": TrajectoryKind.TEACHER,
        "split": options["split"],
        "namespace": options["namespace"],
        "run_id": options["run_id"],
        "success": True,
    }
    return RulesPlan(
        out=out,
        db=options["db"],
        filters={**filters, "environment": _environment(options["db"], filters, options["environment"])},
        held_out=options["held_out"],
        written=() if options["written"] is None else _written(options["written"]),
        leaves=options["leaves"],
        seed=options["seed"],
        precision=options["precision"],
        confidence=options["confidence"],
        student=None if options["student"] is None else _asker(options["student"]),
        threshold=options["threshold"],
    )


def _written(path: Path) -> tuple[Rule, ...]:
    """Rules by hand. None at all would mean that some are learnt, which is not what was asked for."""
    rules = read_rules(path).rules
    if not rules:
        raise ConfigError(f"{path} holds no rule, so there is nothing to certify. Write one, or leave --rules away.")
    return rules


def _environment(db: str, filters: dict[str, Any], named: str | None) -> str:
    with read_store(db) as store:
        counts = Counter(one.environment for one in store.summaries(**filters))
    if named is not None and counts[named]:
        return named
    if named is None and len(counts) == 1:
        return next(iter(counts))
    told = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none"
    raise ConfigError(
        f"The store {shown(db)} holds successful teacher episodes of these environments in the split "
        f"'{filters['split']}': {told}. Name one of them with --env, or record some: potstill distill context"
    )


def _asker(spec: str) -> Asker:
    """A small policy as its runtime answers; another student would have to be asked over a network."""
    from potstill.models.policy import open_policy

    kind, _, path = spec.partition(":")
    if kind != "policy" or not path:
        raise ConfigError(f"--student is '{spec}'; allowed here: policy:FILE, such as policy:student.policy")
    model = open_policy(path)

    def ask(one: Labelled) -> Mapping[str, float]:
        return model.probabilities(one.situation, one.admissible)

    return ask


def make(plan: RulesPlan) -> dict[str, Any]:
    """Learn or take the rules, certify and write them. Raises ``NotCertified``, ``ConfigError``, ``StoreError``."""
    learnt, held_out, data = _decisions(plan)
    rules = plan.written or tuple(one.rule for one in learn_rules(learnt, leaves=plan.leaves, seed=plan.seed))
    certified = certify(
        rules,
        held_out,
        precision=plan.precision,
        confidence=plan.confidence,
        environment=plan.filters["environment"],
        data_sha256=data,
    )
    told = {"format": certified.format, "version": certified.version, **msgspec.to_builtins(certified)}
    with replacing(plan.out) as file:
        file.write(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    found = layers(certified.rules, held_out, plan.student, plan.threshold)
    return {
        "file": str(plan.out),
        "rules": len(certified.rules),
        "tried": len(rules),
        "learnt_from": len(learnt),
        "held_out": len(held_out),
        "certificate": msgspec.to_builtins(certified.certificate),
        "layers": [msgspec.structs.asdict(layer) for layer in found],
    }


def _decisions(plan: RulesPlan) -> tuple[list[Labelled], list[Labelled], str]:
    """Decisions to learn from and of held-out tasks, each as often as it was met, and the hash of the episodes' ids."""
    fractions = {LEARN: 1.0 - plan.held_out, HELD_OUT: plan.held_out}
    found: dict[str, list[Labelled]] = {name: [] for name in fractions}
    counting, collecting = Counting(), Collecting()
    with read_store(plan.db) as store:
        for one in labelled(store.select(**plan.filters), counting=counting, listen=collecting.hear):
            task = Task(id=one.task_id, environment=one.environment)
            found[split_of(task, fractions)].append(one)
    refuse_empty(counting.report)
    for some in found.values():
        some.sort(key=lambda one: (one.trajectory_id, one.step_index))
    return found[LEARN], found[HELD_OUT], collecting.sources().episodes_sha256
