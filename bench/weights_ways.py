"""Each other way to learn against its plain twin, in houses with hidden rules: equal labels, equal gradient steps.

    python bench/weights_ways.py [--seeds 5] [--orders 100] [--test 60] [--steps 600] [--ways teachers ...]

``teachers``: two teachers play the orders, the expert with 10 % random errors and with 25 %; a third is bad and plenty:
it errs in 70 % of its steps, each time by the next action in the list, and plays three times as many orders, the same
ones among them. Every recipe sees the same episodes.

``rules``: half of the orders teach rules, the other half certifies them; the student learns from all. Who answers, and
how wrong it is, is counted on the expert's decisions in test orders. ``adaptive`` and ``mix``: the teacher is a black
box of which five samples are known, each wrong with a chance of 30 %; a fifth of the orders is held out, and says how
far the student is.

``debates``: three policies that learnt from a sixth of the orders each say what they would do in the situations of all,
whose right answer is known; where some are right and some wrong, the student learns these pairs beside the decisions
(arXiv 2402.01620), with a share of all weight. The labels are the same for all recipes.

Whatever is measured is kept in the result file by its way, so that ways can be measured one after the other.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import _ways as ways
from potstill.distill.weights.data import Labelled
from potstill.distill.weights.debates.contrast import contrast, mixed
from potstill.distill.weights.debates.holding import Speaker, debates, drawn
from potstill.distill.weights.losses.balance import Part
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.rules.certifying import NotCertified, certify, layers
from potstill.distill.weights.rules.learning import learn_rules
from potstill.distill.weights.teachers.fusing import Teachers, fused, judge
from potstill.distill.weights.train.adaptive import Adaptive
from potstill.models.rule_list import answer

Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]
NAME = "weights_ways"


def main() -> None:
    options = parsed()
    for way in options.ways:
        rows, differences = WAYS[way](options)
        measured = {"orders": options.orders, "gradient_steps": options.steps}
        seeds = range(options.seeds)
        ways.write(NAME, way, rows, differences, measured=measured, n=options.test, seeds=seeds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="houses, each with its own teachers and students")
    parser.add_argument("--orders", type=int, default=100, help="orders to learn from, in each house")
    parser.add_argument("--test", type=int, default=60, help="orders to play, in each house")
    parser.add_argument("--steps", type=int, default=600, help="gradient steps of every student")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    return parser.parse_args()


# --- several teachers -----------------------------------------------------------------------------------------------


def several_teachers(options: argparse.Namespace) -> Found:
    soft = Loss(kind=Kind.SOFT)
    found: dict[str, ways.Scores] = {}
    cpu: dict[str, float] = {}
    right: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        world = ways.world(seed, 3 * options.orders, options.test)
        few = world.train[: options.orders]
        staff = {
            "good": (ways.erring(0.1, 10 * seed + 1), few),
            "fair": (ways.erring(0.25, 10 * seed + 2), few),
            "bad": (ways.erring(0.7, 10 * seed + 3, stubborn=True), world.train),
        }
        episodes = [ways.play(task, acts, name) for name, (acts, tasks) in staff.items() for task in tasks]
        decisions = ways.decisions_of(episodes, only_successes=False, by_teacher=True)
        judged = judge(decisions, outcome_share=len(episodes) / sum(len(one.steps) for one in episodes))
        for name, value in zip(judged.teachers, judged.reliability, strict=True):
            right.setdefault(name, []).append(value)
        recipes = {
            "pooled, all episodes": (decisions, {}),
            "pooled, successes only": (ways.decisions_of(episodes), {}),
            "weighed": (fused(decisions, judged, Teachers.WEIGHED), {"loss": soft}),
            "routed to the best": (fused(decisions, judged, Teachers.ROUTED), {}),
            "the expert's own labels (more is not to be had)": (
                ways.decisions_of([ways.play(task, ways.expert, "expert") for task in few]),
                {},
            ),
        }
        for name, (some, config) in recipes.items():
            student = ways.taught(some, steps=options.steps, seed=seed, **config)
            found.setdefault(name, {}).update(ways.scores(world, ways.acting(student)))
            cpu[name] = cpu.get(name, 0.0) + student.cpu_s / options.seeds
    rows = [ways.row(name, scores, training_cpu_s=cpu[name]) for name, scores in found.items()]
    rows += [
        {"recipe": f"reliability of the {name} teacher", "estimated": sum(values) / len(values)}
        for name, values in right.items()
    ]
    twins = ("pooled, all episodes", "pooled, successes only")
    differences = [
        ways.difference("teachers", name, found[name], twin, found[twin])
        for name in ("weighed", "routed to the best")
        for twin in twins
    ]
    return rows, differences


# --- rules, then a student, then the teacher ------------------------------------------------------------------------

THRESHOLD = 0.8


def rules_first(options: argparse.Namespace) -> Found:
    found: dict[str, ways.Scores] = {}
    counted: dict[str, list[int]] = {}
    asked: dict[str, list[int]] = {}
    certified = 0
    for seed in range(options.seeds):
        world = ways.world(seed, options.orders, options.test)
        learn, rest = world.train[::2], world.train[1::2]
        taught = [
            ways.decisions_of([ways.play(task, ways.expert, "expert") for task in some]) for some in (learn, rest)
        ]
        student = ways.taught([*taught[0], *taught[1]], steps=options.steps, seed=seed)
        try:
            rules = certify([one.rule for one in learn_rules(taught[0])], taught[1], precision=0.9).rules
            certified += 1
        except NotCertified:
            rules = ()
        ask = ways.asker(student)
        test = ways.decisions_of([ways.play(task, ways.expert, "expert") for task in world.test])
        for name, some in (("student and teacher", ()), ("rules, student and teacher", rules)):
            for layer in layers(some, test, lambda one, ask=ask: ask(one.situation, one.admissible), THRESHOLD):
                counts = counted.setdefault(f"{name}: {layer.layer}", [0, 0, 0])
                for at, value in enumerate((layer.decisions, layer.wrong, len(test))):
                    counts[at] += value
        for name, some, threshold in (
            ("student alone", (), 0.0),
            ("rules, then student", rules, 0.0),
            ("student, then teacher", (), THRESHOLD),
            ("rules, student, teacher", rules, THRESHOLD),
        ):
            steps = asked.setdefault(name, [0, 0])
            acts = layered(some, ways.acting(student), ask, threshold, steps)
            found.setdefault(name, {}).update(ways.scores(world, acts))
    rows = [
        ways.row(name, scores, teacher_steps=asked[name][0] / asked[name][1], certified_houses=certified)
        for name, scores in found.items()
    ]
    rows += [
        {"recipe": name, "share": count / total, "wrong": wrong / count if count else None}
        for name, (count, wrong, total) in counted.items()
        if count
    ]
    pairs = [("rules, then student", "student alone"), ("rules, student, teacher", "student, then teacher")]
    return rows, [ways.difference("rules", ours, found[ours], twin, found[twin]) for ours, twin in pairs]


def layered(rules: Any, student: ways.Acts, ask: Any, threshold: float, steps: list[int]) -> ways.Acts:
    """Rules, the student where it is sure, the expert; ``steps`` counts the expert's and all."""

    def act(environment: Any, situation: Any, seen: Any) -> str:
        steps[1] += 1
        said = answer(rules, situation, seen.admissible)
        if said is not None:
            return said.action
        if threshold and max(ask(situation, seen.admissible).values()) < threshold:
            steps[0] += 1
            return ways.expert(environment, situation, seen)
        return student(environment, situation, seen)

    return act


