"""Whole episodes of a network in training: outcomes by task, the same for the network and for what is exported."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from potstill.distill.weights.policies.ranker import arrays_of, new_ranker, ranker_shape  # noqa: E402
from potstill.distill.weights.train.playing import Player  # noqa: E402
from potstill.distill.weights.train.ranker import trained_side  # noqa: E402
from potstill.edge.policy import Policy, network  # noqa: E402
from potstill.envs.registry import open_source  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra


def test_the_network_and_its_export_play_alike() -> None:
    torch.set_num_threads(1)
    tasks = open_source("house-rules").tasks("train")[:2]
    trained = new_ranker(ranker_shape(["weigh", "it", "put"], 8), seed=0)
    arrays, config = arrays_of(trained), trained.shape.config()
    policy = Policy(network(arrays, config), config, {}, arrays, 1.0)
    with Player("house-rules", tasks, max_steps=6) as player:
        share = player(trained)
        exported = player.outcomes(policy)
        assert player.outcomes_of(trained_side(trained), policy) == exported
    assert set(exported) == {(task.id, 0) for task in tasks}
    assert share == sum(exported.values()) / 2
    assert player.name.startswith("2 tasks ")


def test_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="no task"):
        Player("house-rules", [])
