"""A language model with adapters as the network that the training loop trains: its weights are the adapters' alone.

Two kinds of batches go in: ``Spans``, whose logits are those of the learnt tokens only (the head sees no other
position), and ``Choices``, whose logits are the log-probabilities of the candidates, computed as the student computes
them when it acts. Knows PEFT's model. Does not know texts or losses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.lm.tokens import Choices, Spans
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.models.likelihood import ranked
from potstill.models.torch_engine import TorchEngine
from potstill.models.tuned import load_peft

torch = load_torch()


class LmNetwork(Module):
    """A model of transformers, as it is or with adapters. Letters as in ``tokens``; V entries of the vocabulary."""

    def __init__(self, model: Any, base: Any | None = None) -> None:
        """``model``: what is trained and kept, in those weights that need gradients; ``base``: the model of
        transformers within, where PEFT has put its own around it."""
        super().__init__()
        self.peft = model
        self.engine = TorchEngine(model if base is None else base)

    def forward(self, inputs: Spans | Choices) -> Any:
        """``Spans``: logits (N, V). ``Choices``: log-probabilities (B, A), ``-inf`` behind the last candidate."""
        return self._tokens(inputs) if isinstance(inputs, Spans) else self._scores(inputs)

    def _tokens(self, inputs: Spans) -> Any:
        positions_BT = (inputs.mask_BT.cumsum(-1) - 1).clamp(min=0)
        logits_BKV = self.engine.model(
            input_ids=inputs.ids_BT,
            attention_mask=inputs.mask_BT,
            position_ids=positions_BT,
            use_cache=False,
            logits_to_keep=inputs.keep_K,
        ).logits
        return logits_BKV[inputs.where_N2[:, 0], inputs.where_N2[:, 1]]

    def _scores(self, inputs: Choices) -> Any:
        self.engine.clear()  # the weights may have changed since the last question
        width = max(map(len, inputs.candidates))
        scores_BA = torch.full((len(inputs.prompts), width), -math.inf)
        for at, (prompt, candidates) in enumerate(zip(inputs.prompts, inputs.candidates, strict=True)):
            before = prompt if inputs.thinking is None else inputs.thinking.after(self.engine, prompt)
            named = {str(place): tokens for place, tokens in enumerate(candidates)}
            steps, _ = self.engine.score(before, named, _go_on)
            for place, score in ranked(named, steps):
                scores_BA[at, int(place)] = score
        self.engine.clear()
        return scores_BA

    # --- what is trained and kept -----------------------------------------------------------------------------------

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The adapters' weights, in a fixed order."""
        return (value for _, value in self.named_parameters())

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """The same, by the names that PEFT or transformers give them."""
        return ((name, value) for name, value in self.peft.named_parameters() if value.requires_grad)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The adapters' alone: a checkpoint need not repeat the base."""
        return dict(self.named_parameters())

    def load_state_dict(self, state: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for name, value in self.state_dict().items():
                value.copy_(state[name])

    def save(self, folder: Path) -> None:
        """The adapters as PEFT writes them, without the name of a folder of this machine."""
        config = self.peft.peft_config["default"]
        config.base_model_name_or_path = ""
        self.peft.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)


def new_network(model: Any, recipe: LmRecipe) -> LmNetwork:
    """A model of transformers with fresh adapters, which at first change nothing (their second half is zero)."""
    peft = load_peft()
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an older name
            adapted = peft.get_peft_model(model, config)
            return LmNetwork(adapted, adapted.get_base_model())


def _go_on() -> None:
    """Nobody stops an evaluation between two passes."""
