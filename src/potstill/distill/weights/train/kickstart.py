"""Reinforcement learning for small policies, begun from a teacher: PPO with a teacher's pull that fades.

Kickstarting (arXiv 1803.03835, section 3): the student acts, and its loss is that of PPO (arXiv 1707.06347, equation 7)
plus ``pull * KL(teacher || student)`` at the states that it visits itself; the weight falls to 0, so that the student
may become better than its teacher. Without a teacher it is plain PPO.

It knows vectors, actions and rewards of simulators in this process, and checkpoints: a killed training that goes on
ends with the same weights. It does not know tasks, policies' files or stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.losses.config import Direction
from potstill.distill.weights.losses.soft import soft_rows
from potstill.distill.weights.policies.batch import Floats, Tensor
from potstill.distill.weights.policies.mlp import Mlp
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.distill.weights.train.checkpoint import read_checkpoint, write_checkpoint
from potstill.distill.weights.train.interrupts import deferred
from potstill.distill.weights.train.kickstart_config import KickstartConfig, pull_at
from potstill.distill.weights.train.kickstart_state import Parts, identity_of, restore, state_of
from potstill.distill.weights.train.loop import Diverged, Keeping, threads
from potstill.distill.weights.train.returns import advantages
from potstill.distill.weights.train.simulators import Actors, Rollout, Simulator
from potstill.errors import ConfigError

torch = load_torch()
nn = torch.nn

Teacher = Callable[[Floats], NDArray[Any]]
"""Observations (n, d) to logits (n, a), ``-inf`` for never."""


class Round(NamedTuple):
    """What one round of acting and learning found."""

    environment_steps: int
    """So far, of all simulators together."""
    episodes: int
    """That ended in this round."""
    mean_return: float | None
    """Theirs, undiscounted; None where none ended."""
    kl_nats: float | None
    """KL(teacher || student) at the visited states, before the round's learning; None without a teacher."""


def kickstart(
    student: Mlp,
    make: Callable[[], Simulator],
    config: KickstartConfig,
    *,
    teacher: Teacher | None = None,
    watch: Callable[[Round], None] = lambda one: None,
    keeping: Keeping | None = None,
    identity: Mapping[str, str] | None = None,
) -> tuple[Round, ...]:
    """Train the student in its environment; it holds the last weights afterwards.

    ``teacher`` is asked at every visited state as long as its weight is above 0. Raises ``ConfigError`` for rewards and
    observations that are no numbers, for a weight without a teacher, for action spaces that differ and for another
    training's checkpoint, ``Diverged`` for a loss that is no number. ``keeping``: a checkpoint after every round;
    ``identity`` says what else it depends on (the teacher, the environment). ``KeyboardInterrupt`` comes after the
    round, when its checkpoint is written; the second at once.
    """
    if config.pull > 0 and teacher is None:
        raise ConfigError(f"pull is {config.pull}, and there is no teacher. Give one, or pull=0.")
    actors = Actors([make() for _ in range(config.environments)], seed=config.seed)
    _must_fit(student, actors.observations_ED, teacher)
    whose = identity_of(student, config, identity or {})
    with torch.random.fork_rng(devices=[]), threads(config.threads), deferred() as interrupted:
        torch.manual_seed(config.seed)
        learner = _Learner(student, config)
        parts, history = learner.parts(actors), list[Round]()
        if keeping is not None and keeping.resume:
            history = [Round(*row) for row in restore(read_checkpoint(keeping.path, whose), parts)]
        for number in range(len(history), config.rounds):
            if interrupted():
                raise KeyboardInterrupt
            rollout = actors.play(lambda seen: _logits(student, seen), config.horizon)
            weight = pull_at(number / config.rounds, config)
            told_BA = None if teacher is None or weight == 0 else _told(teacher, rollout.flat(rollout.observations_TED))
            found = learner.learn(rollout, told_BA, weight, 1 - number / config.rounds)
            steps = (number + 1) * config.environments * config.horizon
            returns = rollout.returns
            mean = sum(returns) / len(returns) if returns else None
            history.append(Round(steps, len(returns), mean, found))
            if keeping is not None:
                write_checkpoint(keeping.path, whose, state_of(parts, history))
            watch(history[-1])
    student.eval()
    return tuple(history)


