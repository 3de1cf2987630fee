"""What K samples of a black-box teacher are worth beside its whole distribution: equal states, equal gradient steps.

    python bench/weights_labels.py [--seeds 3] [--worlds orders cart-pole]

The teacher is a policy whose distribution is known. In the states of its own greedy episodes it is asked for K samples,
and a student learns from their shares (``alpha`` 0), from their shares after Dirichlet smoothing (``alpha`` .5 is
Jeffreys' prior, added to every admissible action; ``1/A`` adds one vote in all), from the whole distribution, or from
the teacher's first choice, which is one answer at temperature 0. Fewer samples are the first ones of more. Of orders a
student learns, too, from the probabilities of the likeliest actions alone (a top-k), the rest as one outcome or left
out. The last weights count.

``orders`` (``house-rules``, text, ten actions at most; each seed another house): the teacher is a ranker that learnt
from the expert; it samples at the temperature at which its first choice has the probability ``--first`` on average, and
that tempered distribution is what all students are to learn. ``cart-pole`` (vectors, two actions): the teacher of
``recipes/control_teachers.py``, as it is. Score: the share of test orders done; on CartPole ``(return - random) /
(teacher's - random)``. Agreement (with the teacher's first choice) and KL(teacher || student), in nats, are means over
states of the teacher's test episodes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

import _control
import _ways as ways
from potstill.distill.weights.data import Evidence, Labelled
from potstill.distill.weights.data.labelled import normalised
from potstill.distill.weights.losses.config import Kind, Loss, Rest
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.soft_labels import dirichlet_rows
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.edge.policy import Policy, network
from potstill.envs.control.games import CART_POLE
from potstill.types import Situation

NAME = "weights_labels"
SAMPLES = (1, 3, 5, 10)
RATE = 6e-3
"""Three times the usual learning rate: so few steps would leave every student undertrained."""
ALL, FIRST = "the whole distribution", "its first choice"
Ask = Callable[[Situation, Sequence[str]], dict[str, float]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Recipe(NamedTuple):
    """What is known of the teacher in each state."""

    samples: int = 0
    """0: everything."""
    alpha: float | str = 0.0
    """``1/A``: one vote in all."""
    told: int = 0
    """Only the probabilities of so many, the likeliest; 0: of all."""
    rest: Rest = Rest.BUCKET

    @property
    def name(self) -> str:
        if self.told:
            return f"the likeliest {self.told}, the rest {'as one' if self.rest is Rest.BUCKET else 'left out'}"
        if not self.samples:
            return ALL
        return f"{self.samples} sample{'s' if self.samples > 1 else ''}, " + (
            f"smoothed by {self.alpha:g}"
            if isinstance(self.alpha, float) and self.alpha
            else f"smoothed by {self.alpha}"
            if self.alpha
            else "shares"
        )

    def target(self, teacher: Floats, drawn: Sequence[int]) -> Floats:
        """A distribution over the actions, (A,), from the teacher's own and from draws of it."""
        if not self.samples:
            return teacher
        counts = np.bincount(drawn[: self.samples], minlength=len(teacher))
        alpha = 1 / len(teacher) if self.alpha == "1/A" else float(self.alpha)
        return dirichlet_rows(counts[None], alpha=alpha)[0]


FEW = (1, 3)
"""Where it matters by how much is smoothed."""
SOFT = [
    Recipe(),
    *(Recipe(k, alpha) for k in SAMPLES for alpha in (0.0, "1/A", 0.5) if alpha != "1/A" or k in FEW),
]


TOLD = [Recipe(told=k, rest=rest) for k in (1, 2, 3) for rest in Rest if k > 1 or rest is Rest.BUCKET]
"""Of ten actions. The likeliest alone with nothing beside it is the first choice."""


class Measured(NamedTuple):
    """Of one recipe, over all seeds; keys as in ``_ways.Scores``."""

    score: ways.Scores
    agreement: ways.Scores
    kl: ways.Scores
    cpu_s: list[float]


Found = dict[str, Measured]


