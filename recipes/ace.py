"""Agentic Context Engineering, arXiv 2510.04618, with the settings that the paper's release has.

The student plays with a playbook in its prompt; the teacher reflects on each episode and proposes changes; plain code
merges them. A failed episode is played again with the reflection in the prompt, up to ``--rounds`` times. ``offline``:
``--epochs`` over the training tasks, then the test tasks are played with the book as it is. ``online``: the test tasks
themselves, a window of 15 is played, then learnt from. ``sample``: the same, one by one. ``warm-up``: offline first,
then online with the same book. Labels, where tasks have them, are told to the Reflector; ``--no-labels`` leaves it the
environment's word on how an episode ended.

    python recipes/ace.py --tasks DATA --student openai:gpt-4.1-mini --teacher openai:gpt-4.1 --mode offline,online
    python recipes/ace.py --tasks DATA --student local:gemma3-270m --db book.db --n 10 --learn 10

Two things are the paper's and not potstill's own defaults: no bullet is withheld by lot, and what is learnt online is
shown at once (``potstill distill playbook`` begins it as a canary). One thing is not the paper's: teacher and student
may be two models. With ``--db`` the book stays, an interrupted run goes on, and ``potstill playbook show`` reads it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _arena as arena

from potstill.distill.context.render import neutral
from potstill.distill.playbook import formats
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.learn.bill import cost_usd
from potstill.distill.playbook.learn.contract import Roles, Tasks, episode_id
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Result
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.operations import Stage
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.roles.evidence import case_of
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.said import Reflection
from potstill.protocols import Model
from potstill.trajectories import Store
from potstill.types import Call, Task, Trajectory

NAMESPACE = "default"
MODES = ("offline", "online", "sample", "warm-up")
REFLECTION_HEADING = "A reflection on an earlier attempt at this task:"


async def compare(
    options: argparse.Namespace, *, student: Model | None = None, teacher: Model | None = None
) -> list[dict[str, Any]]:
    """Rows for the student without a playbook and for each mode, each with a book of its own."""
    if teacher is None and student is None:
        arena.needs_words(options)
    with tempfile.TemporaryDirectory() as folder:
        place = options.db or Path(folder) / "book.db"
        with Store.open(place) as store:
            async with arena.opened(options, student=student, teacher=teacher) as world:
                tests = world.tasks(options.split, options.n)
                rows = [world.row(arena.Played("no playbook", await world.play_all(tests, arm="none"), []))]
                for mode in options.mode.split(","):
                    book = Playbook(store, NAMESPACE, f"{options.book}-{mode}")
                    rows.append(world.row(await played(world, book, mode, tests)))
                    keep(options, mode, book)
                return rows


async def played(world: arena.Arena, book: Playbook, mode: str, tests: Sequence[Task]) -> arena.Played:
    """Learn and play the test tasks, in the order of the mode."""
    teaching = Teaching(world, book)
    own: list[Call] = []
    if mode in ("offline", "warm-up"):
        train = world.tasks(world.options.learn_split, world.options.learn, without=tests)
        valid = world.tasks(world.options.learn_split, world.options.valid, without=[*tests, *train])
        await teaching.learn(Mode.OFFLINE, train, valid)
    if mode == "offline":
        episodes = await world.play_all(tests, arm="ace offline", context=teaching.context)
    else:
        lived = Mode.SAMPLE if mode == "sample" else Mode.ONLINE
        await teaching.learn(lived, tests)
        episodes = teaching.lived(lived, tests)
        own = [call for episode in episodes for call in arena.calls_of(episode)]
    page = await teaching.page(tests[0])
    return arena.Played(f"ace {mode}", episodes, [], page, teaching.more(own))


class Teaching:
    """One book, who learns into it, and what came of it."""

    def __init__(self, world: arena.Arena, book: Playbook) -> None:
        self.world, self.book, options = world, book, world.options
        config = PlaybookConfig(budget=Budget(tokens=options.budget), holdout_share=0.0, canary_share=1.0)
        self.context = PlaybookContext.of(book, config)
        self._roles = Roles(
            reflector=ModelReflector(world.teacher, max_tokens=options.text_tokens, seed=options.seed),
            curator=ModelCurator(world.teacher, max_tokens=options.text_tokens, seed=options.seed, lenient=True),
            case=partial(case_of, label_of=None if options.labels else no_label),
            price=self._price,
        )
        self._results: list[Result] = []

    async def learn(self, mode: Mode, tasks: Sequence[Task], valid: Sequence[Task] = ()) -> Result:
        options = self.world.options
        settings = Settings(
            mode=mode,
            epochs=options.epochs if mode is Mode.OFFLINE else 1,
            rounds=options.rounds,
            replay=options.replay,
            window=options.window,
            parallel=1,
            label_stage=Stage.LIVE,
            execution_stage=Stage.LIVE,
            budget=Budget(tokens=options.budget),
            seed=options.seed,
        )
        given = Tasks(generator=Generator(self.world, self.context), tasks=tasks, validation=valid)
        result = await learn(self.book, given, self._roles, settings, run=run_name(mode), progress=tell)
        self._results.append(result)
        return result

    def lived(self, mode: Mode, tasks: Sequence[Task]) -> list[Trajectory]:
        """The episodes of an online run, each as it was played before it was learnt from."""
        base = f"{NAMESPACE}/{self.book.name}/{run_name(mode)}/play/0"
        ids = [episode_id(f"{base}/{place}") for place in range(len(tasks))]
        return [self.book.store.get(id, namespace=NAMESPACE) for id in ids]

    async def page(self, task: Task) -> str:
        """What the student is shown in the end."""
        block = await self.context.for_task(arena.query(task))
        return block.text

    def more(self, own: Sequence[Call]) -> dict[str, Any]:
        """What learning cost and did, for the row. ``own``: calls of the row's episodes, which are no part of it."""
        spent = [one for result in self._results for one in result.spent]
        costs = [self._price(call) for call in own]
        unknown = None in costs or any(one.without_price for one in spent)
        live = [one for one in self.book.bullets().values() if not one.removed]
        return {
            "learn_usd": None if unknown else cost_usd(spent) - sum(cost or 0.0 for cost in costs),
            "learn_calls": sum(one.calls for one in spent) - len(own),
            "bullets": len(live),
            "validation": [[one.share for one in result.validations] for result in self._results],
            "learnt_from": sum(result.episodes for result in self._results),
            "applied": [result.applied for result in self._results],
            "refused": [result.refused for result in self._results],
            "skipped": sum(len(result.skipped) for result in self._results),
        }

    def _price(self, call: Call) -> float | None:
        return self.world.cost_usd([call])


