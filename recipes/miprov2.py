"""MIPROv2, arXiv 2406.11695, through ``dspy``: instructions and examples chosen together by Bayesian search.

DSPy needs litellm, so it lives in a Python of its own, and talks to any OpenAI-compatible address: a provider's, or a
gateway of potstill that records and prices what it does. In 2026 litellm 1.82.7, 1.82.8 and 1.107.0 held foreign code
that ran at every start of Python. The script below takes pinned wheels alone, and refuses one that would do so; any
other Python with ``dspy`` and ``optuna`` is looked at before it is started.

    python scripts/framework_venv.py dspy          # prints PYTHON
    potstill serve --teacher local:smollm2-135m --port 8000
    python recipes/miprov2.py --python PYTHON --tasks DIR --base-url http://127.0.0.1:8000/v1 --model smollm2-135m

The program is one call (``material, question -> answer``), so the environment's episodes must have one step, as those
of ``finance`` have. ``--auto heavy`` is the paper's comparison; by default a small search. Answers are graded by the
environment, in this process; tokens are those that the address reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _arena as arena

from potstill.envs.registry import factory
from potstill.errors import ConfigError, PotstillError
from potstill.protocols import Capabilities, Environment
from potstill.types import Action, Answerer, Call, Completion, Purpose, Reply, Request, Task, Usage

CHILD = Path(__file__).with_name("_miprov2_child.py")
START_FILES = ("distutils-precedence.pth", "_virtualenv.pth")
"""Files of setuptools and virtualenv that run when Python starts."""
LINE_BYTES = 64 << 20


async def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows for DSPy's program as it stands and for the best one of the search."""
    if options.max_cost is not None:
        raise ConfigError("DSPy asks its models itself: --max-cost cannot be kept. Set a limit where --base-url leads.")
    python = checked_python(Path(options.python))
    told = Told(options.model)
    async with arena.opened(options, student=told) as world:
        if world.about.max_steps != 1:
            raise ConfigError(
                f"MIPROv2 optimises a program of one call; an episode of '{options.env}' takes up to "
                f"{world.about.max_steps} steps. Type for example: --env finance --tasks DIR"
            )
        tests = world.tasks(options.split, options.n)
        train = world.tasks(options.learn_split, options.learn, without=tests)
        valid = world.tasks(options.learn_split, options.valid, without=[*tests, *train])
        environment = factory(options.env, **arena.world_options(options))()
        try:
            job = job_of(options, world, environment, train, valid, tests)
            done = await optimized(python, job, Grades(environment, [*train, *valid]))
        finally:
            environment.close()
        return [await row(world, told, tests, done, arm) for arm in ("own", "best")]


async def row(world: arena.Arena, told: Told, tests: Sequence[Task], done: dict[str, Any], arm: str) -> dict[str, Any]:
    """The answers of one program, played in the environment as any other arm is."""
    told.answers = {found["id"]: found for found in done[arm]}
    name = "dspy as it stands" if arm == "own" else "miprov2"
    episodes = []
    for task in tests:
        told.task = task.id
        episodes.append(await world.play(task, arm=name))
    unread = sum(bool(found["error"]) for found in done[arm])
    more: dict[str, Any] = {"unread_answers": unread, "versions": done["versions"]}
    if arm == "own":
        return world.row(arena.Played(name, episodes, [], more=more))
    text = "\n\n".join([done["instructions"], *(json.dumps(demo) for demo in done["demos"])])
    more |= {"instructions": done["instructions"], "demos": len(done["demos"])}
    return world.row(arena.Played(name, episodes, told.calls(done["learning"], Purpose.REFLECT), text, more))


