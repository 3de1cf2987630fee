"""PyTorch underneath ``torch_lm``: prefixes that are evaluated once, trees of actions in one pass, decoding.

Knows: token ids in, log-probabilities and token ids out. Keeps the key-value caches of the last few prompts, so that a
prompt that continues (or shares the beginning of) an earlier one costs only its new tokens. Does not know texts,
messages or requests. Not for use from two threads at once.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.errors import ContextOverflow
from potstill.models.convert import load_transformers, offline
from potstill.models.likelihood import Tokens, children

CHUNK_TOKENS = 256
"""Prompt tokens a pass: cancelling takes effect between passes."""
KEPT_PROMPTS = 4
SHARED_TOKENS = 32
"""A shared beginning shorter than this is not worth a copy."""
KEPT_SCORES = 10_000
"""Scored prompts whose numbers are kept, about a kilobyte each. An agent that goes round in a circle, and arms or seeds
that come through the same states, ask the same question again."""

Check = Callable[[], None]
"""Called between passes; raises to stop."""


def set_threads(count: int) -> None:
    """Let PyTorch use so many threads, in this whole process."""
    importlib.import_module("torch").set_num_threads(count)


def load_model(folder: Path) -> Any:
    """A checkpoint's model in float32, ready to answer."""
    transformers, torch = load_transformers(), importlib.import_module("torch")
    with offline():
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return model.eval()


class Prefix:
    """Tokens that were evaluated, and what the model remembers of them."""

    def __init__(self, tokens: list[int], cache: Any) -> None:
        self.tokens, self.cache = tokens, cache

    def crop(self, length: int) -> None:
        """Forget what comes after the first ``length`` tokens."""
        surplus = self.cache.get_seq_length() - length
        if surplus > 0:
            self.cache.crop(-surplus)
        del self.tokens[length:]


