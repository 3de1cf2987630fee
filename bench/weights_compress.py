"""What each stage of compression costs and saves: bytes, CPU time of a decision, memory, agreement, success, by seed.

    python bench/weights_compress.py [--env minigrid] [--seeds 3] [--teacher-width 256] [--widths 64 96 128] [--n 60]

Everything is done by the commands that a user types: the expert is recorded on tasks of ``train`` (once; kept in
``bench/.work``), a wide ranker is trained from it (``distill weights``), made smaller by a chain of stages that are
each judged or undone (``compress``), and exported (``export --onnx``). Then the wide ranker and every file that was
written play the same tasks of ``test`` greedily (``run``), on which nothing was decided. The target: at most 2 % of the
bytes of the wide one in float32 at 98 % of its success at least.

The chains end near the same bytes, 2 % of the wide one's, in four ways: a narrow network with eight bits, a wider one
with four, a still wider one of which half of all units are pruned, and the wide one itself, pruned twice. Those of one
seed learn from equal decisions for equal gradient steps: ``distil`` spends all of them on one network, ``distil,
prune`` the same number in two parts, so that its rows are no longer training in disguise; ``prune twice`` begins with
the wide one's own weights. With ``--longer`` a chain has more steps, and with ``--own`` its twin learns in the wide
one's own episodes, of more tasks than the expert showed. With ``--features WEIGHT`` a twin of the first is drawn to the
wide one's last hidden layer, too, for as many steps; with ``--one-teacher`` all students come from the first wide
ranker and differ by their own seeds.

Played are the files as they are written, rounded weights included, by numpy. Latency is the CPU time of one thread for
one decision, by numpy, PyTorch and ONNX Runtime, on held-out decisions asked one by one. Recording and trained policies
are taken again unless their options changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import _results
from _commands import potstill
from potstill.cli.policy_data import needed
from potstill.distill.weights.compress.cost import decision_ms
from potstill.distill.weights.compress.quantize import multiplied_out
from potstill.distill.weights.export.runtime import onnx_side, session
from potstill.distill.weights.gate import edge_side
from potstill.distill.weights.gate_shapes import questions_of
from potstill.edge.policy import open_policy
from potstill.measure.statistics import paired_difference, wilson, wilson_by_task
from potstill.trajectories import Store
from potstill.types import Trajectory

WORK = _results.ROOT / "bench" / ".work" / "weights_compress"
PLAY_SEED = 5


class Chain(NamedTuple):
    """Words of ``potstill compress`` that differ between the recipes."""

    name: str
    words: tuple[object, ...]
    own: int = 0
    """Gradient steps of a narrow ranker on the wide one's own episodes, which is what is made smaller then."""


def main() -> None:
    options = parsed()
    WORK.mkdir(parents=True, exist_ok=True)
    options.db = WORK / f"{options.env}-{options.episodes}.db"
    record(options)
    stages: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    played: dict[str, dict[int, list[Trajectory]]] = {}
    for seed in range(options.seeds):
        teacher = taught(options, 0 if options.one_teacher else seed)
        files.append({"recipe": "as trained", "seed": seed, **measured(teacher, teacher, teacher)})
        played.setdefault("as trained", {})[seed] = play(options, teacher)
        for chain in [one for one in chains(options) if one.name in (options.chains or [one.name])]:
            own = f"-own{seed}" if options.one_teacher else ""
            out = WORK / f"{teacher.stem}-{chain.name.replace(', ', '-').replace(' ', '')}-{options.steps}{own}.policy"
            given = narrow_of(options, teacher, chain.own, seed) if chain.own else teacher
            found = compressed(options, given, out, chain, seed)
            stages += [{"recipe": chain.name, "seed": seed, **row} for row in found["stages"]]
            if found["written"]:
                files.append({"recipe": chain.name, "seed": seed, **measured(out, teacher, given)})
                played.setdefault(chain.name, {})[seed] = play(options, out)
        write(options, stages, files, played)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="minigrid", help="environment whose expert is learnt from")
    parser.add_argument("--episodes", type=int, default=200, help="of the expert")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the environment where recorded")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-width", type=int, default=256)
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 96, 128], help="small: int8, int4, pruned")
    parser.add_argument("--steps", type=int, default=1000, help="gradient steps of each chain")
    parser.add_argument("--agreement", type=float, default=0.9, help="floor of each stage")
    parser.add_argument("--kl", type=float, default=0.1, help="floor of each stage, nats")
    parser.add_argument("--longer", type=int, default=0, metavar="STEPS", help="a chain of so many, too")
    parser.add_argument("--own", type=int, default=0, metavar="EPISODES", help="with --longer: one on so many, too")
    parser.add_argument("--n", type=int, default=60, help="test tasks")
    parser.add_argument("--results", default="weights_compress", help="name of the file with the numbers")
    parser.add_argument("--chains", nargs="+", metavar="NAME", help="only these, such as 'distil 64, int8'")
    parser.add_argument("--features", type=float, default=0.0, metavar="WEIGHT", help="a twin that matches them")
    parser.add_argument("--one-teacher", action="store_true", help="students differ by their own seeds alone")
    options = parser.parse_args()
    if options.own and not options.longer:
        parser.error("--own needs --longer STEPS")
    return options