class Generator(NamedTuple):
    """The student with the book in its prompt, as the learning loop asks for it."""

    world: arena.Arena
    context: PlaybookContext

    async def play(self, task: Task, seed: int, *, reflection: Reflection | None, tag: str) -> Trajectory:
        text = f"{REFLECTION_HEADING}\n{told(reflection)}" if reflection is not None else ""
        return await self.world.play(task, text, arm="learning", context=self.context, id=episode_id(tag))


def told(reflection: Reflection) -> str:
    parts = (reflection.error_identification, reflection.correct_approach, reflection.key_insight)
    return "\n".join(neutral(part) for part in parts if part)


def no_label(trajectory: Trajectory) -> str | None:
    return None


def run_name(mode: Mode) -> str:
    return f"recipe-{mode.value}"


def tell(progress: Any) -> None:
    row = progress.row
    changed = ", ".join(f"{count} {name}" for name, count in row.applied.items())
    print(f"{progress.kind.value}: step {progress.done} of {progress.steps} {changed}".rstrip(), file=sys.stderr)


def keep(options: argparse.Namespace, mode: str, book: Playbook) -> None:
    """Write the book in the release's format, as FILE-mode."""
    if options.save:
        path = Path(options.save)
        bullets = list(book.bullets().values())
        path.with_name(f"{path.stem}-{mode}{path.suffix}").write_bytes(formats.write("ace", bullets))


def modes(text: str) -> str:
    wrong = [name for name in text.split(",") if name not in MODES]
    if wrong:
        raise argparse.ArgumentTypeError(f"'{wrong[0]}' is no mode; allowed: {', '.join(MODES)}")
    return text


def parsed() -> argparse.ArgumentParser:
    parser = arena.parser(__doc__)
    parser.add_argument("--mode", type=modes, default="offline", help="offline, online, sample, warm-up [offline]")
    parser.add_argument("--epochs", type=int, default=1, help="over the training tasks; the paper's limit is 5 [1]")
    parser.add_argument("--rounds", type=int, default=3, help="of reflection on an episode [3]")
    parser.add_argument("--no-replay", dest="replay", action="store_false", help="reflect again without playing again")
    parser.add_argument("--valid", type=int, default=0, help="further training tasks; the book best on them stays [0]")
    parser.add_argument("--window", type=int, default=15, help="episodes before each learning, online [15]")
    parser.add_argument("--budget", type=int, default=10_000, help="tokens of the playbook [10000]")
    parser.add_argument("--no-labels", dest="labels", action="store_false", help="do not tell right answers")
    parser.add_argument("--text-tokens", type=int, default=2048, help="that a role may write [2048]")
    parser.add_argument("--db", help="store that keeps books and episodes [none]")
    parser.add_argument("--book", default="ace", help="name of the books, before the mode [ace]")
    parser.add_argument("--save", metavar="FILE", help="write each book in the release's format, as FILE-mode")
    return parser


if __name__ == "__main__":
    sys.exit(arena.main(compare, parsed().parse_args()))
