"""Policies for ``potstill calibrate``: their files opened, and asked in the situations of a store. Wiring only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli.attempt_files import calls_of, is_store, pricing_of
from potstill.cli.output import note
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.measure.policy_samples import StepPrice, Student
    from potstill.measure.prices import PriceTable
    from potstill.measure.samples import Recorded
    from potstill.trajectories.store import Store
    from potstill.types import Trajectory

SCHEME = "policy:"


def recorded(
    files: Sequence[str], students: Sequence[str], teacher: str, options: dict[str, Any]
) -> list[Recorded] | None:
    """What each policy says at the teacher's decisions; None where no student is a policy.

    Raises ``ConfigError`` where policies and models are mixed, and for files that hold no situations.
    """
    policies = [name for name in students if name.startswith(SCHEME)]
    if not policies:
        return None
    if len(policies) < len(students):
        raise ConfigError(
            "Policies are asked at a teacher's decisions, and other students have recorded attempts: what both lose is "
            f"not the same. Calibrate {policies[0]} alone."
        )
    missing = [file for file in files if not is_store(file) and not Path(file).exists()]
    if missing:
        raise ConfigError(
            f"There is no file {missing[0]}. Name the store with the teacher's episodes, or record some: potstill "
            f"distill context --env NAME --n 300 --teacher {teacher} --db {missing[0]}"
        )
    if len(files) != 1 or not is_store(files[0]):
        raise ConfigError(
            f"{' '.join(files)}: a policy is asked anew in the situations of a teacher's episodes, which one store "
            "holds. Type for example: potstill calibrate potstill.db --student policy:student.policy --teacher expert"
        )
    return _asked(files[0], policies, teacher, options)


def _asked(place: str, policies: Sequence[str], teacher: str, options: dict[str, Any]) -> list[Recorded]:
    from potstill.measure import policy_samples
    from potstill.measure.prices import PriceTable
    from potstill.trajectories.opening import read_store
    from potstill.types import TrajectoryKind

    table, found = PriceTable.load(options["prices"], options["date"]), []
    opened = [_student(name) for name in policies]
    with read_store(place) as store:
        filters: dict[str, Any] = {"kind": TrajectoryKind.TEACHER, "namespace": options["namespace"]}
        filters["environment"] = _environment(store, filters, options["environment"])
        price = _step_price(store, table, options)
        for student in opened:
            asked = policy_samples.recorded(student, store.select(**filters), teacher, price)
            found.append(asked._replace(environment=filters["environment"]))
    for one in found:
        for text in one.found.notes():
            note(f"note: {text}")
    return found


def _student(name: str) -> Student:
    from potstill.cli.policy_data import known_to
    from potstill.measure.calibration_file import file_sha256
    from potstill.measure.policy_samples import Student
    from potstill.models.policy import open_policy

    path = Path(name.removeprefix(SCHEME)).expanduser()
    model = open_policy(path)
    known = known_to(path)
    if known.missing:
        note(
            f"note: of the data that {path.name} was made from, {', '.join(known.missing)} are not beside it, so their "
            "tasks are not left out. The guarantee holds only for tasks that it never saw"
        )
    return Student(name, model.probabilities, file_sha256(path), known.has)


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
