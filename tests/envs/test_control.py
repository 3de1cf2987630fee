"""Gymnasium's control tasks: vectors that survive as text, outcomes by the task's threshold, experts that act."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from potstill.edge import seal, tensors
from potstill.edge.vectors import vector_of
from potstill.envs.check import Status, check_environment
from potstill.envs.registry import describe, factory, open_source
from potstill.errors import BadTask, ConfigError, EnvError, TaskNotFound
from potstill.types import Action, Task

pytest.importorskip("gymnasium", reason="needs: pip install 'potstill[control]'")

from potstill.envs.control.environment import as_text
from potstill.envs.control.games import ACROBOT, CART_POLE, LUNAR_LANDER, Game

GAMES = (CART_POLE, ACROBOT, LUNAR_LANDER)


def needs(game: Game) -> None:
    if game is LUNAR_LANDER:
        pytest.importorskip("Box2D", reason="needs: pip install 'potstill[control]'")


def write_teacher(path: Path, weights: np.ndarray, actions: tuple[str, ...]) -> Path:
    """A linear policy's file, written without the parts that train."""
    arrays = {"layers.0.weight": weights.astype(np.float32), "layers.0.bias": np.zeros(len(weights), np.float32)}
    config = {"kind": "mlp", "sizes": [weights.shape[1], len(weights)], "actions": list(actions)}
    said = seal.canonical(config)
    manifest = {"arrays_sha256": seal.arrays_sha256(arrays), "config_sha256": seal.text_sha256(said), "parents": []}
    told = seal.canonical(manifest)
    path.write_bytes(
        tensors.to_bytes(arrays, {seal.CONFIG: said, seal.MANIFEST: told, seal.SEAL: seal.text_sha256(told)})
    )
    return path


@pytest.fixture
def balancing(tmp_path: Path) -> Path:
    """Pushes to the side to which the pole falls: a few hundred steps upright."""
    falls = np.array([0.0, 0.5, 3.0, 1.0])
    return write_teacher(tmp_path / "teacher.policy", np.stack([-falls, falls]), CART_POLE.actions)


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
def test_the_contract_holds(game: Game) -> None:
    needs(game)
    tasks = open_source(game.name).tasks("train")[:2]
    findings = check_environment(factory(game.name), tasks, max_steps=game.max_steps)
    assert [one for one in findings if one.status is Status.FAILED] == []


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
def test_limits_and_thresholds_are_gymnasiums_own(game: Game) -> None:
    import gymnasium

    spec = gymnasium.spec(game.id)
    assert (game.max_steps, game.threshold) == (spec.max_episode_steps, spec.reward_threshold)
    assert describe(game.name).max_steps == game.max_steps
    needs(game)
    assert gymnasium.make(game.id).action_space.n == len(game.actions)


def test_the_text_is_the_vector() -> None:
    environment = factory("cart-pole")()
    text = environment.reset(open_source("cart-pole").tasks("test")[0], 0).text
    import gymnasium

    seen, _ = gymnasium.make("CartPole-v1").reset(seed=2_000_000)
    found = vector_of(text)
    assert found is not None
    assert found.tobytes() == seen.tobytes()
    extremes = np.array([1e-38, -3.4e38, 0.1, 1 / 3, -0.0], np.float32)
    again = vector_of(as_text(extremes))
    assert again is not None
    assert again.tobytes() == extremes.tobytes()


def test_splits_share_no_episode() -> None:
    source = open_source("cart-pole", train=5, valid=4, test=3)
    seeds = {split: [task.data["seed"] for task in source.tasks(split)] for split in source.splits()}
    assert seeds["train"] == [0, 1, 2, 3, 4]
    assert len({seed for found in seeds.values() for seed in found}) == 12
    with pytest.raises(TaskNotFound, match="train, valid, test"):
        source.tasks("dev")
    with pytest.raises(ConfigError, match="1000001"):
        open_source("cart-pole", train=1_000_001)


@pytest.mark.parametrize(
    ("game", "episode_return", "score"),
    [(CART_POLE, 249.0, 0.5), (CART_POLE, 500.0, 1.0), (ACROBOT, -497.0, 0.0), (LUNAR_LANDER, -300.0, 0.0)],
)
def test_the_score_is_0_for_random_and_1_from_the_threshold_on(game: Game, episode_return: float, score: float) -> None:
    assert game.score(episode_return) == score


def test_the_outcome_is_the_return_against_the_threshold(balancing: Path) -> None:
    environment = factory("cart-pole", teacher=str(balancing))()
    done = {}
    for task in open_source("cart-pole", train=4).tasks("train"):
        observation, steps = environment.reset(task, 0), 0
        assert environment.outcome().detail.startswith("not finished: return 0 in 0 steps")
        while not observation.done:
            action = environment.expert_action()
            assert action is not None
            observation, steps = environment.step(action), steps + 1
        outcome = environment.outcome()
        assert outcome.detail == f"return {steps} in {steps} steps"
        assert outcome.success is (steps >= 475)
        assert outcome.score == observation.score == pytest.approx(min(1.0, (steps - 23) / 452))
        assert observation.admissible == ()
        assert environment.expert_action() is None
        done[task.id] = steps
    assert max(done.values()) > 100, done  # the teacher balances; chance ends before step 100


def test_a_fall_is_no_success_and_the_end_is_the_end() -> None:
    environment = factory("cart-pole")()
    observation = environment.reset(open_source("cart-pole").tasks("train")[0], 0)
    assert environment.expert_action() is None  # no rules of its own, and no teacher was named
    while not observation.done:
        observation = environment.step(Action(text=" Push LEFT "))
    assert environment.outcome().success is False
    with pytest.raises(EnvError, match="call reset"):
        environment.step(Action(text="push left"))


def test_what_is_no_action_costs_no_step() -> None:
    environment = factory("acrobot")()
    before = environment.reset(open_source("acrobot").tasks("train")[0], 0)
    after = environment.step(Action(text="jump"))
    assert after.text.endswith(before.text)
    assert "torque -1, torque 0, torque +1" in after.text
    assert environment.outcome().detail == "not finished: return 0 in 0 steps"


def test_the_rules_land() -> None:
    needs(LUNAR_LANDER)
    environment = factory("lunar-lander")()
    won = 0
    for task in open_source("lunar-lander", train=4).tasks("train"):
        observation = environment.reset(task, 0)
        while not observation.done:
            action = environment.expert_action()
            assert action is not None
            observation = environment.step(action)
        won += bool(environment.outcome().success)
    assert won >= 3  # 95 of 100 episodes, as docs/guides say


@pytest.mark.parametrize("data", [{}, {"seed": "x"}, {"seed": -1}, {"seed": None}])
def test_a_task_without_a_seed_is_refused(data: dict) -> None:
    with pytest.raises(BadTask, match="seed"):
        factory("cart-pole")().reset(Task(id="x", environment="cart-pole", data=data), 0)


def test_a_teacher_that_cannot_teach_is_one_line(balancing: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the teacher"):
        factory("cart-pole", teacher=str(tmp_path / "none.policy"))()
    with pytest.raises(ConfigError, match="push left, push right; Acrobot-v1 has torque -1"):
        factory("acrobot", teacher=str(balancing))()
    wide = write_teacher(tmp_path / "wide.policy", np.ones((2, 6)), CART_POLE.actions)
    with pytest.raises(ConfigError, match="reads 6 numbers; CartPole-v1 shows 4"):
        factory("cart-pole", teacher=str(wide))()
    (tmp_path / "text.policy").write_text("no policy")
    with pytest.raises(ConfigError):
        factory("cart-pole", teacher=str(tmp_path / "text.policy"))()