# --- what follows the student, and several losses -------------------------------------------------------------------


def adaptive(options: argparse.Namespace) -> Found:
    soft = Loss(kind=Kind.SOFT)
    recipes: Recipes = {
        "soft, T = 1": {"loss": soft},
        "soft, T = 2.5": {"loss": Loss(temperature=2.5)},
        "soft, T from 4 to 1": {"loss": soft, "adaptive": Adaptive(temperature=(4.0, 1.0))},
        "soft, 0.4 of it hard": {"loss": Loss(hard_share=0.4)},
        "soft, from 0 to 0.8 of it hard": {"loss": soft, "adaptive": Adaptive(hard_share=(0.0, 0.8))},
        "soft, T = 1, the easiest 0.3 first": {"loss": soft, "adaptive": Adaptive(curriculum=(0.3, 1.0))},
    }
    pairs = [
        ("soft, T from 4 to 1", "soft, T = 2.5"),
        ("soft, T from 4 to 1", "soft, T = 1"),
        ("soft, from 0 to 0.8 of it hard", "soft, 0.4 of it hard"),
        ("soft, T = 1, the easiest 0.3 first", "soft, T = 1"),
    ]
    return compared(options, "adaptive", recipes, pairs)


def mix(options: argparse.Namespace) -> Found:
    parts = (
        Part(loss=Loss(kind=Kind.HARD)),
        Part(loss=Loss(temperature=4.0)),
        Part(loss=Loss(kind=Kind.MARGIN, margin=5.0)),
    )
    recipes: Recipes = {
        "hard": {},
        "soft": {"loss": Loss()},
        "margin 5": {"loss": Loss(kind=Kind.MARGIN, margin=5.0)},
        "hard, soft at T = 4, margin 5: summed": {"mix": parts, "balanced": False},
        "hard, soft at T = 4, margin 5: balanced": {"mix": parts},
    }
    balanced, summed = (f"hard, soft at T = 4, margin 5: {how}" for how in ("balanced", "summed"))
    return compared(options, "mix", recipes, [(balanced, twin) for twin in (summed, "soft", "hard")])


