"""Makes a kickstarted policy: reinforcement with progress and checkpoints, gate, file with its lineage, both played."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from potstill.cli.training.checkpointed import checkpointed
from potstill.cli.training.kickstart_plan import KickstartPlan
from potstill.cli.training.plan import to_replace, to_resume
from potstill.distill.weights import gate
from potstill.distill.weights.lineage import Manifest, created, in_full, parent
from potstill.distill.weights.lineage import Teacher as Taught
from potstill.distill.weights.train.kickstart_config import pull_at
from potstill.edge.mlp import Mlp
from potstill.edge.policy import open_policy
from potstill.errors import ConfigError
from potstill.measure.statistics import PairedDifference, paired_difference

if TYPE_CHECKING:
    from potstill.distill.weights.train.kickstart import Round
    from potstill.distill.weights.train.simulators import Simulator

CHECKPOINT = "kickstart.pt"
ASKED = 512
"""States that the gate asks about: of fresh episodes of the trained policy."""


class Kickstarted(NamedTuple):
    """What was trained and written. Returns are undiscounted means; those of rounds are of actions that were drawn."""

    file: str
    size_bytes: int
    parameters: int
    environment_steps: int
    asked: int
    """States in which the teacher was asked."""
    first_return: float | None
    last_return: float | None
    played: int
    before: float | None
    """Greedy, of the policy that was given, in episodes that neither learnt from."""
    after: float | None
    difference_ci: tuple[float, float] | None
    cpu_s: float
    manifest_sha256: str
    rounds: list[dict[str, Any]]
    parity: dict[str, Any]


def asked_states(plan: KickstartPlan) -> int:
    """In how many states the teacher is asked: all of the rounds in which it weighs anything."""
    config = plan.config
    rounds = sum(pull_at(number / config.rounds, config) > 0 for number in range(config.rounds))
    return rounds * config.environments * config.horizon


def estimate(plan: KickstartPlan) -> dict[str, Any]:
    """What would be trained."""
    config = plan.config
    return {
        "environment": plan.game.name,
        "parameters": plan.policy.parameters,
        "rounds": config.rounds,
        "environment_steps": config.rounds * config.environments * config.horizon,
        "asked": asked_states(plan),
    }


def make(plan: KickstartPlan) -> Kickstarted:
    """Train and write the policy. Raises ``ConfigError``, ``Diverged``, ``GateFailed``, ``StoreError``."""
    from potstill.distill.weights.policies.mlp import mlp_from
    from potstill.distill.weights.policies.ranker import arrays_of
    from potstill.distill.weights.train.mlp import trained_side

    to_resume(plan.folder / CHECKPOINT, plan.resume)
    to_replace(plan.out, plan.resume)
    started = time.process_time()
    network = mlp_from(plan.policy.arrays, plan.policy.config)
    rounds = _trained(plan, network)
    side = trained_side(network)
    written, parity = gate.export(
        plan.out,
        arrays_of(network),
        network.shape.config(),
        _manifest(plan, rounds),
        trained=side,
        questions=_states(plan, side),
        key=plan.key,
    )
    cpu_s = time.process_time() - started
    returns = [one.mean_return for one in rounds if one.mean_return is not None]
    both = _judged(plan)
    return Kickstarted(
        file=str(plan.out),
        size_bytes=written.size_bytes,
        parameters=plan.policy.parameters,
        environment_steps=rounds[-1].environment_steps,
        asked=asked_states(plan),
        first_return=returns[0] if returns else None,
        last_return=returns[-1] if returns else None,
        played=plan.play,
        before=None if both is None else both.success_b,
        after=None if both is None else both.success_a,
        difference_ci=None if both is None else both.difference_ci,
        cpu_s=cpu_s,
        manifest_sha256=written.manifest_sha256,
        rounds=[one._asdict() for one in rounds],
        parity=parity.summary(),
    )


def _trained(plan: KickstartPlan, network: Any) -> tuple[Round, ...]:
    from potstill.distill.weights.train.kickstart import kickstart

    place, total = plan.folder / CHECKPOINT, plan.config.environment_steps
    with checkpointed(place, plan.out.name, total, resume=plan.resume, unit="environment steps") as (keeping, bar):
        return kickstart(
            network,
            _simulators(plan),
            plan.config,
            teacher=None if plan.teacher is None else plan.teacher.logits,
            watch=_Watch(bar).told,
            keeping=keeping,
            identity=plan.identity,
        )


class _Watch:
    """What the progress bar shows."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._shown = bar, 0

    def told(self, now: Round) -> None:
        beside = {"return": now.mean_return, "kl_nats": now.kl_nats}
        shown = {name: round(value, 3) for name, value in beside.items() if value is not None}
        self._bar.update(now.environment_steps - self._shown, **shown)
        self._shown = now.environment_steps


def _simulators(plan: KickstartPlan) -> Callable[[], Simulator]:
    from potstill.envs.control.environment import simulator

    numbers = [plan.game.actions.index(action) for action in plan.network.actions]
    return lambda: _Named(simulator(plan.game), numbers)


class _Named:
    """A simulator that takes the policy's actions, whatever their order. Satisfies ``simulators.Simulator``."""

    def __init__(self, inner: Any, numbers: list[int]) -> None:
        self._inner, self._numbers = inner, numbers

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        found: tuple[Any, dict[str, Any]] = self._inner.reset(seed=seed)
        return found

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        found: tuple[Any, Any, bool, bool, dict[str, Any]] = self._inner.step(self._numbers[action])
        return found


def _states(plan: KickstartPlan, side: gate.Side) -> list[Any]:
    """What the trained policy sees in fresh episodes: what its file is asked."""
    from potstill.distill.weights.train.simulators import Actors

    actors = Actors([_simulators(plan)()], seed=plan.config.seed + 1)
    played = actors.play(lambda seen_ED: np.stack(side(list(seen_ED))).astype(np.float64), ASKED)
    return list(played.flat(played.observations_TED))


def _manifest(plan: KickstartPlan, rounds: tuple[Round, ...]) -> Manifest:
    taught = () if plan.teacher is None else (Taught(model=plan.teacher.name, decisions=asked_states(plan)),)
    return Manifest(
        created=created(os.environ),
        teachers=(*plan.lineage.teachers, *taught),
        datasets=plan.lineage.datasets,
        configuration={"student": "mlp", "kickstart": in_full(plan.config), **plan.identity},
        metrics={"environment_steps": rounds[-1].environment_steps, "mean_return": rounds[-1].mean_return},
        parents=(parent(plan.start),),
    )


# --- both played ------------------------------------------------------------------------------------------------------


def _judged(plan: KickstartPlan) -> PairedDifference | None:
    """Mean returns of the new policy (A) and the given one, greedy, in the same episodes of the validation seeds."""
    from potstill.envs.control.tasks import FIRST_SEED

    if not plan.play:
        return None
    file = open_policy(plan.out).network
    if not isinstance(file, Mlp):
        raise ConfigError(f"{plan.out} is no perceptron any more: somebody replaced it.")
    seeds = range(FIRST_SEED["valid"], FIRST_SEED["valid"] + plan.play)
    before, after = ({(str(seed), 0): _return(plan, one, seed) for seed in seeds} for one in (plan.network, file))
    return paired_difference(after, before)


def _return(plan: KickstartPlan, network: Mlp, seed: int) -> float:
    world = _simulators(plan)()
    seen, total, over = world.reset(seed=seed)[0], 0.0, False
    while not over:
        seen, reward, ended, cut, _ = world.step(int(np.argmax(network.logits(seen))))
        total, over = total + float(reward), bool(ended or cut)
    return total
