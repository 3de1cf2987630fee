"""Teachers that tell a top-k: what is learnt of it, by each kind of student's data, and what is not touched."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from potstill.distill.weights.data.labelled import Evidence, Labelled  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss, Rest  # noqa: E402
from potstill.distill.weights.policies.batch import Batch  # noqa: E402
from potstill.distill.weights.policies.mlp import MlpShape, new_mlp  # noqa: E402
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import train  # noqa: E402
from potstill.distill.weights.train.mlp import vector_examples  # noqa: E402
from potstill.distill.weights.train.objectives import of_logits  # noqa: E402
from potstill.edge.words import Words  # noqa: E402
from potstill.types import Situation  # noqa: E402

pytestmark = pytest.mark.extra

ACTIONS = ("left", "right", "stay")


def decision(
    known: tuple[float | None, ...] | None, *, action: str = "left", admissible: tuple[str, ...] = ACTIONS, at: int = 0
) -> Labelled:
    """What is known are probabilities."""
    scores = tuple(None if one is None else math.log(one) for one in known or ())
    partly = Evidence.TOP_K if None in scores else Evidence.LOG_PROBABILITIES
    return Labelled(
        environment="e",
        task_id="t",
        trajectory_id=f"a{at}",
        step_index=at,
        situation=Situation(goal="g", observation=json.dumps([float(at), 1.0])),
        admissible=admissible,
        action=action,
        evidence=partly if known else Evidence.ONE_HOT,
        log_probabilities=scores,
    )


def test_the_rest_of_a_top_k_is_one_outcome_and_whole_rows_are_as_ever() -> None:
    """Student (.5, .25, .25), teacher tells .6 of the first: KL((.6, .4) || (.5, .5)) = .6 ln 1.2 + .4 ln .8."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    shares = torch.tensor([[0.6, math.nan, math.nan], [0.6, 0.3, 0.1]])
    told = ~shares.isnan()
    some = 0.6 * math.log(1.2) + 0.4 * math.log(0.8)
    whole = 0.6 * math.log(1.2) + 0.3 * math.log(1.2) + 0.1 * math.log(0.4)
    both, first = batch(shares, told), batch(shares[:1], told[:1])
    assert float(of_logits(logits, both, Loss(), check=True)) == pytest.approx((some + whole) / 2, abs=1e-6)
    assert float(of_logits(logits[1:], batch(shares[1:], None), Loss())) == pytest.approx(whole, abs=1e-6)
    only_told = Loss(rest=Rest.RENORMALISED)  # of what was told the first action has all
    assert float(of_logits(logits[:1], first, only_told)) == pytest.approx(math.log(2), abs=1e-6)
    assert float(of_logits(logits, both, Loss(kind=Kind.HARD))) == pytest.approx(math.log(2), abs=1e-6)


def test_what_was_told_as_impossible_is_no_part_of_the_rest() -> None:
    """Teacher (.5, 0, -), student (.5, .25, .25): .5 ln 1 + .5 ln 2, for the rest is the third alone."""
    logits, shares = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.5, 0.0, math.nan]])
    loss = of_logits(logits, batch(shares, ~shares.isnan()), Loss())
    assert float(loss) == pytest.approx(0.5 * math.log(2), abs=1e-6)


def batch(shares_BA: torch.Tensor, told_BA: torch.Tensor | None) -> Batch:
    return Batch(None, None, torch.zeros(len(shares_BA), dtype=torch.int64), shares_BA, None, told_BA)


def test_data_of_texts_tell_what_is_known_and_nothing_beside_the_list() -> None:
    rows = [decision((0.6, None, None)), decision((0.7, 0.3), admissible=("left", "right"), at=1), decision(None, at=2)]
    words = Words(vocabulary_of(rows, least=1), 4)
    examples = TextExamples(rows, words)
    all_three = examples.batch(np.arange(3))
    assert all_three.told_BA.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    np.testing.assert_allclose(all_three.probabilities_BA[1:], [[0.7, 0.3, 0.0], [1.0, 0.0, 0.0]], atol=1e-6)
    assert examples.batch(np.array([1])).told_BA.tolist() == [[True, True]]
    assert TextExamples(rows[1:], words).batch(np.arange(2)).told_BA is None
    assert bool(
        of_logits(torch.zeros(3, 3).masked_fill(~all_three.mask_BA, -torch.inf), all_three, Loss(), check=True) > 0
    )


def test_a_student_learns_the_told_share_and_splits_the_rest_as_it_likes() -> None:
    rows = [decision((0.6, None, None), at=at) for at in range(8)]
    rows += [decision((0.1, 0.8, 0.1), action="right", at=at) for at in range(20, 28)]
    data = vector_examples(rows, ACTIONS, 2)
    network = new_mlp(MlpShape(sizes=(2, 16, 3), actions=ACTIONS), seed=0, normal=data.normal())
    train(network, data, TrainConfig(seed=0, steps=400, batch=16, patience=0, loss=Loss(), learning_rate=0.01))
    with torch.no_grad():
        shares = network(data.batch(np.arange(16)).inputs).softmax(-1).numpy()
    np.testing.assert_allclose(shares[:8, 0], 0.6, atol=0.03)
    np.testing.assert_allclose(shares[8:], [[0.1, 0.8, 0.1]] * 8, atol=0.03)
