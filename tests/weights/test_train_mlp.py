"""A perceptron from recorded decisions: which arrays they become, what is refused, and a whole way to a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from data_episodes import episode  # noqa: E402

from potstill.distill.weights import artefact  # noqa: E402
from potstill.distill.weights.data import write  # noqa: E402
from potstill.distill.weights.data.build import build  # noqa: E402
from potstill.distill.weights.data.labelled import Evidence, Labelled  # noqa: E402
from potstill.distill.weights.gate import compare, edge_side  # noqa: E402
from potstill.distill.weights.lineage import Manifest, read  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.mlp import questions_of, trained_side, vector_examples  # noqa: E402
from potstill.distill.weights.train.recipe import MlpRecipe  # noqa: E402
from potstill.distill.weights.train.students import prepare  # noqa: E402
from potstill.distill.weights.train.teaching import teach  # noqa: E402
from potstill.edge.policy import Policy, network, open_policy  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.types import Past, Situation  # noqa: E402

pytestmark = pytest.mark.extra


def decision(vector: list[float] | str, action: str = "left", **fields: Any) -> Labelled:
    seen = vector if isinstance(vector, str) else json.dumps(vector)
    given = {
        "environment": "line",
        "task_id": "t",
        "trajectory_id": "e",
        "step_index": 0,
        "situation": Situation(observation=seen),
        "admissible": ("right", "left"),
    }
    return Labelled(action=action, **{**given, **fields})


def line(count: int, seed: int) -> list[Labelled]:
    """The teacher goes to 0."""
    drawn = np.random.default_rng(seed).normal(0, 3, (count, 2)).round(3)
    return [decision(row.tolist(), "left" if row[0] > 0 else "right", step_index=at) for at, row in enumerate(drawn)]


def test_distributions_follow_the_names_not_the_order_they_were_listed_in() -> None:
    told = decision([1, 2], evidence=Evidence.LOG_PROBABILITIES, log_probabilities=(math.log(0.25), math.log(0.75)))
    batch = vector_examples([told, decision([3, 4], "right")], ("left", "right"), 2).batch(np.arange(2))
    assert batch.target_B.tolist() == [0, 1]
    np.testing.assert_allclose(batch.probabilities_BA, [[0.75, 0.25], [0, 1]], atol=1e-6)
    np.testing.assert_array_equal(batch.inputs, [[1, 2], [3, 4]])
    assert vector_examples([decision([1])], ("left", "right"), 1).batch(np.arange(1)).probabilities_BA is None


@pytest.mark.parametrize("loss_says", ["hard", "soft"])
def test_it_learns_the_line_and_the_runtime_decides_alike(loss_says: str) -> None:
    from potstill.distill.weights.losses.config import build as loss

    learn, held_out = line(300, 0), line(80, 1)
    if loss_says == "soft":
        learn = [
            decision(
                one.situation.observation,
                one.action,
                evidence=Evidence.LOG_PROBABILITIES,
                log_probabilities=tuple(math.log(0.9 if a == one.action else 0.1) for a in one.admissible),
            )
            for one in learn
        ]
    config = TrainConfig(steps=150, batch=32, learning_rate=0.01, patience=0, loss=loss({"kind": loss_says}))
    recipe = MlpRecipe(width=8, train=config)
    prepared = prepare(learn, held_out, recipe)
    assert prepared.parameters == 2 * 8 + 8 + 8 * 2 + 2
    trained = teach(prepared, recipe)
    assert trained.best is not None
    assert trained.best > 0.95
    arrays, config = arrays_of(prepared.network), prepared.network.shape.config()
    exported = Policy(network(arrays, config), config, {}, arrays, 1.0)
    assert compare(trained_side(prepared.network), edge_side(exported), questions_of(held_out)).passed
    assert exported.network.actions == ("left", "right")


@pytest.mark.parametrize(
    ("learn", "said"),
    [
        ([], "no decision to learn from"),
        ([decision("You see a lamp.")], "'You see a lamp.': an mlp reads vectors.*--student ranker"),
        ([decision("A lamp."), decision("A bed.", "go", admissible=("go", "nap"))], "an mlp reads vectors"),
        ([decision([1, 2]), decision([1], "right", task_id="u")], "task u step 0 has 1 numbers, the first one 2"),
        ([decision([1]), decision([2])], "the same in every decision"),
        ([decision([1]), decision([2], "up", admissible=("up", "left"), task_id="u")], "action spaces differ"),
        ([decision("[1, NaN]")], "no JSON list of numbers"),
    ],
)
def test_data_for_another_student_are_refused(learn: list[Labelled], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(learn, [], MlpRecipe())


@pytest.mark.parametrize("wrong", [{"width": 0}, {"layers": 9}, {"activation": "gelu"}, {"dropout": 1.0}])
def test_recipes_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MlpRecipe(**wrong)


def test_a_linear_policy_has_no_hidden_layer() -> None:
    prepared = prepare(line(20, 0), line(5, 1), MlpRecipe(layers=0))
    assert prepared.network.shape.sizes == (2, 2)


@pytest.mark.parametrize(("past", "kept"), [(None, 2), (1, 1), (0, 0), (9, 2)])
def test_a_situation_keeps_the_newest_turns_only(past: int | None, kept: int, tmp_path: Path) -> None:
    built = build([episode("a", ("look", "go north", "go south"))], fractions={"train": 1.0}, past=past)
    last = built.splits["train"][-1].situation
    assert len(last.past) == kept
    assert (
        last.past
        == (Past(observation="place 0", action="look"), Past(observation="place 1", action="go north"))[2 - kept :]
    )
    manifest = write([episode("a", ("look", "go north"))], tmp_path / "d", fractions={"train": 1.0}, past=past)
    assert manifest.recipe.past == past


def test_less_than_no_past_is_refused() -> None:
    with pytest.raises(ConfigError, match="past is -1"):
        build([episode("a")], fractions={"train": 1.0}, past=-1)


def test_from_the_rules_of_a_game_to_a_file_that_plays_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """CartPole, taught by a policy's file as a model, so that its distribution is learnt, too."""
    pytest.importorskip("gymnasium")
    from potstill.cli.main import main
    from potstill.envs.control.games import CART_POLE

    call = _caller(main, capfd)
    teacher, db, out = tmp_path / "teacher.policy", tmp_path / "t.db", tmp_path / "student.policy"
    falls = np.array([0.1, 0.5, 9.0, 2.0])
    arrays = {"layers.0.weight": np.stack([-falls, falls]), "layers.0.bias": np.zeros(2)}
    config = {"kind": "mlp", "sizes": [4, 2], "actions": list(CART_POLE.actions)}
    artefact.write(teacher, arrays, config, Manifest(created="2026-11-22T00:00:00+00:00"))
    world = ("--env", "cart-pole", "--db", str(db))
    call("distill", "context", *world, "--split", "train", "--n", "2", "--teacher", f"policy:{teacher}")
    student = ("--student", "mlp", "--width", "8", "--held-out", "0.5", "--steps", "500", "--learning-rate", "0.01")
    play = ("--play", "1", "--max-steps", "40", "--look-every", "500")
    loss = ("--loss", "kind=soft", "--loss", "temperature=2")
    made = json.loads(call("distill", "weights", "--db", str(db), "--out", str(out), *student, *play, *loss, "--json"))
    assert made["parameters"] == 4 * 8 + 8 + 8 * 2 + 2
    assert made["parity"]["agreement"] == 1.0
    assert made["agreement"] > 0.75
    train = read(out).manifest.configuration["train"]
    assert (train["loss"]["kind"], train["loss"]["temperature"], train["loss"]["hard_share"]) == ("soft", 2, 0)
    assert (train["batch"], train["clip"]) == (64, 1)  # nobody typed them
    small = tmp_path / "small.policy"
    words = ("--prune", "0.25", "--finetune-steps", "20", "--int8", "--least-agreement", "0.5", "--most-kl", "1")
    fewer = json.loads(call("compress", str(out), "--out", str(small), *words, "--json"))
    assert [row["verdict"] for row in fewer["stages"]] == ["given", "not judged yet", "kept", "kept"]
    assert open_policy(small).config["actions"] == list(CART_POLE.actions)
    assert fewer["stages"][-1]["parameters"] == 4 * 6 + 6 + 6 * 2 + 2 + 8  # with mean and scale of four numbers
    most = ("--max-steps", "150")
    call(
        "run",
        *world,
        "--split",
        "test",
        "--n",
        "1",
        "--student",
        f"policy:{out}",
        "--arm",
        "zero-shot",
        "--run",
        "r",
        *most,
    )
    from potstill.trajectories import Store

    with Store.read(str(db)) as store:
        (played,) = store.select(run_id="r")
    assert played.outcome is not None
    assert played.outcome.detail == "not finished: return 150 in 150 steps"  # chance falls within 100


def _caller(main: Callable[..., None], capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*words: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capfd.readouterr()
        assert not ended.value.code, err
        return out

    return call
