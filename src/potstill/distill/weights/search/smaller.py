"""How a finished trial is pruned, and the words of the command that does the same to a file. Pure, without PyTorch."""

from __future__ import annotations

import shlex
from pathlib import Path

from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.search.trials import WHOLE, Variant
from potstill.distill.weights.train.recipe import Recipe

PRUNED = 0.5
"""Share of the units that are taken out of each axis."""
TUNING = 4
"""One of so many of the training's steps is made again after pruning."""


def compression(recipe: Recipe, decisions: int) -> Compression:
    """How a policy of the recipe, trained on so many decisions, is pruned and tuned."""
    train = recipe.train
    steps = max(1, train.total(decisions) // TUNING)
    return Compression(prune=(PRUNED,), finetune_steps=steps, batch=train.batch, seed=train.seed, threads=train.threads)


def command(file: Path, variant: Variant, how: Compression) -> str | None:
    """The command that makes of a policy's file what a variant is; None where the file is that."""
    if variant.plain:
        return None
    words = ["potstill", "compress", str(file), "--out", str(file.with_stem(file.stem + "-small"))]
    if variant.pruned:
        words += ["--prune", f"{variant.pruned:g}", "--finetune-steps", str(how.finetune_steps)]
        words += ["--batch", str(how.batch), "--seed", str(how.seed)]
    if variant.bits != WHOLE:
        words.append(f"--int{variant.bits}")
    return shlex.join(words)
