"""Taking trajectories apart and putting them together, without a database."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from trajectory_fakes import episode
from trajectory_strategies import trajectories

from potstill.trajectories.records import Flat, Ref, flatten, inflate

checked = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@checked
@given(trajectories)
def test_inflate_undoes_flatten(trajectory):
    flat = flatten(trajectory)
    assert inflate(flat) == trajectory
    assert all(not call.prompt and not call.tools for step in flat.bare.steps for call in step.calls)
    assert msgspec.json.decode(msgspec.json.encode(flat), type=Flat) == flat


def test_three_messages_a_step_are_three_nodes_a_step():
    # per step: its observation, the action that answered it, and the question that only this step asks
    assert len(flatten(episode("a", steps=11)).nodes) - len(flatten(episode("a", steps=10)).nodes) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"refs": (Ref(9, 0, 0, -1),)},
        {"refs": (Ref(0, 7, 0, -1),)},
        {"refs": (Ref(0, 0, 99, -1),)},
        {"refs": (Ref(0, 0, -2, -1),)},
        {"refs": (Ref(0, 0, 0, 5),)},
        {"refs": (Ref(2, 0, 0, -1),)},
        {"nodes": ((0, 0),)},
        {"nodes": ((-1, 77),)},
    ],
)
def test_references_that_lead_nowhere_are_refused(change):
    with pytest.raises(ValueError, match=r"names|there are"):
        inflate(msgspec.structs.replace(flatten(episode("a", steps=2)), **change))
