"""Whether a cascade at a threshold that was fixed beforehand is as good as ALFWorld's expert, on games that nobody saw.

    python bench/weights_alfworld_confirm.py DIR [--thresholds 0.4] [--n 230] [--seeds 3]

After ``weights_alfworld.py DIR``, whose students and store in ``bench/.work`` are taken. Its threshold 0.4 had been
looked at on the very games that it was judged on. Here the thresholds are given, and the games are train games drawn
by another seed of which none was learnt from, labelled or used to choose. They are kept in a store of their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _results
import weights_alfworld as alfworld
from _commands import runs
from potstill.types import Trajectory

FRESH_SEED = 77


def main() -> None:
    options = parsed()
    db = options.db.with_name(f"{options.db.stem}_confirm.db")
    games = (*alfworld.world(options, "train", options.n, FRESH_SEED), "--jobs", options.jobs)
    expert = alfworld.recorded(db, "expert", (*games, *alfworld.TEACHER))
    fresh = {episode.task.id for episode in expert} - known(options)
    expert = [episode for episode in expert if episode.task.id in fresh]
    rows = []
    played: dict[str, list[Trajectory]] = {}
    for threshold in options.thresholds:
        name = f"cascade at {threshold}"
        for seed in range(options.seeds):
            policy = alfworld.distil(options, "dagger", seed)["file"]
            words = (*games, "--student", f"policy:{policy}", *alfworld.cascade(threshold))
            episodes = alfworld.recorded(db, f"{Path(policy).stem}-{threshold}", words)
            episodes = [episode for episode in episodes if episode.task.id in fresh]
            played.setdefault(name, []).extend(episodes)
            rows.append({"recipe": name, "seed": seed, **alfworld.success(episodes)})
        rows.append({"recipe": name, "seed": None, **alfworld.success(played[name])})
    rows.append({"recipe": "the expert itself", "seed": None, **alfworld.success(expert)})
    extra = {"differences": alfworld.differences(played, expert), "max_steps": alfworld.MAX_STEPS, "split": "train"}
    _results.write("weights_alfworld_confirm", rows, n=len(fresh), seeds=range(options.seeds), extra=extra)


def known(options: argparse.Namespace) -> set[str]:
    """Games of which anything was learnt, or with which a threshold was chosen."""
    found: set[str] = set()
    tune = options.db.with_name(f"{options.db.stem}_tune.db")
    for db in (options.db, tune):
        for run in runs(db):
            found |= {episode.task.id for episode in alfworld.episodes_of(db, run)}
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="folder with ALFWorld's train/")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.4], help="fixed before anything is played")
    parser.add_argument("--n", type=int, default=230, help="train games to draw; those that are known are left out")
    parser.add_argument("--seeds", type=int, default=3, help="students")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--jobs", type=int, default=2, help="games at a time")
    parser.add_argument("--db", type=Path, default=alfworld.WORK / "weights_alfworld.db")
    return parser.parse_args()


if __name__ == "__main__":
    main()
