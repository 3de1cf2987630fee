"""The grid student in PyTorch, for training: names, shapes and formulas are those of ``edge.film``, letter by letter.

Batched over decisions, with padded missions and pasts whose padding is never read. Dropout is the one thing that exists
in training alone. Letters as in ``grids``; c, g, k, m, p as in ``edge.film``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.distill.weights.policies.batch import Tensor
from potstill.distill.weights.policies.grids import FilmInputs
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.edge.grids import DIRECTIONS, GridForm
from potstill.edge.words import Words
from potstill.types import Struct

torch = load_torch()
nn, functional = torch.nn, torch.nn.functional

BABYAI = (11, 6, 3)
"""Objects, colours and states of ``minigrid.core.constants``."""


class FilmShape(Struct, frozen=True, kw_only=True):
    """The configuration of ``edge.film``."""

    vocabulary: tuple[str, ...]
    actions: tuple[str, ...]
    size: int = 7
    symbols: tuple[int, ...] = BABYAI
    buckets: int = 16
    embedding: int = 32
    goal: int = 64
    patch: int = 8
    memory: int = 64
    condition: int = 64
    channels: int = 32
    blocks: int = 2
    squeezed: int = 16
    hidden: int = 128
    kind: str = "film"

    def words(self) -> Words:
        return Words(self.vocabulary, self.buckets)

    def form(self) -> GridForm:
        return GridForm(self.size, self.symbols)

    def config(self) -> dict[str, Any]:
        """The JSON object that stands in the policy's file."""
        texts = {"vocabulary": list(self.vocabulary), "actions": list(self.actions), "symbols": list(self.symbols)}
        return {**msgspec.structs.asdict(self), **texts}


