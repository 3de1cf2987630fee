"""The training loop: batches in an order that seed and epoch give, AdamW, early stopping, checkpoints.

It knows steps. It does not know networks, what inputs are, or how an episode is played: the network, the data and the
evaluator come in. A killed run that goes on from its checkpoint ends with the same bytes as one that was never killed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights.policies.batch import Examples, Graded, Grouped, Integers
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.distill.weights.train.adaptive import learnt, shown_at
from potstill.distill.weights.train.checkpoint import read_checkpoint, write_checkpoint
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.interrupts import deferred
from potstill.distill.weights.train.objectives import Standing, check_batch, standing_of, step_loss
from potstill.distill.weights.train.progress import Look, Progress
from potstill.distill.weights.train.schedule import rate_at, rows_of
from potstill.errors import ConfigError, PotstillError

torch = load_torch()

Evaluator = Callable[[Any], float]
"""The share of successes that a network (in evaluation mode) reaches, in [0, 1]."""


Gradients = Callable[[Any, Examples, Integers, TrainConfig, Standing], tuple[float, list[float]]]
"""Leaves the gradient of some rows in a network's parameters; gives their loss, and a mix's mean norms."""


class Diverged(PotstillError):
    """The loss or its gradient is no number any more."""


class Ended(StrEnum):
    ALL_STEPS = "all-steps"
    PATIENCE = "patience"
    """No better evaluation for as long as the configuration waits."""


class Keeping(NamedTuple):
    """Where the checkpoint goes, how often, and whether to go on from one that is there."""

    path: Path
    every_steps: int = 200
    every_s: float = 30.0
    resume: bool = False


class Trained(NamedTuple):
    """How it went. The network holds the best weights."""

    steps: int
    best_step: int
    best: float | None
    """Of ``measured_by`` at ``best_step``; None where nothing was held out."""
    measured_by: str
    """``success``, ``agreement`` or ``nothing``."""
    ended: Ended
    history: tuple[Look, ...]
    others_cpu_s: float = 0.0
    """CPU seconds of other processes."""


def alone(
    network: Any, data: Examples, rows: Integers, config: TrainConfig, standing: Standing
) -> tuple[float, list[float]]:
    """The gradient by this process. Satisfies ``Gradients``."""
    loss, norms = step_loss(network, data.batch(rows), config, standing)
    loss.backward()
    return float(loss.detach()), norms


def train(
    network: Module,
    data: Examples,
    config: TrainConfig,
    *,
    held_out: Examples | None = None,
    evaluate: Evaluator | None = None,
    keeping: Keeping | None = None,
    identity: Mapping[str, str] | None = None,
    watch: Callable[[Progress, int], None] = lambda progress, total: None,
    clock: Callable[[], float] = time.monotonic,
    gradients: Gradients = alone,
) -> Trained:
    """Train until the steps or the patience end, and leave the best weights in the network.

    Best: most successes where ``evaluate`` is given, else most held-out decisions that agree with the teacher's, else
    the last. ``identity`` says what else a checkpoint depends on (the network's shape). ``gradients``: who computes
    them, where that is not this process alone. Raises ``ConfigError`` for data that teach nothing and for another
    training's checkpoint, ``Diverged`` for a loss that is no number, and what ``gradients`` raises.
    ``KeyboardInterrupt`` comes after the step or the evaluation, when its checkpoint is written; the second at once.
    """
    _must_teach(data, held_out)
    if config.processes > 1 and gradients is alone:
        raise ConfigError(f"processes is {config.processes}, and this student is trained by one: --processes 1")
    easiest = _easiest_first(data, held_out, config)
    total, every = config.total(len(data)), config.looks_every(len(data))
    told = _identity(config, data, held_out, evaluate, identity or {})
    with torch.random.fork_rng(devices=[]), threads(config.threads), deferred() as interrupted:
        torch.manual_seed(config.seed)
        # In one kernel AdamW saves a sixth of a small network's step (bench/weights_throughput.py).
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=config.weight_decay, fused=True)
        progress = Progress()
        if keeping is not None and keeping.resume:
            progress = _restore(read_checkpoint(keeping.path, told), network, optimizer)
        check_batch(network, data.batch(np.arange(min(len(data), config.batch), dtype=np.int64)), config)
        kept_at = clock()

        def keep() -> None:
            nonlocal kept_at
            kept_at = clock()
            if keeping is not None:
                write_checkpoint(keeping.path, told, _state(network, optimizer, progress))

        while True:
            if interrupted():
                keep()
                raise KeyboardInterrupt
            at_end = progress.step >= total
            if progress.looked_at < progress.step and (at_end or progress.step % every == 0):
                if evaluate is not None or at_end:
                    keep()  # a look may take minutes, and a second Ctrl-C or a kill may come in between
                _look(network, progress, held_out, evaluate)
                watch(progress, total)
                if evaluate is not None:
                    keep()
            if at_end or progress.waited(config.patience):
                break
            rows = _rows(progress, len(data), config, easiest)
            rate = _rate(progress.step, total, config)
            progress.stepped(_step(network, data, rows, optimizer, rate, config, progress, gradients))
            watch(progress, total)
            if keeping is not None and _due(keeping, progress.step, clock() - kept_at):
                keep()
        keep()
        ended = Ended.ALL_STEPS if progress.step >= total else Ended.PATIENCE
    if progress.best_weights is not None:
        network.load_state_dict(progress.best_weights)
    network.eval()
    measured = "success" if evaluate is not None else "agreement" if held_out is not None else "nothing"
    return Trained(progress.step, progress.best_step, progress.best, measured, ended, tuple(progress.history))


def agreement_of(network: Any, data: Examples, *, batch: int = 256) -> float:
    """Share of decisions in which the network's first choice is the teacher's action.

    Of several environments it is the mean of their shares: one with many decisions does not drown the others.
    """
    same = agrees(network, data, batch=batch)
    groups = data.groups if isinstance(data, Grouped) else None
    if groups is None:
        return sum(same) / len(same)
    return float(np.mean(np.bincount(groups, weights=same) / np.bincount(groups)))


def agrees(network: Any, data: Examples, *, batch: int = 256) -> list[bool]:
    """Whether the network's first choice is the teacher's action, decision by decision."""
    network.eval()
    same = list[bool]()
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            part = data.batch(np.arange(start, min(start + batch, len(data)), dtype=np.int64))
            logits_BA = network(part.inputs)
            if part.mask_BA is not None:
                logits_BA = logits_BA.masked_fill(~part.mask_BA, -math.inf)
            same += (logits_BA.argmax(dim=-1) == part.target_B).tolist()
    return same


# --- one step -------------------------------------------------------------------------------------------------------


def _rate(step: int, total: int, config: TrainConfig) -> float:
    return rate_at(step, total, peak=config.learning_rate, schedule=config.schedule, warmup=config.warmup)


def _rows(progress: Progress, decisions: int, config: TrainConfig, easiest: Integers | None) -> Integers:
    """The step's decisions: of all, or of the easiest ones as far as a curriculum has come."""
    if easiest is None or config.adaptive is None:
        return rows_of(progress.step, decisions=decisions, batch=config.batch, seed=config.seed)
    shown = shown_at(decisions, config.adaptive, learnt(progress.history), least=config.batch)
    return easiest[rows_of(progress.step, decisions=shown, batch=config.batch, seed=config.seed)]


def _step(
    network: Any,
    data: Examples,
    rows: Integers,
    optimizer: Any,
    rate: float,
    config: TrainConfig,
    progress: Progress,
    gradients: Gradients,
) -> float:
    if not network.training:
        network.train()
    # One step of a small network is short. The optimizer's list of parameters is at hand, where a walk through the
    # network's modules takes as long as a forward pass.
    (group,) = optimizer.param_groups
    group["lr"] = rate
    for value in group["params"]:
        value.grad = None
    value, progress.norms = gradients(network, data, rows, config, standing_of(progress, config))
    norm = float(torch.nn.utils.clip_grad_norm_(group["params"], config.clip))
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise Diverged(
            f"At step {progress.step + 1} the loss is {value} and its gradient's norm {norm} (learning rate "
            f"{rate:.2g}): the training diverged. The last checkpoint is kept. Give a smaller learning rate, or look "
            "for values in the data that are no numbers."
        )
    optimizer.step()
    return value


def _look(network: Any, progress: Progress, held_out: Examples | None, evaluate: Evaluator | None) -> None:
    """Measure the network and keep its weights if it is the best so far. Draws none of the loop's random numbers."""
    with torch.random.fork_rng(devices=[]):
        agreement = None if held_out is None else agreement_of(network, held_out)
        network.eval()
        success = None if evaluate is None else evaluate(network)
    if progress.looked(agreement, success):
        progress.best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}


