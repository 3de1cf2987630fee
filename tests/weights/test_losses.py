"""The losses: their fixed points, gradients, masks and weights, and numbers worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'potstill[weights]'")

from potstill.distill.weights.losses.config import Direction, Loss, Rest  # noqa: E402
from potstill.distill.weights.losses.hard import hard_rows  # noqa: E402
from potstill.distill.weights.losses.objective import loss_of  # noqa: E402
from potstill.distill.weights.losses.rows import log_shares, weighted_mean  # noqa: E402
from potstill.distill.weights.losses.soft import soft_rows  # noqa: E402
from potstill.distill.weights.losses.targets import Logits, Probabilities, TopK, paired  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)

TEACHER = [0.10, 0.60, 0.30]
DIRECTIONS = list(Direction)
ALL = pytest.mark.parametrize("direction", DIRECTIONS, ids=lambda direction: direction.value)
FEW = settings(max_examples=40, deadline=None)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@st.composite
def decisions(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of a student, of a teacher that never takes some actions, and a mask that admits at least one."""
    rows, actions = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    size = {"min_size": rows * actions, "max_size": rows * actions}

    def shaped(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64).reshape(rows, actions)

    student = shaped(draw(st.lists(floats(-30, 30), **size)))
    teacher = shaped(draw(st.lists(floats(-30, 30) | st.just(-math.inf), **size)))
    mask = shaped(draw(st.lists(st.booleans(), **size))).bool()
    kept = draw(st.lists(st.integers(0, actions - 1), min_size=rows, max_size=rows))
    for row, action in enumerate(kept):
        mask[row, action] = True
        teacher[row, action] = max(float(teacher[row, action]), -30.0)
    return student, teacher, mask


temperatures = st.sampled_from([0.1, 0.5, 1.0, 2.0, 4.0, 20.0])


def minimised(loss, like: torch.Tensor, *, steps: int = 400, rate: float = 0.5) -> torch.Tensor:
    """The student's distributions at T = 1 after its logits alone went down the gradient, with momentum."""
    logits, speed = torch.zeros_like(like), torch.zeros_like(like)
    for _ in range(steps):
        speed = 0.7 * speed - rate * gradient(loss, logits)
        logits = logits + speed
    return torch.softmax(logits, dim=-1)


