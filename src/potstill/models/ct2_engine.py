"""CTranslate2 underneath a tuned student: int8 on a CPU, no PyTorch. What ``torch_lm`` asks of an engine.

Knows: token ids in, log-probabilities and token ids out. A prompt is read once for all candidates of a question, or for
all samples; nothing is kept from one question to the next. Does not know texts, messages or requests.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.edge.policy import log_softmax
from potstill.errors import BadModelFile, ContextOverflow, MissingExtra
from potstill.models.likelihood import Tokens
from potstill.models.torch_engine import Check


def load_ctranslate2() -> Any:
    """The package ``ctranslate2``. Raises ``MissingExtra``."""
    try:
        return importlib.import_module("ctranslate2")
    except ImportError:
        raise MissingExtra("CTranslate2", "ct2") from None


class Ct2Engine:
    """A causal language model in a folder of CTranslate2. Not for use from two threads at once."""

    def __init__(self, folder: Path, threads: int, context_tokens: int) -> None:
        """Raises ``BadModelFile`` for a folder that CTranslate2 does not load, ``MissingExtra``."""
        self._package = load_ctranslate2()
        try:
            self._generator: Any = self._package.Generator(str(folder), inter_threads=1, intra_threads=threads)
            self._names: list[str] = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            end: str = json.loads((folder / "config.json").read_text(encoding="utf-8"))["eos_token"]
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise BadModelFile(f"CTranslate2 cannot load {folder}: {' '.join(str(error).split())[:300]}") from None
        self.context_tokens = context_tokens
        self.ends = {self._names.index(end)} if end in self._names else set()

    def score(
        self, prompt: Sequence[int], actions: Mapping[str, Tokens], check: Check
    ) -> tuple[dict[Tokens, float], int]:
        """The log-probability of the last token of every beginning of an action; no prompt token was cached.

        The actions are written side by side behind one prompt, held to their own tokens.
        """
        longest = max(map(len, actions.values()))
        self._fits(len(prompt) + longest)
        check()
        found = self._after(prompt, [list(tokens) for tokens in actions.values()], max_length=longest)
        steps: dict[Tokens, float] = {}
        for tokens, result in zip(actions.values(), found, strict=True):
            for depth, token in enumerate(tokens):
                steps[tokens[: depth + 1]] = _logprob(result.logits[0][depth], token)
        return steps, 0

    def decode(
        self,
        prompt: Sequence[int],
        n: int,
        max_tokens: int,
        temperature: float,
        seed: int,
        ended: Callable[[int, list[int]], bool],
        check: Check,
    ) -> tuple[list[list[tuple[int, float]]], int]:
        """As ``TorchEngine.decode``; ``check`` is asked between tokens."""
        self._fits(len(prompt) + max_tokens)
        rows: list[list[int]] = [[] for _ in range(n)]
        stopped: list[BaseException] = []

        def told(step: Any) -> bool:
            try:
                check()
            except BaseException as error:  # raised again below: nothing may leave a callback of C++
                stopped.append(error)
                return True
            rows[step.batch_id].append(step.token_id)
            return ended(step.batch_id, list(rows[step.batch_id]))

        self._package.set_random_seed(seed % 2**32)
        sampled = {"sampling_topk": 0, "sampling_temperature": temperature} if temperature > 0 else {}
        found = self._after(prompt, [[]] * n, max_length=max_tokens, callback=told, **sampled)
        if stopped:
            raise stopped[0]
        return [
            [(token, _logprob(result.logits[0][at], token)) for at, token in enumerate(tokens)]
            for tokens, result in zip(rows, found, strict=True)
        ], 0

    def clear(self) -> None:
        """Nothing is kept."""

    def _after(self, prompt: Sequence[int], rows: Sequence[Sequence[int]], **options: Any) -> list[Any]:
        """What follows the prompt in each row, beginning with that row's tokens, with all logits."""
        before, last = self._named(prompt[:-1]), prompt[-1]
        return list(
            self._generator.generate_batch(
                [self._named([last, *row]) for row in rows],
                static_prompt=before or None,
                cache_static_prompt=False,
                return_logits_vocab=True,
                return_end_token=True,
                end_token=sorted(self.ends),
                **options,
            )
        )

    def _named(self, tokens: Sequence[int]) -> list[str]:
        return [self._names[token] for token in tokens]

    def _fits(self, tokens: int) -> None:
        if tokens > self.context_tokens:
            raise ContextOverflow(
                f"The prompt and its answer have up to {tokens} tokens, the model takes {self.context_tokens}. "
                "Shorten the prompt."
            )


def _logprob(logits_V: Any, token: int) -> float:
    values: NDArray[np.float64] = np.asarray(logits_V, np.float64).reshape(-1)
    return float(log_softmax(values)[token])