class Told:
    """A model that says what DSPy's program answered, with the tokens that it was billed for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.task = ""
        self.answers: dict[str, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def sample(self, request: Request, n: int = 1) -> Completion:
        found = self.answers[self.task]
        reply = Reply(text=found["answer"])
        return Completion(replies=(reply,) * n, calls=tuple(self.calls(found["calls"], Purpose.ACT, reply)))

    def calls(self, billed: Sequence[dict[str, Any]], purpose: Purpose, reply: Reply | None = None) -> list[Call]:
        return [
            Call(
                model=self._name,
                answerer=Answerer.TEACHER if one["role"] == "teacher" else Answerer.STUDENT,
                purpose=purpose,
                replies=(reply,) if reply is not None else (),
                usage=usage(one),
            )
            for one in billed
        ]

    async def aclose(self) -> None:
        """Nothing is held open."""


def usage(billed: dict[str, Any]) -> Usage | None:
    """None where the address reported no tokens."""
    if billed["input"] is None or billed["output"] is None:
        return None
    cached = billed["cached"]
    return Usage(
        input_tokens=billed["input"],
        output_tokens=billed["output"],
        cache_read_tokens=min(cached or 0, billed["input"]),
        cache_reported=cached is not None,
    )


class Grades:
    """Grades answers by stepping the environment."""

    def __init__(self, environment: Environment, tasks: Sequence[Task]) -> None:
        self._environment = environment
        self._tasks = {task.id: task for task in tasks}

    def score(self, task: str, answer: str) -> float:
        self._environment.reset(self._tasks[task], 0)
        self._environment.step(Action(text=answer))
        outcome = self._environment.outcome()
        return float(outcome.success is True) if outcome.score is None else outcome.score


def job_of(
    options: argparse.Namespace,
    world: arena.Arena,
    environment: Environment,
    train: Sequence[Task],
    valid: Sequence[Task],
    tests: Sequence[Task],
) -> dict[str, Any]:
    """What the child is told. The answers of the test tasks are not in it."""

    def shown(task: Task, label: bool) -> dict[str, str]:
        fields = {"id": task.id, "question": task.goal, "material": environment.reset(task, 0).text}
        expert = environment.expert_action() if label else None
        return fields | ({"answer": expert.text} if expert is not None else {})

    def model(name: str, base_url: str, temperature: float, max_tokens: int) -> dict[str, Any]:
        address = {"model": name, "base_url": base_url, "key_variable": options.key_env}
        return address | {"temperature": temperature, "max_tokens": max_tokens}

    teacher = options.teacher_model or options.model, options.teacher_base_url or options.base_url
    return {
        "instructions": world.about.instructions,
        "student": model(options.model, options.base_url, options.temperature, options.max_tokens),
        "teacher": model(*teacher, 1.0, options.text_tokens),
        "train": [shown(task, True) for task in train],
        "valid": [shown(task, True) for task in valid],
        "test": [shown(task, False) for task in tests],
        **{name: getattr(options, name) for name in ("auto", "candidates", "trials", "demos", "seed")},
    }


async def optimized(python: Path, job: dict[str, Any], grades: Grades) -> dict[str, Any]:
    """Run the child, answer its questions, return what it found. Its own words go to stderr."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        str(python), "-P", str(CHILD), stdin=pipe, stdout=pipe, limit=LINE_BYTES
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(job).encode() + b"\n")
        while line := await child.stdout.readline():
            message: dict[str, Any] = json.loads(line)
            if "grade" not in message:
                return message
            score = grades.score(message["grade"], message["answer"])
            child.stdin.write(json.dumps({"score": score}).encode() + b"\n")
            await child.stdin.drain()
        raise PotstillError(f"DSPy ended with exit code {await child.wait()}; what it said is above.")
    finally:
        if child.returncode is None:
            child.stdin.close()
            child.kill()
            await child.wait()


def checked_python(python: Path) -> Path:
    """The interpreter. Raises ``ConfigError`` where it lacks ``dspy``, or has files that run at every start."""
    places = sorted(python.parent.parent.glob("lib/python3*/site-packages"))
    if not python.exists() or not any((place / "dspy").is_dir() for place in places):
        raise ConfigError(
            f"{python} is no Python of a virtual environment with dspy. One is made, and its path printed, by: "
            "python scripts/framework_venv.py dspy"
        )
    for place in places:
        for found in sorted([*place.glob("*.pth"), *place.glob("*customize.py")]):
            if found.name not in START_FILES and runs_code(found):
                raise ConfigError(
                    f"{found} runs code whenever that Python starts, which neither dspy nor litellm needs. "
                    "Look at it, and make the environment anew from wheels that you checked."
                )
    return python


def runs_code(path: Path) -> bool:
    """A ``.pth`` file runs its lines that begin with ``import``; the rest are folders."""
    if path.suffix == ".py":
        return True
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith(("import ", "import\t")) for line in lines)


def parsed() -> argparse.ArgumentParser:
    parser = arena.parser(__doc__)
    parser.add_argument("--python", required=True, help="Python of a virtual environment with dspy and optuna")
    parser.add_argument("--base-url", required=True, help="OpenAI-compatible address, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, help="name of the student there")
    parser.add_argument("--teacher-model", help="name of the model that writes instructions [the student]")
    parser.add_argument("--teacher-base-url", help="its address [the student's]")
    parser.add_argument("--key-env", help="variable that holds the address's key")
    parser.add_argument("--valid", type=int, default=10, help="further training tasks that choose [10]")
    parser.add_argument("--auto", choices=["light", "medium", "heavy"], help="DSPy's own sizes of a search")
    parser.add_argument("--candidates", type=int, default=3, help="instructions and sets of examples to try [3]")
    parser.add_argument("--trials", type=int, default=5, help="combinations to try [5]")
    parser.add_argument("--demos", type=int, default=4, help="examples in a prompt at most [4]")
    parser.add_argument("--text-tokens", type=int, default=1024, help="that the teacher may write [1024]")
    return parser


if __name__ == "__main__":
    sys.exit(arena.main(compare, parsed().parse_args()))