def gradient(loss, logits: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    loss(leaf).sum().backward()
    return leaf.grad


# --- what a student converges to -------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_fixed_point_is_the_teacher_at_every_temperature(direction: Direction, temperature: float) -> None:
    """The logits alone are optimised, for the teacher of the tutorials and twenty others at once."""
    drawn = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    others = torch.softmax(drawn / 2, -1)
    teachers = torch.cat([torch.tensor([TEACHER], dtype=torch.float64), others])
    objective = loss_of(Loss(direction=direction, temperature=temperature))
    learned = minimised(lambda logits: objective.rows(logits, teacher=Probabilities(teachers)), teachers)
    assert float((learned - teachers).abs().max()) < 1e-3


@FEW
@given(decisions(), temperatures, st.sampled_from(DIRECTIONS))
def test_at_the_teacher_the_loss_and_its_gradient_are_zero_and_elsewhere_it_costs(decision, temperature, direction):
    student, teacher, mask = decision
    teacher = teacher.clamp(min=-30.0)

    def rows(logits: torch.Tensor) -> torch.Tensor:
        return soft_rows(logits, teacher / 3, mask, temperature=temperature, direction=direction)

    there = teacher / 3 + 5.0
    if temperature >= 1.0:  # colder, the reverse direction's floor shows
        assert float(rows(there).abs().max()) < 1e-9
        assert float(gradient(rows, there).abs().max()) < 1e-9
    apart = (log_shares(student, mask, temperature).exp() - log_shares(teacher / 3, mask, temperature).exp()).abs()
    assert bool((rows(student)[apart.max(-1).values > 1e-3] > 0).all())


def test_with_a_bucket_the_top_k_and_their_rest_are_learned_exactly_at_every_temperature() -> None:
    told = TopK(torch.tensor([[0.6, 0.2]], dtype=torch.float64).log(), torch.tensor([[2, 0]]))
    for temperature in (1.0, 3.0):
        objective = loss_of(Loss(temperature=temperature, rest=Rest.BUCKET))
        learned = minimised(
            lambda z, objective=objective: objective(z, teacher=told), torch.zeros(1, 5).double(), steps=150
        )
        assert learned[0].tolist() == pytest.approx([0.2, 0.2 / 3, 0.6, 0.2 / 3, 0.2 / 3], abs=1e-4)


def test_renormalised_the_top_k_take_all() -> None:
    told = TopK(torch.tensor([[0.6, 0.2]], dtype=torch.float64).log(), torch.tensor([[2, 0]]))
    pair = paired(torch.zeros(1, 4, dtype=torch.float64), told, torch.ones(1, 4, dtype=torch.bool), Rest.RENORMALISED)
    assert log_shares(pair.teacher_BN, pair.mask_BN).exp()[0].tolist() == pytest.approx([0.25, 0, 0.75, 0])


def test_a_hard_share_lies_between_both_losses() -> None:
    logits, told, label = torch.tensor([[1.0, 0.5, -1.0]]), Probabilities(torch.tensor([TEACHER])), torch.tensor([1])
    hard = loss_of(Loss(kind="hard"))(logits, labels=label)
    soft = loss_of(Loss(temperature=2.0))(logits, teacher=told)
    mixed = loss_of(Loss(temperature=2.0, hard_share=0.25))(logits, teacher=told, labels=label)
    assert float(mixed) == pytest.approx(float(0.25 * hard + 0.75 * soft), rel=1e-6)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_values_worked_by_hand() -> None:
    """Teacher (1/2, 1/2), student (1/4, 3/4): the three divergences, and the cross-entropy with the first action."""
    student, teacher = torch.tensor([[1.0, 3.0]]).log(), torch.zeros(1, 2)
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)  # 0.14384
    reverse = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)  # 0.13081
    middle = (0.375, 0.625)
    shannon = sum(
        0.5 * share * math.log(share / centre)
        for side in ((0.5, 0.5), (0.25, 0.75))
        for share, centre in zip(side, middle, strict=True)
    )  # 0.03382
    found = [float(soft_rows(student, teacher, direction=direction)) for direction in DIRECTIONS]
    assert found == pytest.approx([forward, reverse, shannon], rel=1e-5)
    assert found == pytest.approx([0.14384, 0.13081, 0.03382], abs=1e-5)
    assert float(hard_rows(student, torch.tensor([0]))) == pytest.approx(math.log(4), rel=1e-6)
    smoothed = 0.8 * math.log(4) + 0.2 * 0.5 * (math.log(4) + math.log(4 / 3))
    assert float(hard_rows(student, torch.tensor([0]), smoothing=0.2)) == pytest.approx(smoothed, rel=1e-6)


def test_the_gradient_s_norm_by_hand_with_and_without_the_square_of_the_temperature() -> None:
    """An undecided student before the teacher (.1, .6, .3): T (p - q) tends to the centred log q / 3."""
    even, teacher = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([TEACHER], dtype=torch.float64).log()
    norms = [
        float(gradient(lambda z, T=T: soft_rows(z, teacher, temperature=T), even).norm()) for T in (1.0, 2.0, 4.0, 8.0)
    ]
    assert norms == pytest.approx([0.3559, 0.3956, 0.4128, 0.4200], abs=1e-4)
    bare = [norm / T**2 for norm, T in zip(norms, (1, 2, 4, 8), strict=True)]
    assert bare == pytest.approx([0.3559, 0.0989, 0.0258, 0.00656], abs=1e-4)
    limit = float((teacher - teacher.mean()).norm()) / 3
    far = float(gradient(lambda z: soft_rows(z, teacher, temperature=100.0), even).norm())
    assert limit == pytest.approx(0.4259, abs=1e-4)
    assert far == pytest.approx(limit, rel=2e-3)


# --- properties ------------------------------------------------------------------------------------------------------


