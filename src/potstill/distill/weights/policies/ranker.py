"""The ranker in PyTorch, for training: names, shapes and formulas are those of ``edge.ranker``, letter by letter.

Batched over decisions and padded candidates; what differs from the formulas is the order of work only (each distinct
text once, what all candidates of a decision share once). Dropout is the one thing that exists in training alone.
Letters as in ``texts``; t, e, k, h as in ``edge.ranker``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.policies.batch import Tensor
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.distill.weights.policies.texts import RankerInputs
from potstill.edge.ranker import SCALARS
from potstill.edge.words import Words
from potstill.types import Struct

torch = load_torch()
nn, functional = torch.nn, torch.nn.functional


class RankerShape(Struct, frozen=True, kw_only=True):
    """The configuration of ``edge.ranker``: how wide a ranker is and which words it has."""

    vocabulary: tuple[str, ...]
    buckets: int = 64
    embedding: int = 64
    width: int = 64
    ages: int = 64
    age: int = 8
    query: int = 32
    hidden: int = 128
    kind: str = "ranker"

    def words(self) -> Words:
        return Words(self.vocabulary, self.buckets)

    def config(self) -> dict[str, Any]:
        """The JSON object that stands in the policy's file."""
        return {**msgspec.structs.asdict(self), "vocabulary": list(self.vocabulary)}


def ranker_shape(vocabulary: Sequence[str], width: int = 64) -> RankerShape:
    """A shape from one dial: the others follow the width of a text (100 thousand parameters at 64 and 600 words)."""
    return RankerShape(
        vocabulary=tuple(vocabulary), embedding=width, width=width, query=max(4, width // 2), hidden=2 * width
    )


class Ranker(Module):
    """``forward`` gives a logit for each candidate, shape (B, N), and 0 for padding."""

    def __init__(self, shape: RankerShape, *, dropout: float = 0.1) -> None:
        super().__init__()
        s, self.shape = shape, shape
        self.embedding = nn.Embedding(len(shape.words()), s.embedding)
        self.text = nn.Linear(2 * s.embedding, s.width)
        self.age = nn.Embedding(s.ages, s.age)
        self.past = nn.Linear(2 * s.width + s.age, s.width)
        self.query = nn.Linear(3 * s.width, s.query, bias=False)
        self.key = nn.Linear(s.width, s.query, bias=False)
        self.nothing = nn.ParameterDict({"key": torch.zeros(s.query), "value": torch.zeros(s.width)})
        self.hidden = nn.Linear(7 * s.width + SCALARS, s.hidden)
        self.score = nn.Linear(s.hidden, 1)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.3)
        nn.init.normal_(self.age.weight, std=0.3)

    def forward(self, inputs: RankerInputs) -> Tensor:
        text_Ut = self.dropout(self._texts(inputs))
        c_BNt, g_Bt, o_Bt = (_rows(text_Ut, at) for at in (inputs.candidate_BN, inputs.goal_B, inputs.observation_B))
        there_BN = inputs.candidates_BN
        of_M = there_BN.nonzero()[:, 0]
        c_Mt, g_Mt, o_Mt = c_BNt[there_BN], _rows(g_Bt, of_M), _rows(o_Bt, of_M)
        hist_Mt = self._history(inputs, text_Ut, c_BNt, g_Bt, o_Bt)[there_BN]
        own = torch.cat([c_Mt, hist_Mt, c_Mt * g_Mt, c_Mt * o_Mt, c_Mt * hist_Mt, inputs.scalars_MS], dim=-1)
        t, weight = self.shape.width, self.hidden.weight
        of_own = torch.cat([weight[:, :t], weight[:, 3 * t :]], dim=1)
        shared_Bh = functional.linear(torch.cat([g_Bt, o_Bt], dim=-1), weight[:, t : 3 * t], self.hidden.bias)
        hidden_Mh = functional.relu(functional.linear(own, of_own) + _rows(shared_Bh, of_M))
        score_M = self.score(self.dropout(hidden_Mh)).squeeze(-1)
        return torch.zeros(there_BN.shape).masked_scatter(there_BN, score_M)

    def _texts(self, inputs: RankerInputs) -> Tensor:
        pooled = [
            functional.embedding_bag(inputs.words, self.embedding.weight, inputs.starts_U, mode=mode)
            for mode in ("mean", "max")
        ]
        return functional.relu(self.text(torch.cat(pooled, dim=-1))) * inputs.worded_U[:, None]

    def _history(self, inputs: RankerInputs, text_Ut: Tensor, c_BNt: Tensor, g_Bt: Tensor, o_Bt: Tensor) -> Tensor:
        """What each candidate's query finds among the past turns, shape (B, N, t)."""
        t, size = self.shape.width, len(g_Bt)
        age_BTa = self.age(torch.clamp(inputs.age_BT, max=self.shape.ages - 1))
        turn = [_rows(text_Ut, inputs.past_action_BT), _rows(text_Ut, inputs.past_observation_BT), age_BTa]
        past_BTt = functional.relu(self.past(torch.cat(turn, dim=-1)))
        values = torch.cat([self.nothing["value"].expand(size, 1, t), past_BTt], dim=1)
        keys = torch.cat([self.nothing["key"].expand(size, 1, self.shape.query), self.key(past_BTt)], dim=1)
        weight = self.query.weight
        shared_Bk = functional.linear(torch.cat([g_Bt, o_Bt], dim=-1), weight[:, t:])
        query_BNk = functional.linear(c_BNt, weight[:, :t]) + shared_Bk[:, None]
        asked = torch.bmm(query_BNk, keys.transpose(1, 2)) / math.sqrt(self.shape.query)
        there = functional.pad(inputs.past_BT, (1, 0), value=True)
        return torch.bmm(torch.softmax(asked.masked_fill(~there[:, None], -math.inf), dim=-1), values)


def new_ranker(shape: RankerShape, *, seed: int, dropout: float = 0.1) -> Ranker:
    """A ranker whose first weights the seed gives; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Ranker(shape, dropout=dropout)


def _rows(table_Ut: Tensor, at: Tensor) -> Tensor:
    """Rows of the batch's texts; as an embedding, whose gradient is summed much faster than that of an index."""
    return functional.embedding(at, table_Ut)


def arrays_of(network: Any) -> dict[str, NDArray[np.float32]]:
    """A network's arrays under the names of its file, float32, in the order of the names."""
    state = network.state_dict()
    return {name: state[name].detach().cpu().numpy().astype(np.float32) for name in sorted(state)}
