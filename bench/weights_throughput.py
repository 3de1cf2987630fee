"""What our training loop costs beside plain PyTorch and torchdistill for the same step.

    python bench/weights_throughput.py [--blocks 15] [--steps 1000] [--ranker-steps 100]

The step of the perceptrons: a batch of decisions out of arrays in a shuffled order, forward pass, KL to the teacher at
temperature 2 with T² mixed with a tenth of cross-entropy, backward pass, clipping, AdamW at a rate that a schedule
gives. *Plain* is that as a script by hand, without checks, checkpoints, looks at held-out data or a reproducible order,
with AdamW as PyTorch gives it; *fused* has AdamW in one kernel, as ours has;
*ours* is ``distill.weights.train.loop.train``, its start and end included. Torchdistill (PyPI) takes part where it is
installed: with batches handed to its box, and with its own loader.

The ranker (about 100 thousand parameters, orders of house-rules, the teacher's action alone) has no counterpart
elsewhere: network and batches are ours on both sides, so that only the loop is compared.

Each round times a block of steps of each, every other round backwards; CPU time is counted. A ratio is the median of
the rounds' ratios, its interval resamples rounds. All begin with the same weights and one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import _results
import _ways as ways
from _torchdistill import Block, Step, sequential, torchdistill, version
from potstill.distill.weights.losses.config import Loss
from potstill.distill.weights.policies.batch import Examples
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.ranker import RankerShape, new_ranker, ranker_shape
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.distill.weights.train.schedule import rate_at

DECISIONS, NUMBERS, ACTIONS = 12_000, 8, 4
STEP = Step()
SIZES = {"8-64-4": (8, 64, 4), "8-256-256-4": (8, 256, 256, 4)}
PLAIN, FUSED = "plain PyTorch", "plain PyTorch, fused AdamW"
ORDERS, WIDTH = 100, 64


class Race(NamedTuple):
    """Who trains the same network, and how many steps a block has."""

    network: str
    parameters: int
    blocks: dict[str, Block]
    steps: int


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for race in races(options):
        found = timed(race.blocks, options.blocks, race.steps)
        for tool, seconds in found.items():
            told = {"network": race.network, "parameters": race.parameters, "tool": tool, "steps_a_block": race.steps}
            us_a_step = 1e6 * float(np.median(seconds)) / race.steps
            rows.append({**told, "us_a_step": us_a_step, **ratio(seconds, found[PLAIN])})
            print(rows[-1], flush=True)
    extra = {
        **{"batch": STEP.batch, "decisions": DECISIONS, "torch": torch.__version__, "torchdistill": version()},
        **{"time": "CPU time of the process", "ratio": "median of the rounds' ratios to plain PyTorch"},
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_throughput", rows, n=options.blocks, extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15, help="of each, alternating")
    parser.add_argument("--steps", type=int, default=1000, help="of a perceptron's block")
    parser.add_argument("--ranker-steps", type=int, default=100, help="of a ranker's block")
    return parser.parse_args()


def races(options: argparse.Namespace) -> Iterator[Race]:
    given = arrays()
    for name, sizes in SIZES.items():
        by_script = {PLAIN: plain(sizes, given), FUSED: plain(sizes, given, fused=True)}
        blocks = {**by_script, "potstill": ours(sizes, given), **torchdistill(sizes, given, STEP)}
        yield Race(name, count(sequential(sizes)), blocks, options.steps)
    yield ranker(options.ranker_steps)


def count(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def timed(blocks: dict[str, Block], rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU seconds of every block; the first round warms up. Every other round goes backwards."""
    found: dict[str, list[float]] = {tool: [] for tool in blocks}
    for number in range(rounds + 1):
        order = list(blocks)
        for tool in order if number % 2 else reversed(order):
            started = time.process_time()
            blocks[tool](steps)
            if number:
                found[tool].append(time.process_time() - started)
    return found