def main() -> None:
    options = parsed()
    for world in options.worlds:
        started = time.process_time()
        found = WORLDS[world](options)
        rows = [row(name, one, world) for name, one in found.items()]
        measured = {**vars(options), "worlds": world, "cpu_s": time.process_time() - started}
        differences = [
            ways.paired(of, scores(found[of]), twin, scores(found[twin])) for of, twin in pairs() if of in found
        ]
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        ways.write(NAME, world, rows, differences, measured=measured, n=options.test, seeds=seeds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--seeds", type=int, default=3, help="teachers (orders), samples and students")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--test", type=int, default=60, help="test tasks of each student")
    parser.add_argument("--teach", type=int, default=200, help="orders: tasks whose expert teaches the teacher")
    parser.add_argument("--tasks", type=int, default=60, help="orders: tasks of the teacher's episodes")
    parser.add_argument("--first", type=float, default=0.7, help="orders: the first choice's mean probability")
    parser.add_argument(
        "--steps", type=int, default=300, help="gradient steps of 32 decisions (CartPole: twice as many, of 64)"
    )
    parser.add_argument("--labels", type=int, default=1000, help="CartPole: states")
    return parser.parse_args()


# --- orders in text -------------------------------------------------------------------------------------------------


def orders(options: argparse.Namespace) -> Found:
    found: Found = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        house = ways.world(seed, options.teach + options.tasks, options.test)
        mine, test = house.train, house.test
        shown = [ways.play(task, ways.expert, "expert") for task in mine[: options.teach]]
        taught = ways.taught(ways.decisions_of(shown), steps=1000, seed=seed, learning_rate=RATE)
        teacher = ways.acting(taught)
        visited, tested = (
            ways.decisions_of([ways.play(task, teacher, "teacher") for task in some], only_successes=False)
            for some in (mine[options.teach :], test)
        )
        ask = ways.asker(taught)
        temperature = tempered([logarithms(ask, one) for one in visited], options.first)
        right = [shares(logarithms(ask, one) / temperature) for one in tested]
        chance = np.random.default_rng(seed)
        asked = [shares(logarithms(ask, one) / temperature) for one in visited]
        drawn = [chance.choice(len(p), size=max(SAMPLES), p=p).tolist() for p in asked]
        for recipe in (None, *SOFT, *TOLD):
            learn = [known(*state, recipe) for state in zip(visited, asked, drawn, strict=True)]
            loss = Loss(kind=Kind.HARD) if recipe is None else Loss(rest=recipe.rest)
            student = ways.taught(learn, steps=options.steps, seed=seed, loss=loss, learning_rate=RATE)
            name = FIRST if recipe is None else recipe.name
            one = found.setdefault(name, Measured({}, {}, {}, []))
            one.cpu_s.append(student.cpu_s)
            asks = ways.asker(student)
            for number, (state, teachers) in enumerate(zip(tested, right, strict=True)):
                compare(one, (state.task_id, seed * 10_000 + number), teachers, shares(logarithms(asks, state)))
            acts = ways.acting(student)
            one.score.update({(task.id, seed): float(ways.play(task, acts, "student").succeeded) for task in test})
        own = found.setdefault("the teacher itself", Measured({}, {}, {}, []))
        own.score.update({(task.id, seed): float(ways.play(task, teacher, "teacher").succeeded) for task in test})
        print(f"orders, seed {seed}: {len(visited)} states, temperature {temperature:.2f}", flush=True)
    return found


def logarithms(ask: Ask, one: Labelled) -> Floats:
    """Log-probabilities of the admissible actions, (A,)."""
    told = ask(one.situation, one.admissible)
    return np.log(np.maximum([told[action] for action in one.admissible], 1e-12))


def shares(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum())


def tempered(states: Sequence[Floats], first: float) -> float:
    """The temperature at which the first choice has this probability on average: halved on a log scale."""
    low, high = -5.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        surer = np.mean([shares(state / math.exp(middle)).max() for state in states]) > first
        low, high = (middle, high) if surer else (low, middle)
    return math.exp(low)


def known(state: Labelled, teacher: Floats, drawn: Sequence[int], recipe: Recipe | None) -> Labelled:
    """The decision as this recipe knows it; None: by the teacher's first choice."""
    if recipe is None:
        return msgspec.structs.replace(state, action=state.admissible[int(np.argmax(teacher))])
    if recipe.told:
        least = np.sort(teacher)[-recipe.told]
        some = tuple(math.log(p) if p >= least else None for p in teacher.tolist())
        return msgspec.structs.replace(state, evidence=Evidence.TOP_K, log_probabilities=some)
    with np.errstate(divide="ignore"):
        told = normalised(np.log(recipe.target(teacher, drawn)).tolist())
    assert told is not None, "a target is a distribution"
    return msgspec.structs.replace(state, evidence=Evidence.LOG_PROBABILITIES, log_probabilities=told)


# --- two actions, vectors -------------------------------------------------------------------------------------------


