"""Bad batches are refused in one line; features, spans, and what a built loss asks for."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'potstill[weights]'")

from potstill.distill.weights.losses.config import Loss, Rest  # noqa: E402
from potstill.distill.weights.losses.features import feature_rows, projection  # noqa: E402
from potstill.distill.weights.losses.objective import loss_of  # noqa: E402
from potstill.distill.weights.losses.spans import Per, Span, SpanKind, span_mean, span_weights  # noqa: E402
from potstill.distill.weights.losses.targets import Logits, Probabilities, TopK  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)

ROWS = torch.zeros(2, 3)
EVEN = torch.full((2, 3), 1 / 3)
FIRST = torch.tensor([0, 0])
NAN, INF = math.nan, math.inf
SOFT, HARD = loss_of(Loss()), loss_of(Loss(kind="hard"))
NO_FIRST = torch.tensor([[True, True, True], [False, True, True]])


def top_k(values: list[list[float]], places: list[list[int]]) -> TopK:
    return TopK(torch.tensor(values), torch.tensor(places))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"logits_BA": torch.zeros(3)}, r"float32 of shape \(3,\). Give floats of shape \(batch, actions\)"),
        ({"logits_BA": torch.zeros(2, 3, dtype=torch.int64)}, "int64"),
        (
            {"logits_BA": torch.tensor([[0.0, NAN, 0.0], [0.0, 0.0, INF]])},
            r"Row 0 \(and 1 more\) has logits of the stud",
        ),
        ({"mask": torch.ones(2, 2, dtype=torch.bool)}, r"The mask is bool of shape \(2, 2\)"),
        ({"mask": torch.ones(2, 3)}, "The mask is float32"),
        ({"mask": torch.tensor([[True] * 3, [False] * 3])}, "Row 1 has no admissible action"),
        ({"weights": torch.tensor([1.0, -1.0])}, "Row 1 has a weight that is negative"),
        ({"weights": torch.ones(3)}, "Give 2 floats, one a row"),
    ],
)
def test_bad_students_masks_and_weights(given: dict[str, torch.Tensor], said: str) -> None:
    call = {"logits_BA": ROWS, "teacher": Logits(ROWS), **given}
    with pytest.raises(ConfigError, match=said):
        SOFT(call.pop("logits_BA"), **call)


@pytest.mark.parametrize(
    ("labels", "mask", "said"),
    [
        (torch.tensor([0, 3]), None, "Row 1 has a label that is not among the 3 actions"),
        (torch.tensor([-1, 0]), None, "Row 0 has a label that is not among"),
        (torch.tensor([0.0, 1.0]), None, "Give 2 indices of actions"),
        (torch.tensor([0]), None, "Give 2 indices of actions"),
        (FIRST, NO_FIRST, "Row 1 has a label that is not admissible"),
        (None, None, "there are no labels"),
    ],
)
def test_bad_labels(labels: torch.Tensor | None, mask: torch.Tensor | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        HARD(ROWS, labels=labels, mask=mask)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (None, "only the teacher's actions are known: .* Type: --loss kind=hard"),
        (Logits(torch.zeros(2, 4)), "Both must know the same actions"),
        (Logits(torch.tensor([[0.0, NAN, 0.0], [0.0] * 3])), "Row 0 has logits of the teacher that are NaN"),
        (Logits(torch.tensor([[0.0] * 3, [0.0, -INF, -INF]])), "Row 1 has no admissible action that the teacher may"),
        (
            Probabilities(torch.tensor([[0.6, 0.6, 0.1], [1.0, 0.0, 0.0]])),
            "Row 0 has prob.* add up to 1. Give a softmax",
        ),
        (Probabilities(torch.tensor([[1.2, -0.2, 0.0], [0.2, 0.4, 0.4]])), "Row 0 has probabilities .* negative"),
        (Probabilities(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])), "Row 1 has no admissible action that"),
        (top_k([[0.0], [-1.0]], [[0], [3]]), "Row 1 has a top-k index that is not among the 3"),
        (top_k([[0.1], [-1.0]], [[0], [1]]), "Row 0 has a log-probability above 0"),
        (top_k([[-0.1, -0.2], [-1.0, -2.0]], [[0, 1], [1, 2]]), "Row 0 has top-k probabilities that add up to more"),
        (top_k([[-1.0, -2.0], [-1.0, -2.0]], [[0, 1], [1, 1]]), "Row 1 names an action twice"),
        (top_k([[-1.0, -2.0], [-1.0, -2.0]], [[0, 1], [0, -1]]), "Row 1 has no admissible action in its top-k"),
        (top_k([[-1.0]], [[0]]), r"Give both of shape \(2, k\)"),
        (TopK(torch.zeros(2, 1), torch.zeros(2, 1)), "Give int64"),
    ],
)
def test_bad_teachers(teacher: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SOFT(ROWS, teacher=teacher, mask=NO_FIRST)


def test_trusted_batches_are_not_looked_at() -> None:
    trusting = loss_of(Loss(), check=False)
    assert float(trusting(ROWS, teacher=Probabilities(EVEN * 2))) == pytest.approx(0.0, abs=1e-6)


def test_an_empty_entry_of_the_top_k_is_not_an_action() -> None:
    told = top_k([[math.log(0.5), -7.0], [math.log(0.5), math.log(0.5)]], [[0, -1], [0, 1]])
    rows = loss_of(Loss(rest=Rest.RENORMALISED)).rows(ROWS, teacher=told)
    assert rows.tolist() == pytest.approx([math.log(3), math.log(3) - math.log(2)], rel=1e-5)


def test_a_bucket_by_hand() -> None:
    """The teacher: .5 on the first of three, .5 left over. The even student: 1/3 and 2/3."""
    told = top_k([[math.log(0.5)], [math.log(0.5)]], [[0], [0]])
    expected = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 1.5)
    assert loss_of(Loss()).rows(ROWS, teacher=told).tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert expected == pytest.approx(0.05889, abs=1e-5)


# --- features --------------------------------------------------------------------------------------------------------


def test_feature_matching_by_hand() -> None:
    ours = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    theirs = torch.tensor([[0.0, 4.0], [0.0, 0.0]], requires_grad=True)
    rows = feature_rows(ours, theirs)
    assert rows.tolist() == [2.5, 0.0]
    rows.sum().backward()
    assert ours.grad.tolist() == [[1.0, -2.0], [0.0, 0.0]]
    assert theirs.grad is None


def test_a_projection_is_learned_where_widths_differ_and_depends_on_its_seed_alone() -> None:
    assert projection(4, 4) is None
    before = torch.random.get_rng_state()
    one, again, other = projection(2, 5, seed=1), projection(2, 5, seed=1), projection(2, 5, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)
    feature_rows(torch.ones(3, 2), torch.zeros(3, 5), one).sum().backward()
    assert float(one.weight.grad.abs().sum()) > 0


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"projection\(student_width, teacher_width\)"):
        feature_rows(torch.ones(3, 2), torch.zeros(3, 5))
    with pytest.raises(ConfigError, match="at least 1"):
        projection(0, 3)


# --- spans -----------------------------------------------------------------------------------------------------------

SPANS = [Span(4, 6, SpanKind.TOOL_NAME), Span(0, 4, SpanKind.REASONING), Span(6, 7, SpanKind.ARGUMENTS)]
WEIGHTS = {SpanKind.REASONING: 1.0, SpanKind.TOOL_NAME: 3.0}


def test_span_weights_by_hand() -> None:
    assert span_weights(8, SPANS, WEIGHTS) == (1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 0.0, 0.0)
    assert span_weights(8, SPANS, WEIGHTS, per=Per.KIND) == (0.25, 0.25, 0.25, 0.25, 1.5, 1.5, 0.0, 0.0)
    assert span_weights(2, [], WEIGHTS) == (0.0, 0.0)


def test_span_weights_are_applied_and_other_tokens_are_not_looked_at() -> None:
    losses = torch.tensor([[1.0, 2.0, 5.0, NAN]])
    weights = torch.tensor([[1.0, 1.0, 2.0, 0.0]])
    assert float(span_mean(losses, weights)) == pytest.approx(13 / 4)
    assert float(span_mean(losses, weights, total=8.0)) == pytest.approx(13 / 8)
    with pytest.raises(ConfigError, match="tokens and weights"):
        span_mean(losses, weights[:, :3])


@pytest.mark.parametrize(
    ("spans", "weights", "said"),
    [
        ([Span(0, 3, SpanKind.TEXT), Span(2, 4, SpanKind.TEXT)], {}, "overlaps another"),
        ([Span(0, 9, SpanKind.TEXT)], {}, "leaves the text of 5 tokens"),
        ([Span(2, 2, SpanKind.TEXT)], {}, "is empty"),
        ([], {SpanKind.TEXT: -1.0}, "The weight -1.0 of 'text'"),
    ],
)
def test_spans_that_mean_nothing_are_refused(spans: list[Span], weights: dict[SpanKind, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        span_weights(5, spans, weights)
