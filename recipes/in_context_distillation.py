"""In-context distillation with self-consistency cascades, arXiv 2512.02543, with the settings that the paper reports.

ALFWorld: 500 training tasks for demonstrations, k = 6 windows of up to five steps either side, retrieved at every step,
three samples at temperature 0.1, unanimity; the teacher takes single steps; 30 steps at most (window, steps and prompt
layout from its predecessor, arXiv 2505.00234). Three things are ours: the same tasks and seeds for all arms, the
controls, and prices with prompt caches. What the paper does not do is switched off (``--trust-repeats``).

    python recipes/in_context_distillation.py --tasks DIR --teacher anthropic:claude-sonnet-4-5 \\
        --student openai:gpt-4.1-mini --max-cost 50 --dry-run

Without an account, ``--teacher expert --price-teacher-as claude-sonnet-4-5 --student local:smollm2-135m`` runs the
same on the environment's expert and a small local model (hours on two cores; ``potstill run --resume`` goes on).
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PAPER = (
    *("--k", "6", "--window", "5", "--retrieval", "per-step", "--placement", "first"),
    *("--samples", "3", "--temperature", "0.1", "--alone-temperature", "0.1", "--threshold", "1.0", "--mode", "step"),
    *("--trust-repeats", "--max-steps", "30"),
)
ARMS = "teacher,zero-shot,random-demos,context,cascade,context+cascade,random-mix,copy-nearest"


def main() -> int:
    options, more = parsed().parse_known_args()
    world = ["--env", options.env, "--db", options.db, *(["--tasks", options.tasks] if options.tasks else [])]
    teacher = ["--teacher", options.teacher]
    if options.price_teacher_as:
        teacher += ["--price-teacher-as", options.price_teacher_as]
    reasoning = [] if options.teacher == "expert" else ["--plan", "--reasoning", "separate"]
    demonstrations = ["--split", "train", "--n", str(options.demonstrations), "--max-steps", "30", *reasoning]
    tests = [
        "--split",
        options.split,
        "--n",
        str(options.n),
        "--student",
        options.student,
        "--arm",
        ARMS,
        *PAPER,
        *reasoning,
    ]
    return potstill("distill", "context", *world, *teacher, *demonstrations, *more) or potstill(
        "run", *world, *teacher, *tests, *more
    )


def potstill(*arguments: str) -> int:
    """Run one command as it would be typed, and show it."""
    print("potstill", *arguments, file=sys.stderr)
    return subprocess.run([sys.executable, "-m", "potstill", *arguments]).returncode


def parsed() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="alfworld")
    parser.add_argument("--tasks", help="folder with the games")
    parser.add_argument("--split", default="valid_seen")
    parser.add_argument("--n", type=int, default=134)
    parser.add_argument("--demonstrations", type=int, default=500)
    parser.add_argument("--teacher", default="expert")
    parser.add_argument("--price-teacher-as")
    parser.add_argument("--student", required=True)
    parser.add_argument("--db", default="recipe.db")
    return parser


if __name__ == "__main__":
    sys.exit(main())