def cart_pole(options: argparse.Namespace) -> Found:
    act, policy = _control.teacher_of(CART_POLE, _control.WORK)
    theirs = _control.returns(CART_POLE, act, episodes=options.test)
    lead = float(np.mean(theirs)) - CART_POLE.random_return
    tested = _control.labels(CART_POLE, act, policy, count=10_000, first=800_000)
    some = np.random.default_rng(0).choice(10_000, size=1_000, replace=False)
    right = probabilities(tested)[some]
    found: Found = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        states = _control.labels(CART_POLE, act, policy, count=options.labels, first=seed * 1_000)
        chance, asked = np.random.default_rng(seed), probabilities(states)
        drawn = [chance.choice(len(p), size=max(SAMPLES), p=p).tolist() for p in asked]
        for recipe in (None, *SOFT):
            name = FIRST if recipe is None else recipe.name
            one = found.setdefault(name, Measured({}, {}, {}, []))
            student, logits_of = perceptron(states, asked, drawn, recipe, options, seed, one)
            for row_, teachers, own in zip(some, right, logits_of(tested.observations[some]), strict=True):
                compare(one, (f"episode {row_ // 500}", seed * 10_000 + int(row_)), teachers, shares(own))
            played = _control.returns(CART_POLE, _control.acting(student, CART_POLE), episodes=options.test)
            one.score.update(
                {(str(at), seed): (value - CART_POLE.random_return) / lead for at, value in enumerate(played)}
            )
        print(f"cart-pole, seed {seed}: first choice {asked.max(axis=1).mean():.3f} on average", flush=True)
    return found


def probabilities(states: _control.Labels) -> Floats:
    assert states.logits is not None, "CartPole's teacher has a distribution"
    return np.stack([shares(row_) for row_ in states.logits])


def perceptron(
    states: _control.Labels,
    asked: Floats,
    drawn: Sequence[Sequence[int]],
    recipe: Recipe | None,
    options: argparse.Namespace,
    seed: int,
    measured: Measured,
) -> tuple[Policy, Callable[[Any], Any]]:
    """A student of 64 hidden units as it acts, and its logits."""
    first = asked.argmax(axis=1)
    with np.errstate(divide="ignore"):
        logits = None if recipe is None else np.log([recipe.target(p, d) for p, d in zip(asked, drawn, strict=True)])
    data = VectorExamples(states.observations, first, action_count=len(CART_POLE.actions), logits=logits)
    shape = MlpShape(sizes=(CART_POLE.numbers, 64, len(CART_POLE.actions)), actions=CART_POLE.actions)
    trained = new_mlp(shape, seed=seed, normal=data.normal())
    loss = Loss(kind=Kind.HARD if recipe is None else Kind.SOFT)
    config = TrainConfig(seed=seed, steps=2 * options.steps, patience=0, loss=loss)
    started = time.process_time()
    train(trained, data, config)
    measured.cpu_s.append(time.process_time() - started)
    arrays = arrays_of(trained)
    policy = Policy(network(arrays, shape.config()), shape.config(), {}, arrays, 1.0)
    return policy, policy.network.logits


# --- both -----------------------------------------------------------------------------------------------------------


def compare(one: Measured, key: tuple[str, int], teacher: Floats, student: Floats) -> None:
    one.agreement[key] = float(teacher.argmax() == student.argmax())
    inside = teacher > 0
    one.kl[key] = float(np.sum(teacher[inside] * np.log(teacher[inside] / np.maximum(student[inside], 1e-12))))


def row(name: str, one: Measured, world: str) -> dict[str, Any]:
    made: dict[str, Any] = {"recipe": name, **ways.told("score", one.score, share=world == "orders")}
    if one.cpu_s:
        made |= {**ways.told("agreement", one.agreement, share=True), **ways.told("kl", one.kl)}
        made["training_cpu_s"] = sum(one.cpu_s) / len(one.cpu_s)
    return {**made, "score_by_seed": ways.by_seed(one.score)}


def scores(one: Measured) -> Mapping[str, ways.Scores]:
    return {"score": one.score, "agreement": one.agreement, "kl": one.kl}


def pairs() -> list[tuple[str, str]]:
    """Smoothed against not, samples against everything, samples against one answer at temperature 0."""
    plain = [(one.name, Recipe(one.samples).name) for one in SOFT if one.alpha]
    return [
        *plain,
        *((Recipe(k).name, ALL) for k in SAMPLES),
        *((one.name, ALL) for one in TOLD),
        *((one.name, FIRST) for one in TOLD),
        (FIRST, Recipe(1).name),
        (Recipe(10).name, FIRST),
        (FIRST, ALL),
    ]


WORLDS: dict[str, Callable[[argparse.Namespace], Found]] = {"orders": orders, "cart-pole": cart_pole}

if __name__ == "__main__":
    main()
