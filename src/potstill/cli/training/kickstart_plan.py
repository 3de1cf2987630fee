"""What is to be kickstarted, from the words of a command: everything that can be refused before a step is played."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from potstill.cli.asked_students import SCHEME
from potstill.cli.training.plan import TRAINING, file_of, key_of, place_of
from potstill.distill.weights.lineage import Manifest, file_sha256
from potstill.distill.weights.lineage import read as read_lineage
from potstill.distill.weights.train.kickstart_config import KickstartConfig
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy, open_policy
from potstill.envs.control.games import GAMES, Game
from potstill.errors import BadModelFile, ConfigError, MissingExtra, one_of

EXPERT = "expert"
RULES_SHARE = 0.96
"""Probability of the one action that rules give; the others share the rest, so that KL is finite."""


class Teacher(NamedTuple):
    """Whose pull fades."""

    name: str
    logits: Callable[[Any], Any]
    """Observations (n, d) to (n, a), in the order of the student's actions."""
    sha256: str
    """Of its file; empty for rules."""


class KickstartPlan(NamedTuple):
    """A training that is ready to be made."""

    start: Path
    policy: Policy
    network: Mlp
    lineage: Manifest
    out: Path
    game: Game
    teacher: Teacher | None
    config: KickstartConfig
    play: int
    key: Path | None
    resume: bool

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + TRAINING)

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint depends on beside the settings and the first weights."""
        told = "nobody" if self.teacher is None else f"{self.teacher.name} {self.teacher.sha256}".strip()
        return {"teacher": told, "environment": self.game.id}


def planned(start: Path, options: dict[str, Any]) -> KickstartPlan:
    """Raises ``ConfigError``, ``UnknownName``, ``MissingExtra``, ``BadModelFile``."""
    for module, extra in (("torch", "weights"), ("gymnasium", "control")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("Reinforcing a policy", extra)
    out = file_of(place_of(options["out"], "--out better.policy"))
    if out.exists() and out.samefile(start):
        raise ConfigError(f"--out is {start} itself, from which a killed training would begin. Type another --out.")
    lineage = read_lineage(start).manifest
    policy, network = _perceptron(start)
    game = _game(start, lineage, options["environment"])
    _must_play(start, network, game)
    given = {name: options[name] for name in KickstartConfig.__struct_fields__ if name in options}
    config = KickstartConfig(**given | {"pull": 0.0 if options["teacher"] is None else options["pull"]})
    if options["teacher"] is not None and config.pull == 0:
        raise ConfigError("--pull is 0, so --teacher would never be asked. Leave it away, or type a larger --pull.")
    teacher = None if options["teacher"] is None else _teacher(options["teacher"], network, game)
    return KickstartPlan(
        *(start, policy, network, lineage, out, game, teacher, config),
        *(options["play"], key_of(options["key"]), options["resume"]),
    )


def _perceptron(path: Path) -> tuple[Policy, Mlp]:
    try:
        policy = open_policy(path)
    except OSError as error:
        raise ConfigError(f"Cannot read the policy {path}: {error.strerror}.") from None
    except ValueError as error:
        raise BadModelFile(str(error)) from None
    if not isinstance(policy.network, Mlp):
        raise ConfigError(
            f"{path} is a policy of the kind '{policy.kind}', and rewards are learnt from by perceptrons alone. Type: "
            "potstill distill weights --student mlp --out student.policy"
        )
    rounded = sorted({str(array.dtype) for array in policy.arrays.values() if array.dtype != np.float32})
    if rounded:
        raise ConfigError(f"The numbers of {path} were rounded ({', '.join(rounded)}). Give it as it was trained.")
    return policy, policy.network


def _game(start: Path, lineage: Manifest, named: str | None) -> Game:
    """The named one, or the one whose episodes the policy learnt from."""
    learnt = [dataset.name for dataset in lineage.datasets]
    if named is None and not learnt:
        raise ConfigError(f"{start} does not say what it was trained on. Type for example: --env lunar-lander")
    name = named or learnt[0]
    one_of("environment with rewards", name, list(GAMES))
    return GAMES[name]


def _must_play(path: Path, network: Mlp, game: Game) -> None:
    if set(network.actions) != set(game.actions):
        raise ConfigError(
            f"{path} has the actions {', '.join(network.actions)}; {game.name} has {', '.join(game.actions)}."
        )
    if network.inputs != game.numbers:
        raise ConfigError(f"{path} reads {network.inputs} numbers; {game.name} shows {game.numbers}.")


def _teacher(name: str, student: Mlp, game: Game) -> Teacher:
    if name == EXPERT:
        from potstill.envs.control.rules import rules_of

        rules = rules_of(game)
        if rules is None:
            raise ConfigError(f"'{game.name}' has no rules to be the expert. Type for example: --teacher policy:FILE")
        return Teacher(name, lambda seen_BD: _of_rules(rules, seen_BD, student, game), "")
    if not name.startswith(SCHEME):
        raise ConfigError(f"The teacher is asked in every state, so it is expert or policy:FILE, not '{name}'.")
    path = Path(name.removeprefix(SCHEME)).expanduser()
    policy, network = _perceptron(path)
    _must_play(path, network, game)
    order = [network.actions.index(action) for action in student.actions]
    return Teacher(
        name, lambda seen_BD: np.asarray(network.logits(seen_BD))[:, order] / policy.temperature, file_sha256(path)
    )


def _of_rules(rules: Callable[[Any], int], seen_BD: Any, student: Mlp, game: Game) -> Any:
    rest = (1 - RULES_SHARE) / (len(game.actions) - 1)
    logits_BA = np.full((len(seen_BD), len(game.actions)), np.log(rest))
    chosen = [student.actions.index(game.actions[rules(seen)]) for seen in seen_BD]
    logits_BA[np.arange(len(chosen)), chosen] = np.log(RULES_SHARE)
    return logits_BA
