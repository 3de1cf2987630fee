"""Two processes that share each batch end with the weights of one process that has the whole of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policy_examples import decisions  # noqa: E402
from processes_child import RECIPE, alone, prepared  # noqa: E402

from potstill.distill.weights.train.processes import joined, train_together  # noqa: E402
from potstill.edge.policy import log_softmax, network  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent
WITHOUT_GRADIENT = {"score.bias", "hidden.bias", "hidden.weight"}
"""A shift of all logits changes no decision: its gradient is rounding, which Adam makes as large as any other."""


def processes(folder: Path) -> list[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "processes_child.py"), str(rank), "2", str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_two_processes_end_with_the_weights_of_one_and_refuse_other_data(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    started = processes(tmp_path)
    expected, _ = alone()
    for one in started:
        _, told = one.communicate()
        assert one.returncode == 0, told
    for rank in range(2):
        assert "do not have the same data" in (tmp_path / f"{rank}.txt").read_text()
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    begun = {name: value.detach().numpy() for name, value in prepared().network.state_dict().items()}
    assert sorted(first) == sorted(expected)
    for name, array in expected.items():
        assert np.array_equal(first[name], second[name]), name
        if name not in WITHOUT_GRADIENT:
            assert np.abs(first[name] - array).max() < 5e-5, name
    assert max(np.abs(expected[name] - begun[name]).max() for name in expected) > 0.01, "it did learn"
    config = prepared().network.shape.config()
    for decision in decisions(20, seed=2):
        asked = (msgspec.to_builtins(decision.situation), decision.admissible)
        ours, theirs = (log_softmax(network(arrays, config).logits(*asked)) for arrays in (first, expected))
        assert np.abs(ours - theirs).max() < 1e-3


def test_a_process_must_belong_to_a_group(tmp_path: Path) -> None:
    ready = prepared()
    with pytest.raises(ConfigError, match="belongs to no group"):
        train_together(ready.network, ready.data, RECIPE.train)
    with pytest.raises(ConfigError, match="Process 2 of 2"), joined(2, 2, tmp_path / "meeting"):
        pass