def chains(options: argparse.Namespace) -> Iterator[Chain]:
    """Equal gradient steps in all: a round of pruning takes a third of them."""
    narrow, wider, widest = options.widths
    part = options.steps // 3
    yield Chain("int8", ("--int8",))
    alone = ("--width", narrow, "--distill-steps", options.steps, "--int8")
    yield Chain(f"distil {narrow}, int8", alone)
    if options.features:
        yield Chain(f"distil {narrow}, features {options.features:g}, int8", (*alone, "--features", options.features))
    yield Chain(f"distil {wider}, int4", ("--width", wider, "--distill-steps", options.steps, "--int4"))
    pruned = ("--width", widest, "--distill-steps", options.steps - part, "--prune", 0.5, "--finetune-steps", part)
    yield Chain(f"distil {widest}, prune, int8", (*pruned, "--int8"))
    yield Chain("prune twice, int8", (*("--prune", 0.5) * 2, "--finetune-steps", options.steps // 2, "--int8"))
    if options.longer:
        longer = f"distil {narrow} in {options.longer} steps"
        yield Chain(f"{longer}, int8", ("--width", narrow, "--distill-steps", options.longer, "--int8"))
        if options.own:
            yield Chain(f"{longer} on its own episodes, int8", ("--int8",), own=options.longer)


def record(options: argparse.Namespace) -> None:
    if not options.db.exists():
        words = ("--env", options.env, "--split", "train", "--n", options.episodes, "--teacher", "expert")
        given = [word for one in options.option for word in ("--option", one)]
        potstill("distill", "context", *words, *given, "--run", "demos", "--db", options.db)


def taught(options: argparse.Namespace, seed: int) -> Path:
    out = WORK / f"{options.env}-{options.episodes}-w{options.teacher_width}-{options.teacher_steps}-s{seed}.policy"
    if not out.exists():
        words = ("--width", options.teacher_width, "--steps", options.teacher_steps, "--learning-rate", 1e-3)
        looks = ("--look-every", max(1, options.teacher_steps // 12), "--patience", 0, "--held-out", 0.15)
        potstill("distill", "weights", "--db", options.db, "--out", out, "--seed", seed, *words, *looks)
    return out


def narrow_of(options: argparse.Namespace, wide: Path, steps: int, seed: int) -> Path:
    """A narrow ranker of the wide one's probabilities in tasks of ``train`` that it does by itself: more of them than
    the expert showed, and nobody is asked for these labels."""
    db = wide.with_name(f"{wide.stem}-own-{options.own}.db")
    out = wide.with_name(f"{wide.stem}-own-{options.own}-{steps}-by{seed}.policy")
    if not db.exists():
        words = ("--env", options.env, "--split", "train", "--n", options.own, "--option", f"train={options.own}")
        potstill("distill", "context", *words, "--teacher", f"policy:{wide}", "--run", "own", "--db", db)
    if not out.exists():
        learnt = ("--width", options.widths[0], "--loss", "kind=soft", "--steps", steps, "--seed", seed)
        looks = ("--look-every", max(1, steps // 18), "--patience", 0, "--held-out", 0.05)
        potstill("distill", "weights", "--db", db, "--run", "own", "--out", out, *learnt, *looks)
    return out


def compressed(options: argparse.Namespace, teacher: Path, out: Path, chain: Chain, seed: int) -> dict[str, Any]:
    """What ``compress`` says, taken again where it was made before. A chain of which nothing passes is a result too."""
    told = out.with_suffix(".json")
    if not told.exists():
        floor = ("--least-agreement", options.agreement, "--most-kl", options.kl)
        command = ("compress", teacher, "--out", out, "--seed", seed, *chain.words, *floor, "--json")
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "potstill", *map(str, command)], capture_output=True, text=True, check=False
        )
        print(done.stderr, file=sys.stderr)
        if done.returncode and "No stage does" not in done.stderr:
            done.check_returncode()
        made = json.loads(done.stdout) if done.returncode == 0 else {"stages": []}
        told.write_text(json.dumps({**made, "written": done.returncode == 0, "wall_s": time.monotonic() - started}))
    result: dict[str, Any] = json.loads(told.read_text())
    return result


def measured(file: Path, teacher: Path, given: Path) -> dict[str, Any]:
    """Bytes and CPU milliseconds of a decision in three runtimes, the median of five rounds. ``given``: what the file
    was made of, beside which its data lie."""
    from potstill.distill.weights.compress.subject import subject_of
    from potstill.distill.weights.policies.pytorch import load_torch

    load_torch().set_num_threads(1)
    data = needed(given, None, "the bench")
    policy, questions = open_policy(file), questions_of(data.held_out, most=60)
    subject = subject_of(policy, data.held_out, data.held_out)
    network = subject.network(multiplied_out(policy.arrays), policy.config)
    out = file.with_suffix(".onnx")
    potstill("export", file, "--onnx", out, "--data", data.folder)
    sides = {
        "numpy_ms": edge_side(policy),
        "torch_ms": subject.side(network),
        "onnxruntime_ms": onnx_side(session(out), policy.config),
    }
    speeds = {name: float(np.median([decision_ms(side, questions) for _ in range(5)])) for name, side in sides.items()}
    share = file.stat().st_size / teacher.stat().st_size
    return {
        "parameters": policy.parameters,
        "size_bytes": file.stat().st_size,
        "share_of_bytes": share,
        "onnx_bytes": out.stat().st_size,
        **speeds,
    }


def play(options: argparse.Namespace, file: Path) -> list[Trajectory]:
    """The file on the test tasks; what was recorded before is not played again."""
    run = f"{file.stem}-n{options.n}"
    with Store.read(options.db) as store:
        there = run in {one.run_id for one in store.runs(namespace="default")}
    words = ("--env", options.env, "--split", "test", "--n", options.n, "--seed", PLAY_SEED)
    if there:
        potstill("run", "--resume", run, "--db", options.db)
    else:
        arm = ("--arm", "zero-shot", "--alone-temperature", 0, "--student", f"policy:{file}")
        potstill("run", *words, *arm, "--run", run, "--db", options.db)
    with Store.read(options.db) as store:
        return list(store.select(run_id=run))


def write(
    options: argparse.Namespace,
    stages: Sequence[dict[str, Any]],
    files: Sequence[dict[str, Any]],
    played: dict[str, dict[int, list[Trajectory]]],
) -> None:
    """One row for each file, then one for each recipe over its seeds, with the difference to the wide ranker's."""
    rows = [{**file, **success(played[file["recipe"]][file["seed"]])} for file in files]
    differences = []
    for recipe, by_seed in played.items():
        shares = [file["share_of_bytes"] for file in files if file["recipe"] == recipe]
        everything = [episode for some in by_seed.values() for episode in some]
        rows.append({"recipe": recipe, "seed": None, "share_of_bytes": max(shares), **success(everything)})
        if recipe != "as trained":
            differences.append(against(recipe, "as trained", played))
            twin = recipe.replace(f", features {options.features:g}", "")
            if twin != recipe and twin in played:
                differences.append(against(recipe, twin, played))
    extra = {"stages": list(stages), "differences": differences, "env": options.env, "split": "test"}
    _results.write(options.results, rows, n=options.n, seeds=range(len(played["as trained"])), extra=extra)


def success(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    """Share of tasks done, with its interval (clustered by task where several seeds played it)."""
    tasks: dict[str, list[bool]] = {}
    for episode in episodes:
        tasks.setdefault(episode.task.id, []).append(episode.succeeded)
    won, n = [sum(one) for one in tasks.values()], [len(one) for one in tasks.values()]
    interval = wilson(sum(won), sum(n)) if max(n) == 1 else wilson_by_task(won, n)
    return {
        "played": sum(n),
        "won": sum(won),
        "success": sum(won) / sum(n),
        "success_ci": None if interval is None else list(interval),
    }


def against(recipe: str, other: str, played: dict[str, dict[int, list[Trajectory]]]) -> dict[str, Any]:
    """Success minus another's of the same seed on the same tasks; the interval resamples tasks."""
    ours, theirs = played[recipe], played[other]
    sides = [
        {(episode.task.id, seed): float(episode.succeeded) for seed in ours for episode in side[seed]}
        for side in (ours, theirs)
    ]
    found = paired_difference(sides[0], sides[1])
    assert found is not None, "all played the same tasks"
    told = {"difference": found.difference, "difference_ci": found.difference_ci}
    return {"of": recipe, "against": other, "in": "success", "n": found.n, **told}


if __name__ == "__main__":
    main()