RATE = 6e-3
"""Three times the usual learning rate: at the usual one, so few steps end before any of the students differ."""
Recipes = dict[str, dict[str, Any]]


def compared(options: argparse.Namespace, way: str, recipes: Recipes, pairs: list[tuple[str, str]]) -> Found:
    """Configurations of one student on the same sampled labels."""
    found: dict[str, ways.Scores] = {}
    cpu: dict[str, float] = {}
    agreed: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        world = ways.world(seed, options.orders, options.test)
        test = ways.decisions_of([ways.play(task, ways.expert, "expert") for task in world.test])
        at = options.orders // 5
        held, learn = (
            ways.sampled(
                ways.decisions_of([ways.play(task, ways.expert, "expert") for task in some]),
                wrong=0.3,
                samples=5,
                seed=seed,
            )
            for some in (world.train[:at], world.train[at:])
        )
        for name, config in recipes.items():
            student = ways.taught(
                learn, steps=options.steps, seed=seed, held_out=held, looks=6, learning_rate=RATE, **config
            )
            agreed.setdefault(name, []).append(ways.agreement(student, test))
            found.setdefault(name, {}).update(ways.scores(world, ways.acting(student)))
            cpu[name] = cpu.get(name, 0.0) + student.cpu_s / options.seeds
    rows = [
        ways.row(name, scores, agreement=sum(agreed[name]) / options.seeds, training_cpu_s=cpu[name])
        for name, scores in found.items()
    ]
    return rows, [ways.difference(way, ours, found[ours], twin, found[twin]) for ours, twin in pairs]


# --- debates --------------------------------------------------------------------------------------------------------

SPEAKERS = 3
SHARES = (0.02, 0.1, 0.3)


def debating(options: argparse.Namespace) -> Found:
    found: dict[str, ways.Scores] = {}
    counted: Counter[str] = Counter()
    cpu: dict[str, float] = {}
    agreed: dict[str, list[float]] = {}
    plain = "the decisions alone"
    for seed in range(options.seeds):
        world = ways.world(seed, options.orders, options.test)
        test = ways.decisions_of([ways.play(task, ways.expert, "expert") for task in world.test])
        orders = [ways.play(task, ways.expert, "expert") for task in world.train]
        learn = ways.decisions_of(orders)
        told = speakers([ways.decisions_of(orders[at :: 2 * SPEAKERS]) for at in range(SPEAKERS)], options, seed)
        held = list(debates(drawn(learn, len(learn), seed), told, "train"))
        contrasts = contrast(held)
        counted.update(debates=len(held), telling=contrasts.debates, pairs=len(contrasts.decisions))
        said = [turn.action in one.right for one in held for turn in one.turns]
        counted.update(turns=len(said), right=sum(said))
        mixes = {f"and pairs of debates, {share:.0%} of all weight": share for share in SHARES}
        recipes = {plain: learn, **{name: mixed(learn, contrasts.decisions, share) for name, share in mixes.items()}}
        for name, some in recipes.items():
            student = ways.taught(some, steps=options.steps, seed=seed)
            agreed.setdefault(name, []).append(ways.agreement(student, test))
            found.setdefault(name, {}).update(ways.scores(world, ways.acting(student)))
            cpu[name] = cpu.get(name, 0.0) + student.cpu_s / options.seeds
    rows = [
        ways.row(name, scores, agreement=sum(agreed[name]) / options.seeds, training_cpu_s=cpu[name])
        for name, scores in found.items()
    ]
    rows.append({"recipe": f"what {SPEAKERS} speakers said", "share": counted["right"] / counted["turns"], **counted})
    others = [name for name in found if name != plain]
    return rows, [ways.difference("debates", name, found[name], plain, found[plain]) for name in others]


def speakers(parts: Sequence[list[Labelled]], options: argparse.Namespace, seed: int) -> dict[str, Speaker]:
    """A policy from each part; they differ in what they saw and in their first weights."""
    asks = [
        ways.asker(ways.taught(part, steps=options.steps // 4, seed=100 * seed + at)) for at, part in enumerate(parts)
    ]
    return {f"speaker {at}": lambda one, ask=ask: ask(one.situation, one.admissible) for at, ask in enumerate(asks)}


# --- all ------------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "teachers": several_teachers,
    "rules": rules_first,
    "adaptive": adaptive,
    "mix": mix,
    "debates": debating,
}


if __name__ == "__main__":
    main()
