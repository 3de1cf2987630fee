"""Parquet for analysis: one row a step. Needs pyarrow (extra ``parquet``); it is an export only, prompts are left out.

What it knows: the columns and their units. What it does not do: prices. Unknown tokens are null, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import msgspec

from potstill.errors import MissingExtra
from potstill.types import Step, Trajectory

ROW_GROUP = 5000

_TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def write_parquet(trajectories: Iterable[Trajectory], target: BinaryIO) -> int:
    """Write one row a step in row groups of bounded size; returns how many rows. Raises ``MissingExtra``."""
    pa, parquet = load_pyarrow()
    schema = _schema(pa)
    rows = (row(trajectory, step) for trajectory in trajectories for step in trajectory.steps)
    count = 0
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def load_pyarrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``. Raises ``MissingExtra``."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet export", "parquet") from error
    return pa, parquet


def _schema(pa: Any) -> Any:
    text, whole, number = pa.string(), pa.int64(), pa.float64()
    return pa.schema(
        [
            *((name, text) for name in ("trajectory_id", "run_id", "namespace", "arm", "kind")),
            *((name, text) for name in ("environment", "task_id", "split", "goal")),
            ("seed", whole),
            ("success", pa.bool_()),
            ("started_at", number),
            ("step", whole),
            ("observation", text),
            ("admissible", pa.list_(text)),
            ("reasoning", text),
            ("action", text),
            ("tool_calls", text),
            ("answerer", text),
            ("reason", text),
            ("agreement", number),
            ("confidence", number),
            ("demonstrations", pa.list_(text)),
            ("calls", whole),
            *((name, whole) for name in _TOKENS),
            ("latency_s", number),
            ("error", text),
        ]
    )


def row(trajectory: Trajectory, step: Step) -> dict[str, Any]:
    """One step as plain values, one for each column."""
    decision = step.decision
    return {
        "trajectory_id": trajectory.id,
        "run_id": trajectory.run_id,
        "namespace": trajectory.namespace,
        "arm": trajectory.arm,
        "kind": str(trajectory.kind),
        "environment": trajectory.task.environment,
        "task_id": trajectory.task.id,
        "split": trajectory.task.split,
        "goal": trajectory.goal or trajectory.task.goal,
        "seed": trajectory.seed,
        "success": None if trajectory.outcome is None else trajectory.outcome.success,
        "started_at": trajectory.started_at,
        "step": step.index,
        "observation": step.observation.text,
        "admissible": None if step.observation.admissible is None else list(step.observation.admissible),
        "reasoning": step.reasoning,
        "action": step.action.text,
        "tool_calls": msgspec.json.encode(step.action.tool_calls).decode() if step.action.tool_calls else None,
        "answerer": str(step.answerer),
        "reason": None if decision is None else str(decision.reason),
        "agreement": None if decision is None else decision.agreement,
        "confidence": None if decision is None else decision.confidence,
        "demonstrations": [f"{d.trajectory_id}:{d.start}-{d.stop}" for d in step.demonstrations],
        "calls": len(step.calls),
        **tokens(step),
        "latency_s": step.latency_s,
        "error": None if step.error is None else f"{step.error.kind}: {step.error.message}",
    }


def tokens(step: Step) -> dict[str, int | None]:
    """Sums over the step's calls; all None if any call's tokens are not known."""
    usages = [call.usage for call in step.calls]
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return dict.fromkeys(_TOKENS)
    return dict(_sums(known))


def _sums(usages: list[Any]) -> Iterator[tuple[str, int]]:
    for name in _TOKENS:
        yield name, sum(getattr(usage, name) for usage in usages)
