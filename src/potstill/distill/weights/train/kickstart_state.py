"""What a killed kickstarting goes on from: networks, moments, generators, and where its simulators are.

A simulator's own state is no file's business (a world of Box2D cannot be written), so it is told by how its episode
began and what was done in it, and played again. Knows checkpoints. Does not know rounds or losses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.kickstart_config import KickstartConfig
from potstill.distill.weights.train.simulators import Actors
from potstill.edge import seal

torch = load_torch()


class Parts(NamedTuple):
    """Everything that a round changes."""

    networks: Sequence[Any]
    optimizers: Sequence[Any]
    order: np.random.Generator
    """Of the batches."""
    actors: Actors


def identity_of(student: Any, config: KickstartConfig, more: Mapping[str, str]) -> dict[str, str]:
    """What must be equal in the training that goes on: the settings, the weights at its beginning, and ``more``."""
    settings = {name: msgspec.json.encode(value).decode() for name, value in msgspec.structs.asdict(config).items()}
    shape = msgspec.json.encode(student.shape.config()).decode()
    return {**settings, "network": shape, "first weights": seal.arrays_sha256(arrays_of(student)), **more}


def state_of(parts: Parts, history: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """``history``: rows of numbers, as they are given back."""
    played = parts.actors.played()
    return {
        "networks": [network.state_dict() for network in parts.networks],
        "optimizers": [optimizer.state_dict() for optimizer in parts.optimizers],
        "generator": torch.get_rng_state(),
        "order": json.dumps(parts.order.bit_generator.state),
        "actors": json.dumps(played),
        "seen": torch.from_numpy(parts.actors.observations_ED.copy()),
        "history": [list(row) for row in history],
    }


def restore(content: Mapping[str, Any], parts: Parts) -> list[list[Any]]:
    """Put everything back as it was; the rows of the history. Raises ``ConfigError`` where a simulator, played again,
    does not show what it showed."""
    for network, state in zip(parts.networks, content["networks"], strict=True):
        network.load_state_dict(state)
    for optimizer, state in zip(parts.optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    torch.set_rng_state(content["generator"])
    parts.order.bit_generator.state = json.loads(content["order"])
    parts.actors.play_again(json.loads(content["actors"]), content["seen"].numpy())
    rows: list[list[Any]] = content["history"]
    return rows
