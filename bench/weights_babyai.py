"""One small network distilled from the BabyAI bot for three levels at once, beside the tutorial's loss.

    python bench/weights_babyai.py [--seeds 3] [--episodes 1500] [--n 100] [--steps 2000] [--recipes ...]
    python bench/weights_babyai.py --episodes 2000 6000 1999 --results NAME   (another number for each level)

GoToLocal, PickupLoc and PutNextLocal in single steps; the student sees the 7 x 7 x 3 grid of symbols, the mission and
what it saw and did before. The bot is recorded on ``--episodes`` train worlds of each level (once; kept in
``bench/.work``), one student learns all three levels (``distill weights --student film``), and each student and the bot
play the same ``--n`` test worlds of each level greedily, within 64 steps.

The recipes learn from the same decisions for as many gradient steps of as many decisions, from the same first weights:
``film`` by the cross-entropy of ours, ``tutorial's loss`` by what a widely copied snippet computes: only the student's
logits are divided by T = 2, and there is no T squared. The bot says one action and no distribution, so that tempering
it would change nothing: of the snippet's mistakes only the student's side and the missing factor are left here.
``film, recoloured`` is ``film`` on decisions whose colours are exchanged anew in every batch (``--augment colours``),
``film, recoloured and turned`` has the world under the agent turned, too (``--augment rotations``).
Which actions make sense is listed by the environment for all, the bot too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _results
from _commands import potstill, runs
from potstill.measure.statistics import paired_difference, wilson, wilson_by_task
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

WORK = _results.ROOT / "bench" / ".work"
LEVELS = ("GoToLocal", "PickupLoc", "PutNextLocal")
DEMOS = "demos"
TEMPERATURE = 2.0
FILM, TUTORIAL, BOT = "film", "tutorial's loss", "the bot itself"
AUGMENTED = {"film, recoloured": ("colours",), "film, recoloured and turned": ("colours", "rotations")}
RECIPES = (*reversed(AUGMENTED), FILM, TUTORIAL)


def main() -> None:
    options = parsed()
    options.db.parent.mkdir(parents=True, exist_ok=True)
    if options.only is not None:
        train_one(options, options.only, options.seed)
        return
    record(options)
    if not made_of(options):
        learnt_from(options, planned(options, FILM, 0))
    wanted = [(recipe, seed) for seed in range(options.seeds) for recipe in options.recipes]
    with ThreadPoolExecutor(options.jobs) as pool:
        made = dict(zip(wanted, pool.map(lambda one: distil(options, *one), wanted), strict=True))
    assert len({one["data"] for one in made.values()}) == 1, "all learn from the same decisions"
    bot = play(options, "bot", ("--teacher", "expert", "--arm", "teacher"))
    played = {
        (recipe, seed): play(options, f"{slug(recipe)}-s{seed}-{options.steps}", alone(one["file"]))
        for (recipe, seed), one in made.items()
    }
    report(options, made, played, bot)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument(
        "--episodes", type=int, nargs="+", default=[1500], help="of the bot: of each level, or of one each"
    )
    parser.add_argument("--n", type=int, default=100, help="test worlds of each level")
    parser.add_argument("--steps", type=int, default=2000, help="gradient steps of 64 decisions")
    parser.add_argument("--jobs", type=int, default=1, help="students that are trained at a time")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[FILM, TUTORIAL])
    parser.add_argument("--results", default="weights_babyai", help="name of the file with the numbers")
    parser.add_argument("--db", type=Path, help="episodes and students [default: a folder for each number of episodes]")
    parser.add_argument("--only", choices=RECIPES, help="only train this student, and stop")
    parser.add_argument("--seed", type=int, default=0, help="with --only: which one")
    options = parser.parse_args()
    if len(options.episodes) not in (1, len(LEVELS)):
        parser.error(f"--episodes takes one number, or one for each of {', '.join(LEVELS)}")
    options.db = options.db or WORK / f"weights_babyai-{'-'.join(map(str, options.episodes))}" / "store.db"
    return options


# --- episodes -------------------------------------------------------------------------------------------------------


def record(options: argparse.Namespace) -> None:
    """The bot's episodes: one run of all levels, or one of each where their numbers differ."""
    kinds = zip(LEVELS, options.episodes, strict=True) if len(options.episodes) > 1 else [(None, options.episodes[0])]
    for level, count in kinds:
        run = DEMOS if level is None else f"{DEMOS}-{level}"
        if run not in runs(options.db):
            worlds = world("train", count, LEVELS if level is None else (level,))
            potstill("distill", "context", *worlds, "--run", run, "--db", options.db, "--teacher", "expert")


