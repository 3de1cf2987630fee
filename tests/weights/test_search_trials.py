"""A search tries, stops and keeps; killed, it goes on to the same trials. What it proposes depends on these alone."""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optuna")

import numpy as np  # noqa: E402
from grid_examples import decisions as grids  # noqa: E402
from policy_examples import decisions  # noqa: E402
from search_killed import BASE, TRIALS, run  # noqa: E402

from potstill.distill.weights.compress.chain import compress  # noqa: E402
from potstill.distill.weights.compress.subject import subject_of  # noqa: E402
from potstill.distill.weights.data.labelled import Evidence, Labelled  # noqa: E402
from potstill.distill.weights.gate import Floor  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.search.aim import Aim, Goal  # noqa: E402
from potstill.distill.weights.search.proposing import RANDOM, propose  # noqa: E402
from potstill.distill.weights.search.searching import Ended, search  # noqa: E402
from potstill.distill.weights.search.smaller import compression  # noqa: E402
from potstill.distill.weights.search.space import first_point, parts_of, recipe_at, space_of  # noqa: E402
from potstill.distill.weights.search.trials import Look, State, Trial, timeless  # noqa: E402
from potstill.distill.weights.search.trying import Data, shared_out, trial_recipe  # noqa: E402
from potstill.distill.weights.train import students, teaching  # noqa: E402
from potstill.distill.weights.train.loop import Diverged  # noqa: E402
from potstill.distill.weights.train.recipe import FilmRecipe, MlpRecipe  # noqa: E402
from potstill.edge.policy import Policy, network  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent


def rated(base: object, rate: float) -> object:
    return msgspec.structs.replace(base, train=msgspec.structs.replace(base.train, learning_rate=rate))  # type: ignore[attr-defined]


