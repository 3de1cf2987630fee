"""What the benches of control tasks share: teachers, their labels, and greedy episodes of a policy's file.

Episodes are played in this process on gymnasium's own simulators, with the numpy runtime that the file acts with
elsewhere; ``potstill run`` plays the same tasks step for step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import _results
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy, open_policy
from potstill.envs.control.environment import simulator
from potstill.envs.control.games import ACROBOT, CART_POLE, LUNAR_LANDER, Game
from potstill.envs.control.rules import rules_of
from potstill.envs.control.tasks import FIRST_SEED
from potstill.measure.statistics import paired_difference

WORK = _results.ROOT / "bench" / ".work" / "control"
GAMES = {game.name: game for game in (CART_POLE, ACROBOT, LUNAR_LANDER)}
_RULES = rules_of(LUNAR_LANDER)

Act = Callable[[Any], int]
"""An observation (d,) to the number of gymnasium's action."""


class Labels(NamedTuple):
    """A teacher's decisions in episodes that reached the threshold."""

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    logits: NDArray[np.float64] | None
    episodes: int
    environment_steps: int


def teacher_file(game: Game, folder: Path) -> Path:
    """The trained teacher's file; made by ``recipes/control_teachers.py`` where it is not there yet."""
    sys.path.insert(0, str(_results.ROOT / "recipes"))
    from control_teachers import make

    return make(game, folder / f"{game.name}.policy")


def acting(policy: Policy, game: Game) -> Act:
    """A file's greedy choice."""
    network = policy.network
    assert isinstance(network, Mlp), "control tasks are of vectors"
    places = [game.actions.index(name) for name in network.actions]
    return lambda seen: places[int(np.argmax(network.logits(seen)))]


def rules(seen: Any) -> int:
    """Gymnasium's rules for LunarLander, which read nothing but the observation."""
    return _RULES(seen)


def teacher_of(game: Game, folder: Path) -> tuple[Act, Policy | None]:
    """The teacher, and its file where it has one: LunarLander's rules have no parameters."""
    if game is LUNAR_LANDER:
        return rules, None
    policy = open_policy(teacher_file(game, folder))
    return acting(policy, game), policy


def labels(game: Game, act: Act, policy: Policy | None, *, count: int, first: int) -> Labels:
    """``count`` decisions of successful train episodes, from the train seed ``first`` on; the last one may be cut."""
    world, seen_, done_ = simulator(game), list[Any](), list[int]()
    episodes = steps = 0
    seed = FIRST_SEED["train"] + first
    while len(done_) < count:
        seen, _ = world.reset(seed=seed)
        saw, did, total, over = list[Any](), list[int](), 0.0, False
        while not over:
            action = act(seen)
            saw.append(seen)
            did.append(action)
            seen, reward, ended, cut, _ = world.step(action)
            total, over = total + float(reward), ended or cut
        seed, steps = seed + 1, steps + len(did)
        if total >= game.threshold:
            episodes += 1
            seen_ += saw
            done_ += did
    observations = np.array(seen_[:count], np.float32)
    logits = None
    if policy is not None:
        assert isinstance(policy.network, Mlp), "control tasks are of vectors"
        order = [policy.network.actions.index(name) for name in game.actions]
        logits = policy.network.logits(observations)[:, order].astype(np.float64)
    return Labels(observations, np.array(done_[:count], np.int64), logits, episodes, steps)


def returns(game: Game, act: Act, *, episodes: int, split: str = "test") -> list[float]:
    """Of one greedy episode a seed, the same for everybody."""
    world, found = simulator(game), []
    for seed in range(FIRST_SEED[split], FIRST_SEED[split] + episodes):
        seen, _ = world.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            seen, reward, ended, cut, _ = world.step(act(seen))
            total, over = total + float(reward), ended or cut
        found.append(total)
    return found


def against(ours: Sequence[Sequence[float]], theirs: Sequence[float], game: Game) -> dict[str, Any]:
    """Several students' returns (one list each, the same episodes) beside the teacher's.

    ``kept``: the share of the teacher's lead over random actions, ``1 + difference / (teacher - random)``; its interval
    is the paired difference's (episodes resampled, all students of an episode together), the teacher's mean as it is.
    """
    mine = {(str(at), seed): value for seed, played in enumerate(ours) for at, value in enumerate(played)}
    found = paired_difference(mine, {(at, seed): theirs[int(at)] for at, seed in mine})
    assert found is not None, "all played the same episodes"
    teacher = float(np.mean(theirs))
    lead = teacher - game.random_return
    interval = found.difference_ci  # None where every difference is the same
    return {
        "return": float(np.mean([value for played in ours for value in played])),
        "teacher_return": teacher,
        "difference": found.difference,
        "difference_ci": None if interval is None else list(interval),
        "kept": 1 + found.difference / lead,
        "kept_ci": None if interval is None else [1 + end / lead for end in interval],
        "success": float(np.mean([value >= game.threshold for played in ours for value in played])),
    }


def paired(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Difference of the returns of two recipes with as many students each, episodes resampled."""
    one, other = (
        {(str(at), seed): value for seed, played in enumerate(side) for at, value in enumerate(played)}
        for side in (ours, theirs)
    )
    found = paired_difference(one, other)
    assert found is not None, "all played the same episodes"
    interval = found.difference_ci
    return {
        "n": found.n,
        "difference": found.difference,
        "difference_ci": None if interval is None else list(interval),
    }


def multiplications(sizes: Sequence[int]) -> int:
    """Of a decision: one for each weight. Twice as many floating-point operations."""
    return sum(wide * out for wide, out in pairwise(sizes))