def world(split: str, count: int, levels: Sequence[str] = LEVELS) -> tuple[object, ...]:
    given = {"action_space": "primitive", "view": "grid", "level": ",".join(levels), split: count}
    words = [word for name, value in given.items() for word in ("--option", f"{name}={value}")]
    return ("--env", "minigrid", "--split", split, *words)


def alone(policy: str) -> tuple[object, ...]:
    return ("--student", f"policy:{policy}", "--arm", "zero-shot", "--alone-temperature", 0)


def play(options: argparse.Namespace, run: str, words: Sequence[object]) -> list[Trajectory]:
    """All test worlds; an episode that was recorded before is not played again."""
    name = f"{run}-n{options.n}"
    if name in runs(options.db):
        potstill("run", "--resume", name, "--db", options.db)
    else:
        potstill("run", *world("test", options.n), *words, "--run", name, "--db", options.db)
    with Store.read(options.db) as store:
        return list(store.select(run_id=name))


# --- students -------------------------------------------------------------------------------------------------------


def slug(recipe: str) -> str:
    return recipe.split("'")[0].replace(", ", "-").replace(" ", "-")


def policy_file(options: argparse.Namespace, recipe: str, seed: int) -> Path:
    return Path(options.db.parent) / f"babyai-{slug(recipe)}-s{seed}-{options.steps}.policy"


def distil(options: argparse.Namespace, recipe: str, seed: int) -> dict[str, Any]:
    """What was made, taken again where it was made with the same options before."""
    told = policy_file(options, recipe, seed).with_suffix(".json")
    if not told.exists():
        given = ("--db", options.db, "--steps", options.steps, "--only", recipe, "--seed", seed)
        subprocess.run([sys.executable, __file__, *map(str, given)], check=True)
    result: dict[str, Any] = json.loads(told.read_text())
    return result


def train_one(options: argparse.Namespace, name: str, seed: int) -> None:
    """The steps of ``distill weights --student film``, on data that are made once for all students."""
    from potstill.cli.training.data import HELD_OUT, LEARN
    from potstill.cli.training.making import exported
    from potstill.distill.weights.policies.film import Film
    from potstill.distill.weights.train import students, teaching

    class Tutorial(Film):
        """The hard cross-entropy of z / T is the snippet's KL(teacher || softmax(z / T)) for a one-hot teacher."""

        def forward(self, inputs: Any) -> Any:
            logits_BA = super().forward(inputs)
            return logits_BA / TEMPERATURE if self.training else logits_BA

    plan = planned(options, name, seed)
    manifest, decisions = learnt_from(options, plan)
    prepared = students.prepare(decisions[LEARN], decisions[HELD_OUT], plan.recipe)
    if name == TUTORIAL:
        prepared.network.__class__ = Tutorial
    started = time.process_time()
    trained = teaching.teach(prepared, plan.recipe)
    cpu_s = time.process_time() - started
    made = exported(plan, manifest, decisions[HELD_OUT], prepared, trained, cpu_s, None)
    plan.out.with_suffix(".json").write_text(json.dumps(made._asdict()))


def planned(options: argparse.Namespace, name: str, seed: int) -> Any:
    from potstill.cli.training.plan import WeightsPlan
    from potstill.distill.weights.train.config import TrainConfig
    from potstill.distill.weights.train.recipe import Augment, FilmRecipe

    train = TrainConfig(seed=seed, steps=options.steps, evaluate_every=500, patience=0)
    filters = {"kind": "teacher", "split": "train", "success": True, "namespace": "default"}
    return WeightsPlan(
        out=policy_file(options, name, seed),
        recipe=FilmRecipe(train=train, augment=tuple(Augment(one) for one in AUGMENTED.get(name, ()))),
        db=str(options.db),
        filters={**filters, "environment": "minigrid"},
        environment="minigrid",
        held_out=0.1,
        resume=False,
        key=None,
        play=0,
        playing={},
    )


def made_of(options: argparse.Namespace) -> list[Path]:
    return sorted(options.db.with_suffix(".data").glob("data-*"))


