"""What is to be retrained, from the words of a command: everything that can be refused before an episode is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.output import note
from potstill.cli.run_plan import pairs
from potstill.cli.training.plan import WeightsPlan, playing_of
from potstill.distill.weights.continual.eligible import must_learn_on
from potstill.distill.weights.data.environments import names_of
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.lineage import read as read_lineage
from potstill.distill.weights.losses.config import build
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.edge.policy import Policy, open_policy
from potstill.errors import BadModelFile, ConfigError, MissingExtra

RETRAINING = "retraining"
"""Within the folder of the training: what is made of the new episodes, and the checkpoint."""


class RetrainPlan(NamedTuple):
    """A retraining that is ready to be made. ``made`` is what a first training of it would be."""

    made: WeightsPlan
    policy: Policy
    lineage: Manifest
    share: float
    margin: float
    forget_old: bool
    """What was known does not judge."""

    @property
    def folder(self) -> Path:
        return self.made.folder / RETRAINING


def planned(path: Path, options: dict[str, Any]) -> RetrainPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``,
    ``BadModelFile``."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Retraining a policy", "weights")
    lineage = read_lineage(path).manifest
    try:
        policy = open_policy(path)
    except ValueError as error:
        raise BadModelFile(str(error)) from None
    must_learn_on(policy)
    if not lineage.datasets:
        raise ConfigError(f"{path} does not say what it was trained on, so nothing can be mixed with what is new.")
    if not 0 < options["new_share"] <= 1:
        raise ConfigError(f"--new-share is {options['new_share']:g}. Allowed: above 0, up to 1.")
    names = ("seed", "epochs", "steps", "batch", "learning_rate", "schedule", "patience", "threads")
    given = {name: options[name] for name in names}
    given |= _loss_of(path, lineage, options["loss_options"])
    environment = options["environment"] or lineage.datasets[0].name
    if len(names_of(environment)) > 1:
        raise ConfigError(
            f"{path} learnt {' and '.join(names_of(environment))}, and a retraining takes new episodes of one "
            f"environment. Name it: --env {names_of(environment)[0]}"
        )
    made = WeightsPlan(
        out=path,
        recipe=RankerRecipe(width=int(policy.config.get("width", 64)), train=TrainConfig(**given)),
        db=options["db"],
        filters={
            "split": options["split"],
            "namespace": options["namespace"],
            "run_id": options["run_id"],
            "success": True,
            "environment": environment,
        },
        environment=environment,
        held_out=0.0,
        resume=options["resume"],
        key=options["key"],
        play=options["play"],
        playing=playing_of(options),
    )
    return RetrainPlan(made, policy, lineage, options["new_share"], options["margin"], options["forget_old"])


_OF_THE_LOSS = ("loss", "mix", "balanced", "adaptive")


def _loss_of(path: Path, lineage: Manifest, typed: tuple[str, ...]) -> dict[str, Any]:
    """The loss as it was typed, else the one that the policy was trained with."""
    if typed:
        return {"loss": build(pairs(typed, "--loss temperature=2"))}
    said = lineage.configuration.get("train")
    found = {name: said[name] for name in _OF_THE_LOSS if name in said} if isinstance(said, dict) else {}
    try:
        before = msgspec.convert(found, TrainConfig)
    except msgspec.ValidationError:
        found = {}
    if not found:
        note(f"{path} does not say which loss it was trained with; kind=hard is taken. To choose: --loss kind=soft")
        return {}
    return {name: getattr(before, name) for name in _OF_THE_LOSS}