class _Learner:
    """A student, the critic beside it, and their optimisers: networks apart, so no weight between their losses."""

    def __init__(self, student: Mlp, config: KickstartConfig) -> None:
        self._student, self._config = student, config
        self._critic = _critic(student)
        self._rng = np.random.default_rng([config.seed, 1])
        self._optimizers = [
            torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=1e-5)
            for network in (student, self._critic)
        ]

    def parts(self, actors: Actors) -> Parts:
        """What a checkpoint holds, beside these simulators."""
        return Parts((self._student, self._critic), self._optimizers, self._rng, actors)

    def learn(self, rollout: Rollout, told_BA: Tensor | None, weight: float, rate: float) -> float | None:
        """A few passes over what was played; KL(teacher || student) before them."""
        config = self._config
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate
        seen_BD = torch.from_numpy(rollout.flat(rollout.observations_TED))
        action_B = torch.from_numpy(rollout.flat(rollout.actions_TE))
        advantage_B, target_B = self._judged(rollout)
        with torch.no_grad():
            old_BA = torch.log_softmax(self._student(seen_BD), dim=-1)
            before = None if told_BA is None else float(_kl_nats(old_BA, told_BA).mean())
        old_B = old_BA.gather(1, action_B[:, None]).squeeze(1)
        size = -(-len(action_B) // config.minibatches)
        for _ in range(config.epochs):
            order = torch.from_numpy(self._rng.permutation(len(action_B)))
            for rows in order.split(size):
                told = None if told_BA is None else told_BA[rows]
                loss = self._policy_loss(seen_BD[rows], action_B[rows], advantage_B[rows], old_B[rows], told, weight)
                self._step(0, loss, self._student)
                missed_B = self._critic(seen_BD[rows]).squeeze(1) - target_B[rows]
                self._step(1, missed_B.square().mean(), self._critic)
        return before

    def _judged(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantages, brought to mean 0 and deviation 1 in the loss, and what the critic should have said."""
        values_TE, next_TE = (
            self._values(some_TED) for some_TED in (rollout.observations_TED, rollout.next_observations_TED)
        )
        config = self._config
        found_TE = advantages(
            *(rollout.rewards_TE, values_TE, next_TE, rollout.ended_TE, rollout.cut_TE),
            discount=config.discount,
            mixture=config.mixture,
        )
        flat = (rollout.flat(array).astype(np.float32) for array in (found_TE, found_TE + values_TE))
        advantage_B, target_B = map(torch.from_numpy, flat)
        return advantage_B, target_B

    def _values(self, some_TED: Floats) -> NDArray[np.float64]:
        with torch.no_grad():
            found: NDArray[np.float64] = self._critic(torch.from_numpy(some_TED)).squeeze(-1).double().numpy()
        return found

    def _policy_loss(
        self, seen_BD: Tensor, action_B: Tensor, advantage_B: Tensor, old_B: Tensor, told: Tensor | None, weight: float
    ) -> Tensor:
        config = self._config
        log_p_BA = torch.log_softmax(self._student(seen_BD), dim=-1)
        ratio_B = (log_p_BA.gather(1, action_B[:, None]).squeeze(1) - old_B).exp()
        scaled_B = (advantage_B - advantage_B.mean()) / (advantage_B.std(correction=0) + 1e-8)
        loss = clipped_loss(ratio_B, scaled_B, config.clip).mean()
        loss = loss + config.entropy * (log_p_BA.exp() * log_p_BA).sum(-1).mean()
        return loss if told is None else loss + weight * _kl_nats(log_p_BA, told).mean()

    def _step(self, which: int, loss: Tensor, network: Any) -> None:
        optimizer = self._optimizers[which]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(network.parameters(), self._config.largest_gradient))
        if not (math.isfinite(norm) and math.isfinite(float(loss.detach()))):
            raise Diverged(
                f"The loss is {float(loss.detach())} and its gradient's norm {norm}: the training diverged. Give a "
                f"smaller learning rate than {self._config.learning_rate:g}."
            )
        optimizer.step()


def clipped_loss(ratio_B: Tensor, advantage_B: Tensor, clip: float) -> Tensor:
    """``-min(r A, clamp(r, 1 - clip, 1 + clip) A)``, shape (B,) (arXiv 1707.06347, equation 7)."""
    return -torch.minimum(ratio_B * advantage_B, ratio_B.clamp(1 - clip, 1 + clip) * advantage_B)


def _kl_nats(log_p_BA: Tensor, told_BA: Tensor) -> Tensor:
    return soft_rows(log_p_BA, told_BA, temperature=1.0, direction=Direction.FORWARD)


def _logits(student: Any, seen_ED: Floats) -> NDArray[np.float64]:
    with torch.no_grad():
        found: NDArray[np.float64] = student(torch.from_numpy(seen_ED)).double().numpy()
    return found


def _told(teacher: Teacher, seen_BD: Floats) -> Tensor:
    logits_BA = np.asarray(teacher(seen_BD), np.float32)
    if np.isnan(logits_BA).any() or (logits_BA == -np.inf).all(axis=1).any():
        raise ConfigError("The teacher's logits hold NaN, or -inf for all actions: they are no distribution.")
    return torch.from_numpy(logits_BA)


def _must_fit(student: Mlp, seen_ED: Floats, teacher: Teacher | None) -> None:
    """Shapes that do not fit are told before anything is played."""
    wide, actions = student.shape.sizes[0], student.shape.sizes[-1]
    if seen_ED.shape[1] != wide:
        raise ConfigError(f"The environment shows {seen_ED.shape[1]} numbers, the student takes {wide}.")
    told = None if teacher is None else np.asarray(teacher(seen_ED)).shape
    if told is not None and told != (len(seen_ED), actions):
        raise ConfigError(
            f"The teacher answers {len(seen_ED)} observations with the shape {told}, the student has {actions} "
            "actions: their action spaces differ."
        )


def _critic(student: Mlp) -> Any:
    """As wide as the student, with the same view of the observations, and one number out."""
    sizes: Sequence[int] = (*student.shape.sizes[:-1], 1)
    layers: list[Any] = [_Normal(student)]
    for wide, out in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, out), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], 1))


class _Normal(Module):
    def __init__(self, student: Mlp) -> None:
        super().__init__()
        self._of = (student.normalised,)  # a tuple, so that the student's parts are not the critic's

    def forward(self, x_BD: Tensor) -> Tensor:
        return self._of[0](x_BD)