# --- before and between ---------------------------------------------------------------------------------------------


def _must_teach(data: Examples, held_out: Examples | None) -> None:
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    if held_out is not None and len(held_out) == 0:
        raise ConfigError("No decision is held out, so nothing says when to stop. Hold more tasks out, or none.")


def _easiest_first(data: Examples, held_out: Examples | None, config: TrainConfig) -> Integers | None:
    """The decisions by difficulty where a curriculum wants them so. Raises ``ConfigError`` where nothing can adapt."""
    if config.adaptive is None:
        return None
    if held_out is None:
        raise ConfigError("Adaptive rules follow what is learnt of held-out decisions, and none is held out.")
    if config.adaptive.curriculum is None:
        return None
    if not isinstance(data, Graded):
        raise ConfigError("A curriculum needs data that know which decisions are easy, and these do not.")
    return data.easiest_first()


def _due(keeping: Keeping, step: int, passed_s: float) -> bool:
    return step % keeping.every_steps == 0 or passed_s >= keeping.every_s


def _identity(
    config: TrainConfig,
    data: Examples,
    held_out: Examples | None,
    evaluate: Evaluator | None,
    more: Mapping[str, str],
) -> dict[str, str]:
    settings = {name: msgspec.json.encode(value).decode() for name, value in msgspec.structs.asdict(config).items()}
    held = "nothing" if held_out is None else held_out.digest
    judged = "agreement" if evaluate is None else getattr(evaluate, "name", "success")
    return {**settings, "data": data.digest, "held-out data": held, "evaluator": judged, **more}


def _state(network: Any, optimizer: Any, progress: Progress) -> dict[str, Any]:
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "best": progress.best_weights,
        "progress": progress.numbers(),
    }


def _restore(content: Mapping[str, Any], network: Any, optimizer: Any) -> Progress:
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["generator"])
    return Progress.restored(content["progress"], content["best"])


class threads:
    """So many threads of PyTorch while it lasts."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._count)

    def __exit__(self, *exc: object) -> None:
        torch.set_num_threads(self._before)