@FEW
@given(decisions(), temperatures)
def test_the_forward_gradient_never_exceeds_half_the_distance_of_the_logits(decision, temperature: float) -> None:
    student, _, mask = decision
    teacher = student.flip(-1).roll(1, -1) / 2
    norms = gradient(lambda z: soft_rows(z, teacher, mask, temperature=temperature), student).norm(dim=-1)
    apart = torch.where(mask, student - teacher, 0.0)
    centred = torch.where(mask, apart - apart.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True), 0.0)
    assert bool((norms <= centred.norm(dim=-1) / 2 + 1e-9).all())


@settings(max_examples=100, deadline=None)
@given(decisions(), temperatures, st.sampled_from(DIRECTIONS), st.sampled_from([torch.float32, torch.float64]))
def test_values_and_gradients_are_finite_and_blind_to_inadmissible_actions(
    decision, temperature, direction, dtype
) -> None:
    """Actions of probability zero, single admissible actions, and anything, NaN included, on inadmissible ones."""
    student, teacher, mask = decision
    student = student.to(dtype).masked_fill(~mask, math.nan)
    teacher = teacher.to(dtype).masked_fill(~mask, math.nan)

    def rows(logits: torch.Tensor) -> torch.Tensor:
        return soft_rows(logits, teacher, mask, temperature=temperature, direction=direction)

    slopes = gradient(rows, student)
    assert bool(rows(student).isfinite().all())
    assert bool((rows(student) >= -1e-4 * temperature**2).all())
    assert bool(slopes.isfinite().all())
    assert slopes[~mask].tolist() == [0.0] * int((~mask).sum())
    assert bool((slopes[mask.sum(-1) == 1] == 0).all()), "one admissible action leaves nothing to learn"


@FEW
@given(decisions(), st.sampled_from(DIRECTIONS), st.randoms(use_true_random=False))
def test_the_order_of_actions_does_not_matter(decision, direction, random) -> None:
    student, teacher, mask = decision
    order = list(range(student.shape[1]))
    random.shuffle(order)
    before = soft_rows(student, teacher, mask, temperature=2.0, direction=direction)
    after = soft_rows(student[:, order], teacher[:, order], mask[:, order], temperature=2.0, direction=direction)
    assert after.tolist() == pytest.approx(before.tolist(), rel=1e-9, abs=1e-9)


@FEW
@given(decisions(), temperatures, st.sampled_from(DIRECTIONS))
def test_probabilities_say_the_same_as_the_logits_behind_them(decision, temperature, direction) -> None:
    student, teacher, mask = decision
    objective = loss_of(Loss(direction=direction, temperature=temperature))
    shares = log_shares(teacher, mask).exp()
    by_logits = objective.rows(student, mask=mask, teacher=Logits(teacher))
    by_shares = objective.rows(student, mask=mask, teacher=Probabilities(shares))
    assert by_shares.tolist() == pytest.approx(by_logits.tolist(), rel=1e-6, abs=1e-6)


@FEW
@given(decisions(), temperatures, st.sampled_from(DIRECTIONS), st.sampled_from(list(Rest)))
def test_a_top_k_of_every_action_says_the_same_as_the_logits(decision, temperature, direction, rest) -> None:
    student, teacher, mask = decision
    shares = log_shares(teacher, mask)
    every = torch.arange(student.shape[1]).expand_as(mask)
    places = torch.where(mask & (shares > -math.inf), every, -1)
    told = TopK(shares.masked_fill(~mask, -1.0), places)
    config = Loss(direction=direction, temperature=temperature, rest=rest)
    zeros = (mask & (shares == -math.inf)).any(-1) & (config.rest == Rest.BUCKET)
    ours = loss_of(config).rows(student, mask=mask, teacher=told)[~zeros]
    whole = loss_of(config).rows(student, mask=mask, teacher=Logits(teacher))[~zeros]
    assert ours.tolist() == pytest.approx(whole.tolist(), rel=1e-6, abs=1e-6)


