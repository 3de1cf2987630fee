"""Old and new decisions are mixed so that the new ones have their share, and the newest word on a situation stands."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_examples import decisions

from potstill.distill.weights.continual.replay import mixed
from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError

OLD, NEW = decisions(30), decisions(12, seed=1)


def weight(found: list[Labelled]) -> float:
    return sum(one.weight for one in found)


def test_a_hand_worked_mix() -> None:
    """Three old and one new at a share of one half: 4 in all, so the new one weighs 2 and each old one 2/3."""
    found = mixed(OLD[:3], NEW[:1], 0.5)
    assert [one.weight for one in found.decisions] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    assert (found.old, found.new, found.overruled, found.kept_apart) == (3, 1, 0, 0)


@given(old=st.integers(0, 30), new=st.integers(1, 12), share=st.floats(0.01, 1), factor=st.floats(0.1, 10))
def test_the_new_ones_have_their_share_and_the_mean_weight_is_one(
    old: int, new: int, share: float, factor: float
) -> None:
    weighed = [msgspec.structs.replace(one, weight=factor) for one in OLD[:old]]
    found = mixed(weighed, NEW[:new], share)
    assert weight(found.decisions) == pytest.approx(len(found.decisions))
    expected = share if found.old else 1.0
    assert weight(found.decisions[found.old :]) == pytest.approx(expected * len(found.decisions))
    assert found.old + found.overruled == (old if share < 1 else 0)


def test_the_newest_word_on_a_situation_stands() -> None:
    other = next(action for action in OLD[0].admissible if action != OLD[0].action)
    changed = msgspec.structs.replace(OLD[0], action=other, task_id="later")
    found = mixed(OLD[:3], [changed], 0.5)
    assert (found.old, found.new, found.overruled) == (2, 1, 1)
    assert OLD[0].action not in [one.action for one in found.decisions if one.situation == OLD[0].situation]


def test_what_is_held_out_is_not_learnt() -> None:
    found = mixed(OLD[:3], NEW[:3], 0.5, held_out=[NEW[0], OLD[2]])
    assert (found.old, found.new, found.kept_apart) == (2, 2, 2)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share of new decisions"):
        mixed(OLD, NEW, share)


def test_nothing_new_is_refused() -> None:
    with pytest.raises(ConfigError, match="no new decision"):
        mixed(OLD, NEW[:1], 0.5, held_out=NEW[:1])
