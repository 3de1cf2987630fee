"""What each stage of compression costs and saves of BabyAI's grid students: bytes, CPU time, agreement, success.

    python bench/weights_compress_grids.py [--seeds 3] [--db STORE] [--steps 3000] [--n 50]

Takes the students that ``bench/weights_babyai.py --episodes 3333 --steps 8000 --recipes 'film, recoloured'`` made, and
the decisions that they learnt from. The chains are the commands that a user types (``compress``), with equal labels and
equal gradient steps where there are any. Then every file of which no stage was undone, and the students as they were
trained, play the same test worlds (``run``), ``n`` of each level, by numpy. Files that are there are taken
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
import weights_babyai as babyai
from potstill.types import Trajectory

GIVEN = "film, recoloured"
AS_TRAINED = "as trained"


def main() -> None:
    options = parsed()
    stages: list[dict[str, Any]] = []
    files: dict[tuple[str, int], Path] = {}
    for seed in range(options.seeds):
        given = files[AS_TRAINED, seed] = babyai.policy_file(options, GIVEN, seed)
        for name, words in chains(options).items():
            out = given.with_name(
                f"{given.stem}-{name.replace(', ', '-').replace(' ', '')}-{options.compress_steps}.policy"
            )
            found = compressed(options, given, out, words, seed)
            stages += [{"recipe": name, "seed": seed, **row} for row in found]
            if out.exists() and all(row["verdict"] != "undone" for row in found):
                files[name, seed] = out
    played = {key: babyai.play(options, file.stem, babyai.alone(str(file))) for key, file in files.items()}
    report(options, stages, files, played)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students")
    parser.add_argument("--episodes", type=int, default=3333, help="of the bot, that they learnt")
    parser.add_argument("--n", type=int, default=50, help="test worlds of each level")
    parser.add_argument("--steps", dest="compress_steps", type=int, default=3000, help="gradient steps of a chain")
    parser.add_argument("--db", type=Path, help="store beside which the students lie [default: weights_babyai's]")
    options = parser.parse_args()
    options.steps = 8000
    options.db = options.db or babyai.WORK / f"weights_babyai-{options.episodes}" / "store.db"
    return options


def chains(options: argparse.Namespace) -> dict[str, tuple[object, ...]]:
    """Words of ``potstill compress``."""
    steps = options.compress_steps
    narrow = ("--width", 32, "--distill-steps", steps)
    return {
        "int8": ("--int8",),
        "int4": ("--int4",),
        "distil 32, int8": (*narrow, "--int8"),
        "distil 32, features, int8": (*narrow, "--features", 1, "--int8"),
        "prune, int8": ("--prune", 0.5, "--finetune-steps", steps, "--int8"),
    }


def compressed(
    options: argparse.Namespace, given: Path, out: Path, words: Sequence[object], seed: int
) -> list[dict[str, Any]]:
    """The stages, taken again where they were made before; none where nothing passed and no file was written."""
    told = out.with_suffix(".json")
    if not told.exists():
        data = babyai.made_of(options)[0]
        command = ("compress", given, "--data", data, "--out", out, "--seed", seed, *words, "--json")
        done = subprocess.run(
            [sys.executable, "-m", "potstill", *map(str, command)], capture_output=True, text=True, check=False
        )
        print(done.stderr, file=sys.stderr)
        if done.returncode and "No stage does" not in done.stderr:
            done.check_returncode()
        told.write_text(done.stdout if done.returncode == 0 else json.dumps({"stages": []}))
    found: list[dict[str, Any]] = json.loads(told.read_text())["stages"]
    return found


def report(
    options: argparse.Namespace,
    stages: list[dict[str, Any]],
    files: dict[tuple[str, int], Path],
    played: dict[tuple[str, int], list[Trajectory]],
) -> None:
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for recipe in dict.fromkeys(recipe for recipe, _ in files):
        seeds = [seed for one, seed in files if one == recipe]
        ours, theirs = ([played[one, seed] for seed in seeds] for one in (recipe, AS_TRAINED))
        share = max(files[recipe, seed].stat().st_size / files[AS_TRAINED, seed].stat().st_size for seed in seeds)
        size = max(files[recipe, seed].stat().st_size for seed in seeds)
        for level in ("all", *babyai.LEVELS):
            told = babyai.row(
                recipe, None, level, [e for some in ours for e in some], [e for some in theirs for e in some]
            )
            told["of_as_trained"] = told.pop("of_the_bot")
            rows.append({**told, "size_bytes": size, "share_of_bytes": share, "students": len(seeds)})
        if recipe != AS_TRAINED:
            differences.append(babyai.against(f"{recipe} - {AS_TRAINED}", ours, theirs))
    extra = {"stages": stages, "differences": differences}
    n = options.n * len(babyai.LEVELS)
    _results.write("weights_compress_grids", rows, n=n, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