def test_a_killed_search_goes_on_to_the_same_trials(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = run(tmp_path / "whole.json")
    path = tmp_path / "killed.json"
    killed = subprocess.run(
        [sys.executable, str(HERE / "search_killed.py"), str(path), "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(msgspec.json.decode(path.read_bytes())["trials"]) == 2
    resumed = run(path, resume=True)
    assert [*map(timeless, resumed.trials)] == [*map(timeless, whole.trials)]
    assert resumed.best.number == whole.best.number
    assert run(path, resume=True).trials == resumed.trials, "nothing is left to try"
    more = run(path, resume=True, trials=TRIALS + 1)
    assert more.trials[:TRIALS] == resumed.trials
    with pytest.raises(ConfigError, match=r"another one .*: recipe: train: learning_rate .* 0\.1"):
        run(path, resume=True, base=rated(BASE, 0.1))  # type: ignore[arg-type]

    # The first is the recipe by hand. Who stopped did so at a rung (2 or 6 of 18 steps), the others took all.
    first = whole.trials[0]
    assert (recipe_at(BASE, first.point), first.state) == (BASE, State.FINISHED)
    states = {trial.state: trial for trial in whole.trials}
    assert states.keys() == {State.FINISHED, State.STOPPED}
    assert all(trial.steps == (18 if trial.state is State.FINISHED else trial.looks[-1].step) for trial in whole.trials)
    assert {look.step for trial in whole.trials for look in trial.looks} <= {2, 6, 18}
    assert [(one.pruned, one.bits) for one in first.variants] == [
        (share, bits) for share in (0, 0.5) for bits in (32, 8, 4)
    ]
    assert first.variants[0].bytes == 4 * first.parameters
    assert all(wide.bytes > few.bytes for few, wide in itertools.pairwise(reversed(first.variants[:3])))
    assert all(whole.bytes > few.bytes for whole, few in zip(first.variants[:3], first.variants[3:], strict=True))
    assert states[State.STOPPED].variants == ()


def test_tasks_are_learnt_or_judge_and_too_few_are_said() -> None:
    learn = decisions(40)
    data = shared_out([*learn, *learn], 0.3)
    assert not {one.task_id for one in data.learn} & {one.task_id for one in data.judge}
    assert len(data.learn) + len(data.judge) == 80
    assert 10 <= len(data.judge) <= 40
    with pytest.raises(ConfigError, match=r"The 1 tasks .* larger --held-out"):
        shared_out(learn[:1], 0.3)


def test_what_diverged_is_a_trial_and_the_budget_ends_a_search(tmp_path: Path) -> None:
    data, wild = Data(decisions(60), decisions(20, seed=1)), rated(BASE, 1e30)
    found = search(wild, data, count=2, path=tmp_path / "a.json")  # type: ignore[arg-type]
    assert [trial.state for trial in found.trials] == [State.DIVERGED, State.FINISHED]
    assert (found.best.number, found.ended) == (1, Ended.ALL_TRIALS)
    with pytest.raises(Diverged, match="None of the 1 trials"):
        search(wild, data, count=2, path=tmp_path / "b.json", cpu_s=1e-9)  # type: ignore[arg-type]
    short = search(BASE, data, count=2, path=tmp_path / "c.json", cpu_s=1e-9)
    assert (len(short.trials), short.ended) == (1, Ended.CPU)


def test_soft_losses_are_tried_where_the_teachers_distribution_is_known(tmp_path: Path) -> None:
    def voted(count: int, seed: int) -> list[object]:
        found = []
        for one in decisions(count, seed):
            votes = tuple(3 if action == one.action else 1 for action in one.admissible)
            found.append(msgspec.structs.replace(one, evidence=Evidence.VOTES, votes=votes))
        return found

    data = Data(voted(60, 0), voted(20, 1))  # type: ignore[arg-type]
    found = search(BASE, data, count=6, path=tmp_path / "soft.json")
    (soft, *_) = [trial.point for trial in found.trials if trial.point["kind"] == "soft"]
    assert soft.keys() == {"tasks", "width", "learning_rate", "kind", "temperature", "direction", "hard_share"}


def test_a_proposal_is_a_function_of_the_trials_and_learns_from_them() -> None:
    space = space_of(BASE, soft=True)
    for seed in (0, 1):
        trials = [Trial(number=0, point=first_point(BASE), state=State.DIVERGED, steps=1)]
        while len(trials) < 40:
            point = propose(space, trials, seed)
            assert propose(space, trials, seed) == point
            assert parts_of(space, point).keys() == point.keys()
            value = -abs(math.log10(float(point["learning_rate"])) + 3)  # best at 0.001
            trials.append(
                Trial(number=len(trials), point=point, state=State.FINISHED, steps=9, looks=(Look(9, value),))
            )
        values = [trial.looks[-1].value for trial in trials[1:]]
        assert statistics.mean(values[-20:]) > statistics.mean(values[:RANDOM]) + 0.1


def test_a_goal_beside_the_value_steers_proposals_and_stopped_trials_say_what_they_had_reached() -> None:
    """The value knows nothing of the share of the tasks: only who looks for few labels comes to learn from few."""
    space, few = space_of(BASE, soft=True), {}
    for goal in (Goal.SUCCESS, Goal.LABELS):
        shares = list[float]()
        for seed in (0, 1, 2):
            trials = [Trial(number=0, point=first_point(BASE), state=State.DIVERGED, steps=1, labels=400)]
            while len(trials) < 30:
                point = propose(space, trials, seed, goal)
                assert propose(space, trials, seed, goal) == point
                value = 0.5 - abs(math.log10(float(point["learning_rate"])) + 3) / 4
                state = State.STOPPED if len(trials) % 3 == 0 else State.FINISHED
                labels = round(400 * float(point["tasks"]))
                new = Trial(number=len(trials), point=point, state=state, steps=9, looks=(Look(9, value),))
                trials.append(msgspec.structs.replace(new, labels=labels, parameters=100))
            shares += [float(one.point["tasks"]) for one in trials[-15:]]
        few[goal] = statistics.mean(shares)
    assert few[Goal.LABELS] < few[Goal.SUCCESS] - 0.1


def test_a_search_for_few_labels_keeps_what_cheaper_trials_found_and_is_another_search(tmp_path: Path) -> None:
    data, path = Data(decisions(120), decisions(40, seed=1)), tmp_path / "search.json"
    few = search(BASE, data, count=5, path=path, aim=Aim(goal=Goal.LABELS, within=1.0))
    assert few.best.labels == min(one.labels for one in few.trials if one.state is State.FINISHED) < 120
    again = search(BASE, data, count=5, path=path, aim=Aim(goal=Goal.LABELS, within=0.0), resume=True)
    assert (again.trials, again.best.value) == (few.trials, max(one.value or 0 for one in few.trials))
    with pytest.raises(ConfigError, match=r"another one \(its value / this one.s\): goal labels / success"):
        search(BASE, data, count=5, path=path, resume=True)


def test_what_is_measured_pruned_is_what_the_command_makes(tmp_path: Path) -> None:
    """Equal bytes and agreement: the variant of a trial, and compress run on what was trained."""
    data = Data(decisions(120), decisions(40, seed=1))
    base = msgspec.structs.replace(BASE, width=16, train=msgspec.structs.replace(BASE.train, steps=60))
    (trial,) = search(base, data, count=1, path=tmp_path / "search.json").trials
    half, *_ = [one for one in trial.variants if one.pruned and one.bits == 32]
    recipe = trial_recipe(base, trial.point, len(data.learn))
    prepared = students.prepare(data.learn, data.judge, recipe)
    teaching.teach(prepared, recipe)
    arrays, config = arrays_of(prepared.network), prepared.network.shape.config()
    policy = Policy(network(arrays, config), config, {}, arrays, 1.0)
    loose = Floor(agreement=0.0, kl_nats=100.0, difference=None)
    how = msgspec.structs.replace(compression(recipe, len(data.learn)), floor=loose)
    state = compress(subject_of(policy, data.learn, data.judge), how).state
    sizes = [sum(array.nbytes for array in made.values()) for made in (arrays, state.arrays)]
    assert [trial.variants[0].bytes, half.bytes] == sizes
    assert half.parameters == sum(array.size for array in state.arrays.values()) < trial.parameters
    smaller = network(state.arrays, state.config)
    right = [
        one.admissible[int(np.argmax(smaller.logits(msgspec.to_builtins(one.situation), one.admissible)))] == one.action
        for one in data.judge
    ]
    assert half.value == statistics.mean(right)
    assert half.cpu_s > 0
    assert trial.smaller_cpu_s >= half.cpu_s


def test_a_perceptron_without_hidden_layers_has_no_units_to_lose(tmp_path: Path) -> None:
    def vectors(count: int, seed: int) -> list[Labelled]:
        rng, made = random.Random(seed), []
        for one in decisions(count, seed):
            seen = [round(rng.uniform(-1, 1), 3) for _ in range(3)]
            situation = msgspec.structs.replace(one.situation, observation=str(seen), past=())
            action = "left" if seen[0] < 0 else "right"
            made.append(msgspec.structs.replace(one, situation=situation, admissible=("left", "right"), action=action))
        return made

    data = Data(vectors(60, 0), vectors(30, 1))
    for layers, shares in ((0, {0.0}), (1, {0.0, 0.5})):
        base = MlpRecipe(width=8, layers=layers, train=BASE.train)
        (trial,) = search(base, data, count=1, path=tmp_path / f"{layers}.json").trials
        assert {one.pruned for one in trial.variants} == shares


def test_a_grid_students_trial_is_made_smaller_as_any_others(tmp_path: Path) -> None:
    base = FilmRecipe(width=8, train=msgspec.structs.replace(BASE.train, steps=4, batch=8))
    data = Data(grids(40), grids(16, seed=1))
    found = search(base, data, count=2, path=tmp_path / "a.json", aim=Aim(goal=Goal.BYTES, within=1.0))
    assert {(one.pruned, one.bits) for one in found.best.variants} == set(itertools.product((0.0, 0.5), (32, 8, 4)))
    assert (found.variant.pruned, found.variant.bits) == (0.5, 4)
    assert {trial.labels for trial in found.trials} <= {40, 20, 10}
