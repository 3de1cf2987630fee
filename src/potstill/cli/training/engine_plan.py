"""An engine that is to be started, from the words of a command: all that can be refused before an episode is read."""

from __future__ import annotations

import shlex
import sys
from typing import Any, NamedTuple

from potstill.cli.run_plan import pairs
from potstill.cli.training.lm import LmPlan, plan_of, refuse_missing
from potstill.distill.weights.engines import running
from potstill.distill.weights.engines.job import Budget, Method, settings_of
from potstill.errors import ConfigError
from potstill.run.arms import Reasoning


class EnginePlan(NamedTuple):
    """An engine that is ready to be started."""

    lm: LmPlan
    method: Method
    budget: Budget
    settings: dict[str, Any]
    teacher: str | None
    python: str
    launch: tuple[str, ...]
    versions: dict[str, str]
    """Of the packages there."""

    @property
    def command(self) -> list[str]:
        return running.command_of(self.python, self.lm.folder.absolute(), self.launch)


def planned(method: str, options: dict[str, Any]) -> EnginePlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``."""
    refuse_missing()
    way = Method(method.removeprefix("trl-"))
    if (way is Method.DISTILL) != (options["teacher_model"] is not None):
        raise ConfigError(
            f"--teacher-model is for trl-distill, and this is {method}. Leave it away."
            if options["teacher_model"]
            else "trl-distill learns from a model's distribution, and none is named. Type: --teacher-model PATH"
        )
    if way is not Method.SFT and options["reasoning"] != Reasoning.NONE:
        raise ConfigError(f"--reasoning is for trl-sft: {method} learns actions alone. Leave it away.")
    names = ("steps", "epochs", "batch", "learning_rate", "save_every", "seed", "threads")
    lm = plan_of(options)
    python = options["python"] or sys.executable
    budget, typed = Budget(**{name: options[name] for name in names}), pairs(options["settings"], "--set beta=0.2")
    settings, launch = settings_of(way, budget, typed), _launch(options["launch"])
    versions = running.probe(python)
    if typed or launch:
        running.check(python, way.value, settings if typed else {}, launch)
    return EnginePlan(
        lm=lm,
        method=way,
        budget=budget,
        settings=typed,
        teacher=options["teacher_model"],
        python=python,
        launch=launch,
        versions=versions,
    )


def _launch(typed: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(typed or ""))
    except ValueError as error:
        raise ConfigError(f"--launch {typed} cannot be read as a command: {error}. Check its quotes.") from None
