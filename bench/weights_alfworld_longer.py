"""A ranker trained three times as long on ALFWorld's expert, alone and in front of the expert, on games nobody saw.

    python bench/weights_alfworld_longer.py DIR [--seeds 2] [--steps 8000] [--n 1000] [--valid 140]

After ``weights_alfworld.py DIR``, whose recorded episodes in ``bench/.work`` are taken: the student is its ``clone``
with more gradient steps. Thresholds are tried with the first student on train games that nobody learnt from; of those
at which the expert takes at most a fifth of the steps the one with the most wins is taken, of equals the lowest. The
judged games are train games drawn by another seed, of which none lies in any store beside the students (neither learnt
from, labelled, nor played for a choice), and valid_seen. A game counts once for each student; the interval of the
difference resamples games.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
import weights_alfworld as alfworld
from _commands import runs
from potstill.types import Trajectory

DEV_SEED, FRESH_SEED = 77, 78
MOST_TEACHER = 0.2
RECIPE = "clone"
Rows = list[dict[str, Any]]


def main() -> None:
    options = parsed()
    policies = [alfworld.distil(options, RECIPE, seed)["file"] for seed in range(options.seeds)]
    taught = [alfworld.taught(alfworld.distil(options, RECIPE, seed)) for seed in range(options.seeds)]
    threshold, tried = chosen(options, policies[0])
    rows: Rows = []
    differences: Rows = []
    for split, n, seed in (("train", options.n, FRESH_SEED), ("valid_seen", options.valid, alfworld.GAMES_SEED)):
        games = alfworld.world(options, split, n, seed)
        seen = known(options.db.parent, own(options)) if split == "train" else set[str]()
        expert = kept(recorded(options, f"expert-{split}", games, alfworld.TEACHER), seen)
        played: dict[str, list[Trajectory]] = {}
        for at, policy in enumerate(policies):
            ways = {"alone": alfworld.ALONE, f"cascade at {threshold:g}": alfworld.cascade(threshold)}
            for name, words in ways.items():
                words = ("--student", f"policy:{policy}", *words)
                episodes = kept(recorded(options, f"{Path(policy).stem}-{name}-{split}", games, words), seen)
                played.setdefault(name, []).extend(episodes)
                rows.append({"split": split, "recipe": name, "seed": at, **taught[at], **alfworld.success(episodes)})
        for name, one in played.items():
            rows.append({"split": split, "recipe": name, "seed": None, **alfworld.success(one)})
        rows.append({"split": split, "recipe": "the expert itself", "seed": None, **alfworld.success(expert)})
        differences += [{"split": split, **one} for one in alfworld.differences(played, expert)]
    extra = {"differences": differences, "thresholds": tried, "max_steps": alfworld.MAX_STEPS}
    judged = rows[-1]["games"]
    _results.write("weights_alfworld_longer", rows, n=judged, seeds=range(options.seeds), extra=extra)


def chosen(options: argparse.Namespace, policy: str) -> tuple[float, Rows]:
    """By train games of which nothing was learnt, with the first student."""
    games = alfworld.world(options, "train", options.dev, DEV_SEED)
    learnt = {episode.task.id for run in runs(options.db) for episode in alfworld.episodes_of(options.db, run)}
    rows: Rows = [
        {"threshold": None, **alfworld.success(kept(recorded(options, "dev", games, alfworld.TEACHER), learnt))}
    ]
    for threshold in options.thresholds:
        words = ("--student", f"policy:{policy}", *alfworld.cascade(threshold))
        episodes = kept(recorded(options, f"dev-{Path(policy).stem}-{threshold}", games, words), learnt)
        rows.append({"threshold": threshold, **alfworld.success(episodes)})
    allowed = [row for row in rows[1:] if row["teacher_steps"] <= MOST_TEACHER]
    return float(max(allowed, key=lambda row: (row["won"], -row["threshold"]))["threshold"]), rows


def recorded(
    options: argparse.Namespace, run: str, games: Sequence[object], words: Sequence[object]
) -> list[Trajectory]:
    """Dev games lie in a store of their own, so that they count as seen."""
    db = dev(options) if run.startswith("dev") else own(options)
    return alfworld.recorded(db, run.replace(" ", "-"), (*games, "--jobs", options.jobs, *words))


def own(options: argparse.Namespace) -> Path:
    path: Path = options.db.with_name("weights_alfworld_longer.db")
    return path


def dev(options: argparse.Namespace) -> Path:
    path: Path = options.db.with_name("weights_alfworld_longer_dev.db")
    return path


def known(folder: Path, but: Path) -> set[str]:
    """Every game in a store beside the students."""
    stores = [db for db in folder.glob("*.db") if db != but]
    return {e.task.id for db in stores for run in runs(db) for e in alfworld.episodes_of(db, run)}


def kept(episodes: Sequence[Trajectory], seen: set[str]) -> list[Trajectory]:
    return [episode for episode in episodes if episode.task.id not in seen]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="folder with ALFWorld's train/ and valid_seen/")
    parser.add_argument("--seeds", type=int, default=2, help="students")
    parser.add_argument("--steps", type=int, default=8000, help="gradient steps of every student")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--n", type=int, default=1000, help="train games to draw; those that are known are left out")
    parser.add_argument("--valid", type=int, default=140, help="games of valid_seen")
    parser.add_argument("--dev", type=int, default=400, help="train games to draw for the threshold")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--jobs", type=int, default=2, help="games at a time")
    parser.add_argument("--db", type=Path, default=alfworld.WORK / "weights_alfworld.db")
    return parser.parse_args()


if __name__ == "__main__":
    main()
