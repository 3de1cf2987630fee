"""Plain in-context examples: the baseline that arXiv 2510.04618 calls ICL. One fixed set of the teacher's successes.

The teacher plays ``--learn`` training tasks; of those that succeeded as many as fit ``--budget`` tokens stand, the same
ones in the same order, in front of every task of the student. Nothing is retrieved (``in_context_distillation.py`` does
that) and nothing is said about them. Because they never change, prompt caches pay for most of them.

    python recipes/in_context_examples.py --tasks DIR --teacher expert --student local:smollm2-135m --n 20
    python recipes/in_context_examples.py --env minigrid --option level=GoToLocal --teacher expert \\
        --student local:smollm2-135m --learn 5 --n 5 --price-student-as gpt-5-nano
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import _arena as arena

from potstill.distill.context.render import ShownDemonstration, ShownStep, action_text, render
from potstill.protocols import Model
from potstill.run.prompt import DEMONSTRATIONS_HEADING
from potstill.types import Answerer, Trajectory


async def compare(
    options: argparse.Namespace, *, student: Model | None = None, teacher: Model | None = None
) -> list[dict[str, Any]]:
    """Rows for the student alone and with the examples."""
    async with arena.opened(options, student=student, teacher=teacher) as world:
        tests = world.tasks(options.split, options.n)
        taught = []
        for task in world.tasks(options.learn_split, options.learn, without=tests):
            taught.append(await world.play(task, arm="teacher", by=Answerer.TEACHER))
            arena.progress("teacher", len(taught), taught)
        text, used = examples(taught, options.budget)
        bill = [call for episode in taught for call in arena.calls_of(episode)]
        alone = await world.play_all(tests, arm="zero-shot")
        shown = await world.play_all(tests, text, arm="examples")
        return [
            world.row(arena.Played("zero-shot", alone, [])),
            world.row(arena.Played("examples", shown, bill, text, {"examples": used, "taught": len(taught)})),
        ]


def examples(taught: list[Trajectory], budget_tokens: int) -> tuple[str, int]:
    """The successful episodes, in order, as far as they fit the budget; and how many those are."""
    good = [shown(episode) for episode in taught if episode.succeeded]
    for number in range(len(good), 0, -1):
        text = f"{DEMONSTRATIONS_HEADING}\n\n{render(good[:number])}"
        if arena.count(text) <= budget_tokens:
            return text, number
    return "", 0


def shown(episode: Trajectory) -> ShownDemonstration:
    steps = tuple(
        ShownStep(observation=step.observation.text, reasoning=step.reasoning, action=action_text(step.action))
        for step in episode.steps
    )
    return ShownDemonstration(goal=episode.goal or episode.task.goal, plan=episode.plan, steps=steps)


def parsed() -> argparse.ArgumentParser:
    parser = arena.parser(__doc__)
    parser.add_argument("--budget", type=int, default=10_000, help="tokens of all examples together [10000]")
    return parser


if __name__ == "__main__":
    sys.exit(arena.main(compare, parsed().parse_args()))