def film_shape(vocabulary: tuple[str, ...], actions: tuple[str, ...], width: int = 64) -> FilmShape:
    """A shape from one dial: the others follow the width of the memory (230 thousand parameters at 64)."""
    half, quarter = max(2, width // 2), max(2, width // 4)
    return FilmShape(
        vocabulary=vocabulary,
        actions=actions,
        embedding=half,
        goal=width,
        patch=max(2, width // 8),
        memory=width,
        condition=width,
        channels=half,
        squeezed=quarter,
        hidden=2 * width,
    )


class Film(Module):
    """``forward`` gives a logit for each action of the shape, (B, A)."""

    def __init__(self, shape: FilmShape, *, dropout: float = 0.1) -> None:
        super().__init__()
        s, self.shape = shape, shape
        cells, kinds, actions = s.size**2, sum(s.symbols), len(s.actions)
        self.word = nn.Embedding(len(s.words()), s.embedding)
        self.goal = _unit(s.embedding, s.goal)
        self.patch = nn.Embedding(kinds, s.patch)
        self.turn = nn.Linear(cells * s.patch, s.memory)
        self.start = nn.Linear(s.goal, s.memory)
        self.action = nn.Embedding(actions + 1, s.memory)
        self.facing = nn.Embedding(DIRECTIONS, s.memory)
        self.memory = _unit(s.memory, s.memory)
        self.condition = nn.Linear(s.goal + s.memory, s.condition)
        self.direction = nn.Embedding(DIRECTIONS, s.condition)
        self.symbol = nn.Embedding(kinds, s.channels)
        self.place = nn.Embedding(cells, s.channels)
        self.wanted = nn.Linear(s.condition, s.channels)
        self.block = nn.ModuleList(_block(s) for _ in range(s.blocks))
        self.squeeze = nn.Linear(s.channels, s.squeezed)
        self.hidden = nn.Linear(cells * s.squeezed + s.condition, s.hidden)
        self.score = nn.Linear(s.hidden, actions)
        self.dropout = nn.Dropout(dropout)
        self._of_code = torch.from_numpy(s.form().of_code())
        for embedding in (self.action, self.facing, self.direction, self.place):
            nn.init.normal_(embedding.weight, std=0.1)  # added to what a layer says, which they must not drown

    def forward(self, inputs: FilmInputs) -> Tensor:
        goal_Bg = functional.embedding(inputs.goal_B, self._goals(inputs))
        mind_Bm = self._mind(inputs, goal_Bg)
        said_Bk = self.condition(torch.cat([goal_Bg, mind_Bm], dim=-1)) + self.direction(inputs.direction_B)
        cond_Bk = functional.relu(said_Bk)
        size = self.shape.size
        symbol_BSc = self._cells(self.symbol, inputs.cell_BS)
        x_BSc = symbol_BSc * self.wanted(cond_Bk)[:, None] + self.place.weight
        x_Bcss = x_BSc.transpose(1, 2).unflatten(2, (size, size))
        for block in self.block:
            by_Bc, plus_Bc = block["film"](cond_Bk).chunk(2, dim=-1)
            seen_Bcss = _convolved(block["conv"], x_Bcss)
            x_Bcss = x_Bcss + functional.relu((1.0 + by_Bc)[..., None, None] * seen_Bcss + plus_Bc[..., None, None])
        cells_BSq = functional.relu(self.squeeze(x_Bcss.flatten(2).transpose(1, 2)))
        inner_Bh = functional.relu(self.hidden(self.dropout(torch.cat([cells_BSq.flatten(1), cond_Bk], dim=-1))))
        return self.score(self.dropout(inner_Bh))

    def _cells(self, symbol: Any, code_NS: Tensor) -> Tensor:
        """The sum of each cell's symbols, by one look-up in the table of all sums."""
        return functional.embedding(code_NS, symbol(self._of_code).sum(dim=1))

    def _goals(self, inputs: FilmInputs) -> Tensor:
        zeros_Ug = torch.zeros(len(inputs.word_UW), self.shape.goal)
        return _last(self.goal, self.word(inputs.word_UW), zeros_Ug, inputs.worded_U)

    def _mind(self, inputs: FilmInputs, goal_Bg: Tensor) -> Tensor:
        start_Bm = torch.tanh(self.start(goal_Bg))
        patch_PSp = self._cells(self.patch, inputs.past_cell_PS)
        said_Pm = self.turn(patch_PSp.flatten(1)) + self.action(inputs.past_action_P)
        turn_Pm = functional.relu(said_Pm + self.facing(inputs.past_direction_P))
        turn_BTm = turn_Pm.new_zeros((*inputs.past_BT.shape, turn_Pm.shape[1]))
        turn_BTm = turn_BTm.masked_scatter(inputs.past_BT[..., None], turn_Pm)
        return _last(self.memory, turn_BTm, start_Bm, inputs.turns_B)


def new_film(shape: FilmShape, *, seed: int, dropout: float = 0.1) -> Film:
    """A network whose first weights the seed gives; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Film(shape, dropout=dropout)


def _unit(inputs: int, width: int) -> Any:
    """The weights of a gated recurrent unit, as two layers, so that their names are those of any layer."""
    return nn.ModuleDict({"input": nn.Linear(inputs, 3 * width), "hidden": nn.Linear(width, 3 * width)})


def _block(shape: FilmShape) -> Any:
    conv, film = nn.Linear(9 * shape.channels, shape.channels), nn.Linear(shape.condition, 2 * shape.channels)
    return nn.ModuleDict({"conv": conv, "film": film})


def _last(unit: Any, x_NTi: Tensor, start_Nw: Tensor, length_N: Tensor) -> Tensor:
    """The unit's state after the first ``length_N`` inputs of each row, (N, w); its start where that is 0."""
    if x_NTi.shape[1] == 0:
        return start_Nw
    into, own = unit["input"], unit["hidden"]
    weights = [into.weight, own.weight, into.bias, own.bias]
    state_NTw, _ = torch.gru(x_NTi, start_Nw[None], weights, True, 1, 0.0, False, False, True)
    states_NTw = torch.cat([start_Nw[:, None], state_NTw], dim=1)
    return states_NTw[torch.arange(len(length_N)), length_N]


def _convolved(layer: Any, x_Bcss: Tensor) -> Tensor:
    """The layer over the 9 neighbours of each cell, zeros beyond the border."""
    channels = x_Bcss.shape[1]
    kernel = layer.weight.unflatten(1, (3, 3, channels)).permute(0, 3, 1, 2)
    return functional.conv2d(x_Bcss, kernel, layer.bias, padding=1)
