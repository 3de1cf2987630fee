"""Several losses in balance: shares of the gradient are what was asked for. Margins: worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from potstill.distill.weights.losses.balance import Part, smoothed, weights  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss, build  # noqa: E402
from potstill.distill.weights.losses.margin import margin_rows  # noqa: E402
from potstill.distill.weights.losses.objective import loss_of  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra

positive = st.floats(1e-6, 1e6)


def test_weights_are_as_worked_by_hand() -> None:
    """Shares 1/4 and 3/4 of norms 10 and 2 are 2.5 + 1.5 = 4 in all: 1 and 3 of it, so .1 and 1.5 times the norms."""
    assert weights([1.0, 3.0], [10.0, 2.0]) == pytest.approx([0.1, 1.5])


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=5), st.floats(1e-3, 1e3))
def test_each_part_has_its_share_of_the_gradient_whatever_its_scale(parts: list, scale: float) -> None:
    shares, norms = ([float(one[at]) for one in parts] for at in (0, 1))
    pulls = [weight * norm for weight, norm in zip(weights(shares, norms), norms, strict=True)]
    assert [pull / sum(pulls) for pull in pulls] == pytest.approx([share / sum(shares) for share in shares])
    scaled = weights(shares, [norms[0] * scale, *norms[1:]])
    again = [scaled[0] * norms[0] * scale, *(w * n for w, n in zip(scaled[1:], norms[1:], strict=True))]
    assert again[0] / sum(again) == pytest.approx(shares[0] / sum(shares))


def test_a_part_without_a_gradient_breaks_nothing() -> None:
    assert weights([1.0, 1.0], [0.0, 4.0]) == [0.5, 0.25]
    assert smoothed([], [3.0]) == [3.0]
    assert smoothed([1.0], [3.0], decay=0.75) == [1.5]


def test_a_margin_is_as_worked_by_hand() -> None:
    """Logits 2, 1.5, 0 and the label 0: short by 1 - .5 and 0; mean over two others .25. Without the third: .5."""
    logits = torch.tensor([[2.0, 1.5, 0.0]] * 2)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert margin_rows(logits, torch.tensor([0, 0]), mask).tolist() == [0.25, 0.5]


def test_a_margin_ignores_what_is_not_admissible_and_has_no_gradient_there() -> None:
    logits = torch.tensor([[0.0, 0.5, math.nan], [1.0, math.inf, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    rows = loss_of(Loss(kind=Kind.MARGIN, margin=2.0)).rows(logits, mask=mask, labels=torch.tensor([0, 0]))
    assert rows.tolist() == [2.5, 0.0]
    rows.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "margin", "temperature": 2}, "temperature=2.0 means nothing for kind=margin"),
        ({"kind": "margin", "smoothing": 0.1}, "smoothing=0.1 means nothing for kind=margin"),
        ({"kind": "hard", "margin": 2}, "margin=2.0 means nothing for kind=hard"),
        ({"kind": "margin", "margin": 0}, "margin=0 is out of range"),
    ],
)
def test_margins_that_mean_nothing_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(options)


def test_a_share_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"share=0\.0 of a loss"):
        Part(loss=Loss(), share=0.0)
