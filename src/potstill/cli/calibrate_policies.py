"""Students that ``potstill calibrate`` asks: opened, and asked in the situations of a store. Wiring only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli import asked_students
from potstill.cli.attempt_files import calls_of, is_store, pricing_of
from potstill.cli.output import note, progress
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.measure.policy_samples import StepPrice, Student
    from potstill.measure.prices import PriceTable
    from potstill.measure.samples import Recorded
    from potstill.trajectories.store import Store
    from potstill.types import Trajectory


def asked_of(students: Sequence[str], files: Sequence[str]) -> list[str]:
    """The students that are asked anew, each once."""
    logs = any(Path(file).exists() and not is_store(file) for file in files)
    return [name for name in dict.fromkeys(students) if asked_students.is_asked(name, logs=logs)]


def recorded(
    files: Sequence[str], students: Sequence[str], teacher: str, options: dict[str, Any]
) -> list[Recorded] | None:
    """What each student that is asked says at the teacher's decisions; None where none is.

    Raises ``ConfigError`` where they are mixed with others, and for files that hold no situations; ``click.Abort``.
    """
    asked = asked_of(students, files)
    if not asked:
        return None
    if len(asked) < len(set(students)):
        raise ConfigError(
            "Policies and tuned models are asked at a teacher's decisions, and other students have recorded attempts: "
            f"what both lose is not the same. Calibrate {asked[0]} alone."
        )
    missing = [file for file in files if not is_store(file) and not Path(file).exists()]
    if missing:
        raise ConfigError(
            f"There is no file {missing[0]}. Name the store with the teacher's episodes, or record some: potstill "
            f"distill context --env NAME --n 300 --teacher {teacher} --db {missing[0]}"
        )
    if len(files) != 1 or not is_store(files[0]):
        raise ConfigError(
            f"{' '.join(files)}: {asked[0]} is asked anew in the situations of a teacher's episodes, which one store "
            f"holds. Type for example: potstill calibrate potstill.db --student {asked[0]} --teacher expert"
        )
    try:
        return _asked(files[0], asked, teacher, options)
    except KeyboardInterrupt:
        raise click.Abort from InterruptedError(
            "nothing of a calibration is kept, so it begins anew. Fewer of the teacher's episodes take less time: "
            "--teacher NAME@RUN"
        )


def _asked(place: str, students: Sequence[str], teacher: str, options: dict[str, Any]) -> list[Recorded]:
    from potstill.measure.prices import PriceTable
    from potstill.trajectories.opening import read_store
    from potstill.types import TrajectoryKind

    table, found = PriceTable.load(options["prices"], options["date"]), []
    with read_store(place) as store, ExitStack() as stack:
        filters: dict[str, Any] = {"kind": TrajectoryKind.TEACHER, "namespace": options["namespace"]}
        environment = filters["environment"] = _environment(store, filters, options["environment"])
        price = _step_price(store, table, options)
        opened = [stack.enter_context(asked_students.opened(name, environment)) for name in students]
        for student in opened:
            asked = _answers(student, lambda: store.select(**filters), teacher, price)
            found.append(asked._replace(environment=environment))
    for one in found:
        for text in one.found.notes():
            note(f"note: {text}")
    return found


def _answers(
    student: Student, episodes: Callable[[], Iterable[Trajectory]], teacher: str, price: StepPrice
) -> Recorded:
    """``episodes``: from the first one on, each time."""
    from potstill.measure import policy_samples

    if not student.slow:
        return policy_samples.recorded(student, episodes(), teacher, price)
    total = policy_samples.decisions(student, episodes(), teacher)
    with progress(student.name, total, unit="decisions") as bar:

        def watched(seen: Any, actions: Sequence[str]) -> Mapping[str, float]:
            answer = student.probabilities(seen, actions)
            bar.update(1)
            return answer

        return policy_samples.recorded(student._replace(probabilities=watched), episodes(), teacher, price)


def _environment(store: Store, filters: dict[str, Any], named: str | None) -> str | None:
    """The environment whose episodes count. Raises ``ConfigError`` where the store holds several and none is named."""
    counts = Counter(one.environment for one in store.summaries(**filters))
    if named is None and len(counts) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise ConfigError(f"The store holds a teacher's episodes of several environments: {told}. Name one: --env NAME")
    return named or next(iter(counts), None)


def _step_price(store: Store, table: PriceTable, options: dict[str, Any]) -> StepPrice:
    """What each step cost, its calls priced as ``potstill measure`` prices them."""
    from potstill.errors import UnknownPrice
    from potstill.measure.cache import ledger

    pricing = pricing_of(store, options)

    def price(episode: Trajectory) -> list[float]:
        try:
            rows = iter(ledger(calls_of(episode), table, cache="simulated", pricing=pricing))
        except UnknownPrice:
            return [math.nan] * len(episode.steps)
        return [_sum([row.total_usd for row in islice(rows, len(step.calls))]) for step in episode.steps]

    return price


def _sum(costs: Sequence[float | None]) -> float:
    """Dollars of a step; unknown where a call's are, or where nobody recorded a call."""
    return math.fsum(math.nan if cost is None else cost for cost in costs) if costs else math.nan