class TorchEngine:
    """A causal language model in float32 on the CPU, with its prefixes."""

    def __init__(self, model: Any) -> None:
        """``model``: a causal language model of transformers, in evaluation mode where it is asked."""
        transformers = load_transformers()
        self.torch: Any = importlib.import_module("torch")
        self.model = model
        self._new_cache: Any = transformers.DynamicCache
        config = self.model.config
        self.context_tokens = int(config.max_position_embeddings)
        self.ends = token_ids(self.model.generation_config.eos_token_id)
        self._kinds = set(getattr(config, "layer_types", None) or ())
        self._window: int | None = getattr(config, "sliding_window", None)
        self._prefixes: list[Prefix] = []
        self._scores: dict[bytes, array[float]] = {}

    def score(
        self, prompt: Sequence[int], actions: Mapping[str, Tokens], check: Check
    ) -> tuple[dict[Tokens, float], int]:
        """The log-probability of the last token of every beginning of an action; how many prompt tokens were cached.

        One pass over the whole tree: each node attends to the prompt and its own ancestors, so that nothing is
        evaluated twice (the tree attention of SpecInfer, arXiv 2305.09781 section 4.2, used for scoring). A question
        that was asked before is answered from memory, all of its prompt counted as cached.
        """
        tree = children(actions)
        nodes = sorted(tree, key=lambda node: (len(node), node))
        edges = [(row, node, token) for row, node in enumerate(nodes) for token in sorted(tree[node])]
        beginnings = [(*node, token) for _, node, token in edges]
        self._fits(len(prompt) + max(map(len, actions.values())))
        key = _digest([prompt, *beginnings])
        if key in self._scores:
            return dict(zip(beginnings, self._scores[key], strict=True)), len(prompt)
        with self.torch.inference_mode():
            prefix, cached = self._prefix(prompt, check)
            logprobs_NV = self._tree(prefix, prompt[-1], nodes)
            prefix.crop(len(prompt) - 1)
        scores = array("d", (float(logprobs_NV[row, token]) for row, _, token in edges))
        if len(self._scores) >= KEPT_SCORES:
            del self._scores[next(iter(self._scores))]
        self._scores[key] = scores
        return dict(zip(beginnings, scores, strict=True)), cached

    def clear(self) -> None:
        """Forget all prefixes and scores."""
        self._prefixes.clear()
        self._scores.clear()

    def _tree(self, prefix: Prefix, last: int, nodes: Sequence[Tokens]) -> Any:
        """Next-token log-probabilities after each node, shape (nodes, vocabulary). The first node is the root."""
        torch, start = self.torch, len(prefix.tokens)
        index = {node: row for row, node in enumerate(nodes)}
        sees = torch.zeros(len(nodes), start + len(nodes), dtype=torch.bool)
        sees[:, :start] = True
        for row, node in enumerate(nodes):
            for depth in range(len(node) + 1):
                sees[row, start + index[node[:depth]]] = True
        positions = torch.tensor([start + len(node) for node in nodes])
        key_positions = torch.cat([torch.arange(start), positions])
        output = self.model(
            input_ids=torch.tensor([[node[-1] if node else last for node in nodes]]),
            attention_mask=self._masks(sees, positions, key_positions),
            position_ids=positions[None],
            past_key_values=prefix.cache,
            use_cache=True,
        )
        return torch.log_softmax(output.logits[0].float(), dim=-1)

    def _masks(self, sees: Any, queries: Any, keys: Any) -> Any:
        """The additive mask, one for each kind of attention where the model mixes full and sliding windows."""
        torch = self.torch

        def additive(allowed: Any) -> Any:
            mask = torch.zeros(allowed.shape, dtype=torch.float32)
            return mask.masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]

        if "sliding_attention" not in self._kinds:
            return additive(sees)
        near = sees & (queries[:, None] - keys[None, :] < (self._window or 1 << 30))
        return {"full_attention": additive(sees), "sliding_attention": additive(near)}

    def _prefix(self, prompt: Sequence[int], check: Check) -> tuple[Prefix, int]:
        """The evaluated prompt without its last token, and how much of it was there before."""
        wanted = list(prompt[:-1])
        prefix = self._nearest(wanted)
        cached = len(prefix.tokens)
        for at in range(cached, len(wanted), CHUNK_TOKENS):
            check()
            chunk = wanted[at : at + CHUNK_TOKENS]
            self._forward(prefix, [chunk])
            prefix.tokens += chunk
        return prefix, cached

    def _forward(self, prefix: Prefix, rows: list[list[int]]) -> Any:
        ids = self.torch.tensor(rows)
        return self.model(input_ids=ids, past_key_values=prefix.cache, use_cache=True, logits_to_keep=1).logits

    def _nearest(self, wanted: list[int]) -> Prefix:
        """The kept prefix that shares most, cropped to what it shares; a copy if that would cost it much."""
        best, shared = None, 0
        for prefix in self._prefixes:
            common = _common(prefix.tokens, wanted)
            if common > shared:
                best, shared = prefix, common
        if best is None or shared < SHARED_TOKENS:
            chosen = Prefix([], self._new_cache())
        elif shared * 10 >= len(best.tokens) * 8:
            self._prefixes.remove(best)
            chosen = best
        else:
            chosen = copy.deepcopy(best)
        chosen.crop(shared if chosen.tokens else 0)
        self._prefixes = [*self._prefixes[-(KEPT_PROMPTS - 1) :], chosen]
        return chosen

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
        """``n`` continuations as (token, log-probability) pairs, and how many prompt tokens were cached.

        ``ended(row, tokens)`` says after each token whether that sample is complete. Log-probabilities are those
        before the temperature.
        """
        torch = self.torch
        self._fits(len(prompt) + max_tokens)
        samples: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        done = [False] * n
        generator = torch.Generator().manual_seed(seed % 2**63)
        with torch.inference_mode():
            prefix, cached = self._prefix(prompt, check)
            rows = copy.deepcopy(prefix)
            if n > 1 and rows.tokens:
                rows.cache.batch_repeat_interleave(n)
            last = [prompt[-1]] * n
            for _ in range(max_tokens):
                check()
                logprobs_NV = torch.log_softmax(self._forward(rows, [[token] for token in last])[:, -1].float(), dim=-1)
                last = self._pick(logprobs_NV, temperature, generator)
                for row in range(n):
                    if not done[row]:
                        samples[row].append((last[row], float(logprobs_NV[row, last[row]])))
                        done[row] = ended(row, [token for token, _ in samples[row]])
                if all(done):
                    break
        return samples, cached

    def _pick(self, logprobs_NV: Any, temperature: float, generator: Any) -> list[int]:
        if temperature <= 0:
            picked = logprobs_NV.argmax(dim=-1)
        else:
            weights = self.torch.softmax(logprobs_NV / temperature, dim=-1)
            picked = self.torch.multinomial(weights, 1, generator=generator)[:, 0]
        return [int(token) for token in picked]

    def _fits(self, tokens: int) -> None:
        if tokens > self.context_tokens:
            raise ContextOverflow(
                f"The prompt and its answer have up to {tokens} tokens, the model takes {self.context_tokens}. "
                f"Shorten the prompt."
            )


def token_ids(value: int | list[int] | None) -> set[int]:
    """What a configuration says of the tokens that end an answer: none, one or several."""
    return set() if value is None else {value} if isinstance(value, int) else set(value)


def _digest(texts: Sequence[Sequence[int]]) -> bytes:
    """Names token sequences. Each is preceded by its length, so that no two lists read the same."""
    found = hashlib.sha256()
    for tokens in texts:
        found.update(array("q", [len(tokens), *tokens]).tobytes())
    return found.digest()


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the shared beginning."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
