"""Reflective prompt evolution, arXiv 2507.19457, through its authors' package ``gepa``: instructions that evolve.

The student's instructions are the one text that is evolved. ``gepa`` plays it on small batches of training tasks, the
teacher reads what happened and how it ended and writes better instructions, and a new text stays if it wins on the
batch; the one that is best on ``--valid`` other training tasks is compared on the test tasks. The package's search and
its prompt for the teacher are used as they are; what an episode is, and what the teacher sees of it, is potstill's.

    pip install 'gepa>=0.1.4,<0.2'
    python recipes/reflective_evolution.py --tasks DIR --student local:smollm2-135m --teacher openai:gpt-4.1

All that learning takes is on the bill: the student's rollouts as well as the teacher's reflections. Every rollout
counts against ``--rollouts``, those on the ``--valid`` tasks too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import _arena as arena

from potstill.errors import ConfigError, PotstillError
from potstill.protocols import Model
from potstill.types import Call, Purpose, Task, Trajectory

TEXT = "instructions"
INSTALL = "pip install 'gepa>=0.1.4,<0.2'"


async def compare(
    options: argparse.Namespace, *, student: Model | None = None, teacher: Model | None = None
) -> list[dict[str, Any]]:
    """Rows for the environment's own instructions and for the evolved ones."""
    gepa = imported()
    if teacher is None and student is None:
        arena.needs_words(options)
    async with arena.opened(options, student=student, teacher=teacher) as world:
        tests = world.tasks(options.split, options.n)
        train = world.tasks(options.learn_split, options.learn, without=tests)
        valid = world.tasks(options.learn_split, options.valid, without=[*tests, *train])
        adapter = Adapter(gepa, world, asyncio.get_running_loop(), options.labels)
        try:
            result = await asyncio.to_thread(evolve, gepa, adapter, train, valid, options)
        finally:
            adapter.stopped.set()
        if adapter.failed is not None:
            raise adapter.failed
        text = result.best_candidate[TEXT]
        seeded = await world.play_all(tests, world.about.instructions, arm="own instructions", instead=True)
        evolved = await world.play_all(tests, text, arm="evolved", instead=True)
        more = {
            "rollouts": adapter.rollouts,
            "reflections": adapter.reflections,
            "candidates": len(result.candidates),
            "valid_scores": result.val_aggregate_scores,
            "instructions": text,
        }
        return [
            world.row(arena.Played("own instructions", seeded, [], world.about.instructions)),
            world.row(arena.Played("evolved", evolved, adapter.bill, text, more)),
        ]


def imported() -> Any:
    """The package. Raises ``ConfigError`` where it is not installed."""
    try:
        import gepa
    except ImportError:
        raise ConfigError(f"This recipe needs the package gepa, which nothing else does. Type: {INSTALL}") from None
    return gepa


def evolve(gepa: Any, adapter: Adapter, train: list[Task], valid: list[Task], options: argparse.Namespace) -> Any:
    """The package's search, in a thread of its own: it is not asynchronous, episodes are."""
    return gepa.optimize(
        seed_candidate={TEXT: adapter.world.about.instructions},
        trainset=train,
        valset=valid,
        adapter=adapter,
        reflection_lm=adapter.reflect,
        reflection_minibatch_size=min(options.batch, len(train)),
        max_metric_calls=options.rollouts,
        stop_callbacks=lambda state: adapter.stopped.is_set(),
        logger=adapter,
        seed=options.seed,
    )


class Adapter:
    """What ``gepa`` asks for: play a text on tasks, tell what happened, and a teacher that answers a prompt."""

    propose_new_texts = None
    """The package's own way to ask for a better text."""

    def __init__(self, gepa: Any, world: arena.Arena, loop: asyncio.AbstractEventLoop, labels: bool) -> None:
        self.world, self.bill = world, list[Call]()
        self.rollouts = self.reflections = 0
        self.stopped = threading.Event()
        self.failed: PotstillError | None = None
        self._batch = gepa.core.adapter.EvaluationBatch
        self._loop, self._labels = loop, labels

    def evaluate(self, batch: list[Task], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """Scores in [0, 1]: the environment's where it gives one, else 1 for success."""
        episodes = [self._awaited(self._play(task, candidate[TEXT])) for task in batch]
        traces = episodes if capture_traces else None
        return self._batch(outputs=episodes, scores=[score(one) for one in episodes], trajectories=traces)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        records = [self._record(episode) for episode in eval_batch.trajectories]
        return dict.fromkeys(components_to_update, records)

    def reflect(self, prompt: str | list[dict[str, Any]]) -> str:
        """The teacher's answer to the package's prompt; empty where it once does not answer."""
        text = prompt if isinstance(prompt, str) else "\n\n".join(str(part.get("content", "")) for part in prompt)
        self.reflections += 1
        tokens = self.world.options.text_tokens
        said: str | None = self._awaited(self.world.ask(text, self.bill, purpose=Purpose.REFLECT, max_tokens=tokens))
        return said or ""

    def log(self, message: str) -> None:
        print(message, file=sys.stderr)

    async def _play(self, task: Task, text: str) -> Trajectory:
        episode = await self.world.play(task, text, arm="rollout", instead=True)
        self.rollouts += 1
        self.bill.extend(arena.calls_of(episode))
        return episode

    def _record(self, episode: Trajectory) -> dict[str, str]:
        label = episode.task.data.get("label") if self._labels else None
        feedback = arena.outcome_words(episode) + (f" The right answer: {label}" if label else "")
        return {"What happened": arena.account(episode), "Feedback": feedback}

    def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self.stopped.is_set():
            coroutine.close()
            raise ConfigError("The search was stopped.")
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except PotstillError as error:
            self.failed = error  # the package goes on after an exception of the teacher
            self.stopped.set()
            raise


def score(episode: Trajectory) -> float:
    if episode.outcome is None:
        return 0.0
    return float(episode.succeeded) if episode.outcome.score is None else episode.outcome.score


def parsed() -> argparse.ArgumentParser:
    parser = arena.parser(__doc__)
    parser.add_argument("--valid", type=int, default=10, help="further training tasks that choose the best text [10]")
    parser.add_argument("--rollouts", type=int, default=60, help="episodes that the search may play [60]")
    parser.add_argument("--batch", type=int, default=3, help="episodes that one reflection is shown [3]")
    parser.add_argument("--labels", action="store_true", help="tell the teacher the right answers")
    parser.add_argument("--text-tokens", type=int, default=2048, help="that the teacher may write [2048]")
    return parser


if __name__ == "__main__":
    sys.exit(arena.main(compare, parsed().parse_args()))
