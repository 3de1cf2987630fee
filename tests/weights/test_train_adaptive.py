"""Rules that follow the student, and mixed losses in the loop: what they change, that a resumed run ends the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from policy_examples import decisions  # noqa: E402

from potstill.distill.weights.data.labelled import Evidence  # noqa: E402
from potstill.distill.weights.losses.balance import Part  # noqa: E402
from potstill.distill.weights.losses.config import Direction, Kind, Loss  # noqa: E402
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.train.adaptive import Adaptive, between, learnt, loss_at, parsed, shown_at  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import Keeping, Trained, train  # noqa: E402
from potstill.distill.weights.train.progress import Look, Progress  # noqa: E402
from potstill.distill.weights.train.ranker import prepare  # noqa: E402
from potstill.distill.weights.train.recipe import RankerRecipe  # noqa: E402
from potstill.distill.weights.train.teaching import Prepared, teach  # noqa: E402
from potstill.errors import ConfigError, UnknownName  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)
SOFT = Loss(kind=Kind.SOFT)
PARTS = (Part(loss=Loss(kind=Kind.HARD)), Part(loss=Loss(direction=Direction.REVERSE, temperature=2.0), share=0.5))
QUICK = TrainConfig(epochs=4, batch=32, learning_rate=0.02, warmup=5)


def looks(*agreements: float | None) -> list[Look]:
    return [Look(at, 0.0, agreement, None) for at, agreement in enumerate(agreements)]


def voted(count: int, seed: int = 0) -> list:
    return [
        msgspec.structs.replace(
            one, evidence=Evidence.VOTES, votes=tuple(5 * int(action == one.action) for action in one.admissible)
        )
        for one in decisions(count, seed)
    ]


def recipe(**changes: object) -> RankerRecipe:
    return RankerRecipe(width=8, train=msgspec.structs.replace(QUICK, **changes))


def run(ours: RankerRecipe, **more: object) -> tuple[Prepared, Trained]:
    prepared = prepare(voted(120), voted(40, seed=1), ours)
    return prepared, teach(prepared, ours, **more)  # type: ignore[arg-type]


# --- pure -----------------------------------------------------------------------------------------------------------


def test_progress_is_the_best_agreement_so_far() -> None:
    assert learnt(()) == 0.0
    assert learnt(looks(0.4, 0.7, 0.6)) == 0.7
    assert learnt(looks(None)) == 0.0


def test_rules_are_as_worked_by_hand() -> None:
    rules = Adaptive(temperature=(4.0, 1.0), hard_share=(0.0, 0.8), curriculum=(0.2, 1.0))
    now = loss_at(SOFT, rules, 0.5)
    assert (now.temperature, now.hard_share) == (2.5, 0.4)
    assert [shown_at(100, rules, at) for at in (0.0, 0.5, 1.0)] == [20, 60, 100]
    assert shown_at(100, rules, 0.0, least=64) == 64
    assert shown_at(30, Adaptive(), 0.0) == 30


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-1, 2))
def test_a_rule_never_leaves_its_ends(first: float, last: float, progress: float) -> None:
    assert min(first, last) - 1e-9 <= between((first, last), progress) <= max(first, last) + 1e-9


def test_rules_as_typed() -> None:
    assert parsed(["temperature=4:1", "curriculum=.3:1"]) == Adaptive(temperature=(4.0, 1.0), curriculum=(0.3, 1.0))
    assert parsed([]) is None
    with pytest.raises(UnknownName, match="temperature"):
        parsed(["temprature=4:1"])
    for text, said in (("temperature=4", "--adapt temperature=4:1"), ("curriculum=0:1", "curriculum goes through 0.0")):
        with pytest.raises(ConfigError, match=said):
            parsed([text])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adaptive": Adaptive(temperature=(4.0, 1.0))}, "needs a soft loss, and this one is hard"),
        ({"adaptive": Adaptive(curriculum=(0.5, 1.0)), "mix": PARTS}, "Give one of both"),
        ({"mix": PARTS[:1]}, "A mix of one loss"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig(**changes)


# --- in the loop ----------------------------------------------------------------------------------------------------


def test_a_curriculum_begins_with_the_easiest_decisions() -> None:
    prepared = prepare(voted(120), voted(40, seed=1), recipe())
    order = prepared.data.easiest_first()
    assert sorted(order.tolist()) == list(range(120))
    counts = prepared.data.batch(order).mask_BA.sum(-1)
    assert (counts.diff() >= 0).all()
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": SOFT, "adaptive": Adaptive(temperature=(4.0, 1.0), hard_share=(0.0, 0.5), curriculum=(0.3, 1.0))},
        {"mix": PARTS},
    ],
    ids=["adaptive", "mix"],
)
def test_a_run_that_stopped_goes_on_to_the_same_bytes(changes: dict, tmp_path: Path) -> None:
    whole, _ = run(recipe(**changes))
    path = tmp_path / "c.pt"

    def stop(progress: Progress, total: int) -> None:
        if progress.step == 7:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(recipe(**changes), keeping=Keeping(path, every_steps=3), watch=stop)
    again, _ = run(recipe(**changes), keeping=Keeping(path, resume=True))
    one, other = arrays_of(whole.network), arrays_of(again.network)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    plain, _ = run(recipe(loss=SOFT))
    assert arrays_of(plain.network)["score.weight"].tobytes() != one["score.weight"].tobytes()


def test_a_mix_learns_and_remembers_how_hard_its_parts_pull() -> None:
    seen: list[list[float]] = []
    _, trained = run(recipe(mix=PARTS, epochs=12), watch=lambda progress, total: seen.append(list(progress.norms)))
    assert trained.best is not None
    assert trained.best > 0.8
    assert all(len(norms) == 2 and min(norms) > 0 for norms in seen)


def test_without_balance_shares_are_plain_factors_of_the_sum() -> None:
    """Two parts of the same loss are that loss: the same weights, to the last bits of a sum."""
    twice = (Part(loss=SOFT), Part(loss=SOFT, share=3.0))
    same = [arrays_of(run(recipe(steps=6, **changes))[0].network) for changes in ({"loss": SOFT}, {"mix": twice})]
    plain = arrays_of(run(recipe(steps=6, mix=twice, balanced=False))[0].network)
    for name, values in same[0].items():
        if name == "score.bias":  # no loss sees it: its gradient is rounding, and Adam makes steps of that
            continue
        np.testing.assert_allclose(values, same[1][name], atol=1e-3)
        np.testing.assert_allclose(values, plain[name], atol=1e-3)


def test_nothing_held_out_or_nothing_to_sort_by_is_refused() -> None:
    data = VectorExamples(np.eye(4, dtype=np.float32), [0, 1, 2, 3], action_count=4)
    network = new_mlp(MlpShape(sizes=(4, 8, 4)), seed=0)
    config = TrainConfig(steps=2, adaptive=Adaptive(curriculum=(0.5, 1.0)))
    with pytest.raises(ConfigError, match="none is held out"):
        train(network, data, config)
    with pytest.raises(ConfigError, match="know which decisions are easy"):
        train(network, data, config, held_out=data)