def learnt_from(options: argparse.Namespace, plan: Any) -> tuple[Any, dict[str, Any]]:
    """The decisions, made once: they depend on the episodes alone."""
    import msgspec

    from potstill.cli.training.data import HELD_OUT, LEARN, decisions_of
    from potstill.distill.weights.data import read
    from potstill.distill.weights.data.manifest import Manifest

    found = made_of(options)
    if not found:
        return decisions_of(plan.db, plan.filters, plan.held_out, options.db.with_suffix(".data"))
    manifest = msgspec.json.decode((found[0] / "manifest.json").read_bytes(), type=Manifest)
    return manifest, {name: list(read(found[0], name)) for name in (LEARN, HELD_OUT)}


# --- what came out --------------------------------------------------------------------------------------------------


def report(
    options: argparse.Namespace,
    made: dict[tuple[str, int], dict[str, Any]],
    played: dict[tuple[str, int], list[Trajectory]],
    bot: list[Trajectory],
) -> None:
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for recipe in options.recipes:
        every = [episodes for (one, _), episodes in played.items() if one == recipe]
        for seed in range(options.seeds):
            rows.append({**row(recipe, seed, "all", played[recipe, seed], bot), **taught(made[recipe, seed])})
        for level in ("all", *LEVELS):
            rows.append(row(recipe, None, level, [e for episodes in every for e in episodes], bot))
        differences.append(against(f"{recipe} - {BOT}", every, [bot] * len(every)))
    for one, base in itertools.combinations(options.recipes, 2):
        ours, theirs = ([played[recipe, seed] for seed in range(options.seeds)] for recipe in (one, base))
        differences.append(against(f"{one} - {base}", ours, theirs))
    rows += [row(BOT, None, level, bot, bot) for level in ("all", *LEVELS)]
    extra = {"differences": differences, "max_steps": 64, "episodes_a_level": options.episodes}
    extra |= {"written_at": time.strftime("%Y-%m-%d", time.gmtime()), "chooses_among": "actions that make sense now"}
    _results.write(options.results, rows, n=options.n * len(LEVELS), seeds=range(options.seeds), extra=extra)


def taught(made: dict[str, Any]) -> dict[str, Any]:
    kept = ("parameters", "size_bytes", "episodes", "decisions", "steps", "best_step", "agreement")
    return {**{name: made[name] for name in kept}, "training_cpu_s": made["cpu_s"]}


def row(recipe: str, seed: int | None, level: str, episodes: list[Trajectory], bot: list[Trajectory]) -> dict[str, Any]:
    """Success with its interval (clustered by world where several students played it), and as a share of the bot's."""
    some, theirs = of(level, episodes), of(level, bot)
    worlds: dict[str, list[bool]] = {}
    for episode in some:
        worlds.setdefault(episode.task.id, []).append(episode.succeeded)
    won, tried = [sum(one) for one in worlds.values()], [len(one) for one in worlds.values()]
    interval = wilson(sum(won), sum(tried)) if max(tried) == 1 else wilson_by_task(won, tried)
    calls = [call for e in some for step in e.steps for call in step.calls if call.answerer is Answerer.STUDENT]
    spent = [call.cpu_s for call in calls if call.cpu_s is not None]
    success = sum(won) / len(some)
    return {
        "recipe": recipe,
        "seed": seed,
        "level": level,
        "worlds": len(worlds),
        "played": len(some),
        "won": sum(won),
        "success": success,
        "success_ci": None if interval is None else list(interval),
        "of_the_bot": success * len(theirs) / sum(one.succeeded for one in theirs),
        "steps_a_world": sum(len(e.steps) for e in some) / len(some),
        "cpu_ms_a_decision": 1e3 * sum(spent) / len(spent) if spent else None,
    }


def of(level: str, episodes: list[Trajectory]) -> list[Trajectory]:
    return [episode for episode in episodes if level in ("all", episode.task.kind)]


def against(of: str, ours: list[list[Trajectory]], theirs: list[list[Trajectory]]) -> dict[str, Any]:
    """Success minus the other's in the same worlds; the interval resamples worlds, in which all students played."""
    one, other = (
        {(e.task.id, seed): float(e.succeeded) for seed, episodes in enumerate(side) for e in episodes}
        for side in (ours, theirs)
    )
    found = paired_difference(one, other)
    assert found is not None, "all played the same worlds"
    name, _, base = of.partition(" - ")
    told = {"difference": found.difference, "difference_ci": found.difference_ci}
    return {"of": name, "against": base, "in": "success", "n": found.n, **told}


if __name__ == "__main__":
    main()