@FEW
@given(decisions(), temperatures, st.sampled_from(DIRECTIONS), st.sampled_from(list(Rest)), st.integers(1, 3))
def test_top_k_gives_no_nan(decision, temperature, direction, rest, k: int) -> None:
    student, teacher, mask = decision
    values, places = log_shares(teacher, mask).topk(min(k, student.shape[1]), dim=-1)
    objective = loss_of(Loss(direction=direction, temperature=temperature, rest=rest))
    told = TopK(values, torch.where(values > -math.inf, places, -1))
    student = student.masked_fill(~mask, math.nan)
    slopes = gradient(lambda z: objective.rows(z, mask=mask, teacher=told), student)
    assert bool(objective.rows(student, mask=mask, teacher=told).isfinite().all())
    assert bool(slopes.isfinite().all())
    assert slopes[~mask].tolist() == [0.0] * int((~mask).sum())


@FEW
@given(decisions(), st.sampled_from([0.0, 0.3]))
def test_hard_labels_see_admissible_actions_only(decision, smoothing: float) -> None:
    student, _, mask = decision
    student = student.masked_fill(~mask, math.nan)
    labels = mask.int().argmax(-1)
    slopes = gradient(lambda z: hard_rows(z, labels, mask, smoothing=smoothing), student)
    assert slopes[~mask].tolist() == [0.0] * int((~mask).sum())
    shares = log_shares(student, mask).exp()
    target = torch.where(mask, smoothing / mask.sum(-1, keepdim=True), 0.0)
    target = target.scatter_add(1, labels[:, None], torch.full_like(labels[:, None], 1 - smoothing, dtype=target.dtype))
    assert torch.allclose(slopes, shares - target, atol=1e-9)


def test_jensen_shannon_is_symmetric_and_bounded() -> None:
    one = torch.tensor([[4.0, 0.0, -3.0], [0.0, 50.0, 0.0]])
    two = torch.tensor([[0.0, 2.0, 1.0], [50.0, -math.inf, 0.0]])
    there = soft_rows(one, two.clamp(min=-60), direction=Direction.JENSEN_SHANNON)
    back = soft_rows(two.clamp(min=-60), one, direction=Direction.JENSEN_SHANNON)
    assert torch.allclose(there, back, atol=1e-6)
    assert float(soft_rows(one, two, direction=Direction.JENSEN_SHANNON)[1]) == pytest.approx(math.log(2), abs=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 1.0, 0.5]])
    whole = soft_rows(student, teacher, temperature=4.0)
    half = soft_rows(student.bfloat16(), teacher.bfloat16(), temperature=4.0)
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(whole.tolist(), rel=1e-6)


# --- weights ---------------------------------------------------------------------------------------------------------


@FEW
@given(decisions(), st.sampled_from(DIRECTIONS))
def test_a_weight_of_two_is_the_row_twice(decision, direction) -> None:
    student, teacher, mask = decision
    objective = loss_of(Loss(direction=direction, temperature=2.0))
    twice = [0, *range(len(student))]
    weights = torch.ones(len(student), dtype=torch.float64)
    weights[0] = 2.0
    rows = (student[twice], teacher[twice], mask[twice])
    assert float(objective(student, mask=mask, teacher=Logits(teacher), weights=weights)) == pytest.approx(
        float(objective(rows[0], mask=rows[2], teacher=Logits(rows[1]))), rel=1e-9, abs=1e-12
    )


def test_weights_are_normalised_by_their_sum_and_parts_add_up_by_a_given_total() -> None:
    losses, weights = torch.tensor([1.0, 4.0, 7.0]), torch.tensor([1.0, 1.0, 2.0])
    assert float(weighted_mean(losses, weights)) == pytest.approx(19 / 4)
    assert float(weighted_mean(losses, 10 * weights)) == pytest.approx(19 / 4)
    parts = weighted_mean(losses[:1], weights[:1], total=4.0) + weighted_mean(losses[1:], weights[1:], total=4.0)
    assert float(parts) == pytest.approx(19 / 4)
    assert float(weighted_mean(losses)) == pytest.approx(4.0)


def test_a_row_without_weight_is_not_looked_at() -> None:
    losses = torch.tensor([1.0, math.nan], requires_grad=True)
    mean = weighted_mean(losses, torch.tensor([1.0, 0.0]))
    mean.backward()
    assert float(mean.detach()) == 1.0
    assert losses.grad.tolist() == [1.0, 0.0]
    assert float(weighted_mean(losses.detach(), torch.zeros(2))) == 0.0