def ratio(ours_s: Sequence[float], theirs_s: Sequence[float]) -> dict[str, Any]:
    ratios = np.array(ours_s) / np.array(theirs_s)
    drawn = np.median(ratios[np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"ratio": float(np.median(ratios)), "ratio_ci": [float(low), float(high)]}


# --- who trains a perceptron ----------------------------------------------------------------------------------------

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def arrays() -> Arrays:
    """Observations, the teacher's logits and its actions: a teacher of random weights."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(DECISIONS, NUMBERS)).astype(np.float32)
    logits = np.tanh(seen @ rng.normal(size=(NUMBERS, 32))) @ rng.normal(size=(32, ACTIONS))
    return seen, logits.astype(np.float32), logits.argmax(axis=1)


def ours(sizes: tuple[int, ...], given: Arrays) -> Block:
    seen, logits, actions = given
    data = VectorExamples(seen, actions, action_count=ACTIONS, logits=logits)
    loss = Loss(temperature=STEP.temperature, hard_share=STEP.hard)

    def block(steps: int) -> None:
        train(new_mlp(MlpShape(sizes=sizes), seed=0), data, config_of(steps, loss=loss))

    return block


def config_of(steps: int, **more: Any) -> TrainConfig:
    return TrainConfig(steps=steps, evaluate_every=steps + 1, patience=0, batch=STEP.batch, **more)


def plain(sizes: tuple[int, ...], given: Arrays, *, fused: bool = False) -> Block:
    seen, logits, actions = (torch.from_numpy(array) for array in given)

    def block(steps: int) -> None:
        def loss_of(network: nn.Module, rows: Any) -> Any:
            student, teacher = network(seen[rows]), logits[rows]
            soft = functional.kl_div(
                functional.log_softmax(student / STEP.temperature, dim=1),
                functional.log_softmax(teacher / STEP.temperature, dim=1),
                reduction="batchmean",
                log_target=True,
            )
            hard = functional.cross_entropy(student, actions[rows])
            return STEP.hard * hard + (1 - STEP.hard) * STEP.temperature**2 * soft

        by_hand(sequential(sizes), DECISIONS, steps, loss_of, fused=fused)

    return block


def by_hand(
    network: nn.Module, decisions: int, steps: int, loss_of: Callable[[nn.Module, Any], Any], *, fused: bool = False
) -> None:
    """A script's loop, whatever the network and its loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=STEP.rate, weight_decay=STEP.decay, fused=fused or None)
    order: Any = ()
    for step in range(steps):
        at = step % max(1, len(order))
        if at == 0:
            order = torch.randperm(decisions).split(STEP.batch)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, peak=STEP.rate, schedule="cosine", warmup=50)
        loss = loss_of(network, order[at])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), STEP.clip)
        optimizer.step()


# --- who trains a ranker --------------------------------------------------------------------------------------------


def ranker_data() -> tuple[RankerShape, TextExamples]:
    world = ways.world(0, ORDERS, 0)
    decisions = ways.decisions_of([ways.play(task, ways.expert, "expert") for task in world.train])
    shape = ranker_shape(vocabulary_of(decisions), WIDTH)
    return shape, TextExamples(decisions, shape.words())


def ranker(steps: int) -> Race:
    shape, data = ranker_data()

    def fresh() -> Any:
        return new_ranker(shape, seed=0)

    def our_block(steps: int) -> None:
        train(fresh(), data, config_of(steps))

    def script(*, fused: bool) -> Block:
        return lambda steps: by_hand(fresh(), len(data), steps, loss_of, fused=fused)

    def loss_of(network: nn.Module, rows: Any) -> Any:
        return cross_entropy(network, data, rows)

    blocks: dict[str, Block] = {PLAIN: script(fused=False), FUSED: script(fused=True), "potstill": our_block}
    return Race(f"ranker of width {WIDTH}", count(fresh()), blocks, steps)


def cross_entropy(network: nn.Module, data: Examples, rows: Any) -> Any:
    batch = data.batch(rows.numpy())
    logits = network(batch.inputs).masked_fill(~batch.mask_BA, -torch.inf)
    return functional.cross_entropy(logits, batch.target_B)


if __name__ == "__main__":
    main()
