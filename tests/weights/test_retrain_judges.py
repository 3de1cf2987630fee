"""What several judges say of a retrained policy, as one word."""

from __future__ import annotations

import pytest

from potstill.cli.training.retrain_judges import EPISODES, Judged, Verdict
from potstill.distill.weights.continual import judging

TASKS = [f"t{number}" for number in range(300)]


def verdict(new: int, now: int) -> Verdict:
    """So many of the tasks done by the retrained policy, and by the one that acts."""
    sides = ({(task, 0): at < won for at, task in enumerate(TASKS)} for won in (new, now))
    return Verdict(EPISODES, judging.by_episodes(*sides, margin=0.02))


@pytest.mark.parametrize(("new", "now", "promoted"), [(0, 0, False), (1, 0, True), (300, 300, True), (200, 300, False)])
def test_whoever_does_nothing_new_is_not_promoted(new: int, now: int, promoted: bool) -> None:
    judged = Judged(verdict(new, now), ())
    assert judged.promoted is promoted
    assert ("did none of the 300 new episodes" in judged.why) is (new == 0)


def test_what_was_known_must_stay_known() -> None:
    judged = Judged(verdict(300, 100), (verdict(300, 300), verdict(150, 300)))
    assert not judged.promoted
    assert judged.why.startswith("On what it knew before (episodes)")


def test_a_refusal_names_the_policies_and_no_letters() -> None:
    """A third of the tasks fewer is surely more than 2 points; 2 of 300 fewer is within them, on too few tasks."""
    said = Judged(verdict(200, 300), ()).why
    assert said == "The retrained policy loses more than 2 points against the policy that acts now."
    said = Judged(verdict(298, 300), ()).why
    assert said.startswith("That the retrained policy loses more than 2 points against the policy that acts now is not")
    assert "more shared tasks would give a chance of 80 % to show that the retrained policy is not worse" in said
