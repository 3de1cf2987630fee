"""Held-out decisions are dealt out by task, and an old one holds until the teacher says something else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_examples import decisions

from potstill.distill.weights.continual.eligible import must_learn_on
from potstill.distill.weights.continual.holding import parted, provable, upheld
from potstill.distill.weights.data.labelled import Labelled
from potstill.edge.policy import Policy
from potstill.errors import ConfigError

SOME = decisions(24)


def tasks(found: list[Labelled]) -> set[str]:
    return {one.task_id for one in found}


@given(count=st.integers(2, 24), share=st.floats(0.01, 0.99))
def test_no_task_both_stops_and_judges(count: int, share: float) -> None:
    parts = parted(SOME[:count], share)
    assert not tasks(parts.stopping) & tasks(parts.judging)
    assert len(parts.stopping) + len(parts.judging) == count
    assert parts.stopping
    assert parts.judging
    assert parted(SOME[:count][::-1], share).stopping == parts.stopping[::-1]


def test_a_quarter_stops() -> None:
    assert [len(part) for part in parted(SOME)] == [6, 18]


def test_one_task_cannot_do_both() -> None:
    with pytest.raises(ConfigError, match="two are needed"):
        parted(SOME[:1])


def test_only_another_word_overrules() -> None:
    other = next(action for action in SOME[0].admissible if action != SOME[0].action)
    changed = msgspec.structs.replace(SOME[0], action=other, task_id="later")
    again = msgspec.structs.replace(SOME[1], task_id="later")
    assert upheld(SOME[:3], [changed, again]) == SOME[1:3]
    assert upheld(SOME[:3], [changed, SOME[0]]) == SOME[:3], "the teacher still does so, too"


def test_how_many_tasks_a_margin_takes() -> None:
    """Without a discordant pair Tango's bound is -z^2 / (n + z^2): 3.8415 / 192.8415 = 0.01992 at 189."""
    assert provable(189) == pytest.approx(3.8415 / 192.8415, abs=1e-5)
    assert provable(0) == 1.0


@pytest.mark.parametrize(("kind", "said"), [("film", "only rankers can"), ("mlp", "only rankers can")])
def test_another_kind_is_told_what_to_do(kind: str, said: str) -> None:
    network: Any = SimpleNamespace(kind=kind)
    policy = Policy(network, {}, {}, {"w": np.zeros(3, np.float32)}, 1.0)
    with pytest.raises(ConfigError, match=said) as told:
        must_learn_on(policy)
    assert "compressed" not in str(told.value)
    assert f"--student {kind}" in str(told.value)


def test_rounded_numbers_are_told_apart_from_other_kinds() -> None:
    network: Any = SimpleNamespace(kind="ranker")
    policy = Policy(network, {}, {}, {"w": np.zeros(3, np.int8)}, 1.0)
    with pytest.raises(ConfigError, match=r"rounded \(int8\).*before it was compressed"):
        must_learn_on(policy)
