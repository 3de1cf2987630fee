"""What makes runs unfit for comparison: missing tasks, other harnesses, other simulated users.

What it knows: which tasks each group attempted and under what. What it does not do: take anything out.
"""

from __future__ import annotations

from collections.abc import Mapping

from potstill.measure.audit.attempts import GroupRows
from potstill.measure.audit.dirt import Dirt

Groups = Mapping[tuple[str, str], GroupRows]
NAMED = 3
MOST_BROKEN = 0.1
"""Share of broken attempts above which a run's figures are doubtful."""


def tell_differences(groups: Groups, tasks: Mapping[str, int], dirt: Dirt) -> None:
    """Note what keeps the runs apart."""
    _tell_broken(groups, dirt)
    _tell_left_over(groups, dirt)
    _tell_missing_tasks(groups, tasks, dirt)
    _tell_harnesses(groups, dirt)
    _tell_users(groups, dirt)


def _tell_broken(groups: Groups, dirt: Dirt) -> None:
    """Errors that cost nothing make an episode look cheap, and a place on the frontier with it."""
    for (model, run), rows in groups.items():
        broke = sum(row.broke for row in rows)
        free = sum(row.broke and not row.usd for row in rows)
        if broke > MOST_BROKEN * len(rows):
            where = f"{model}: {broke:,} of {len(rows):,} attempts, {free:,} of them at no cost"
            dirt.note("broken_run", run, where, count=broke)


def _tell_left_over(groups: Groups, dirt: Dirt) -> None:
    """What is left of a run that repeats another one is no sample of it."""
    for (model, run), rows in groups.items():
        if rows.counted_elsewhere and len(rows):
            where = f"{model}: {rows.counted_elsewhere:,} of {rows.counted_elsewhere + len(rows):,}"
            dirt.note("left_over", run, where, count=rows.counted_elsewhere)


def _tell_missing_tasks(groups: Groups, tasks: Mapping[str, int], dirt: Dirt) -> None:
    """A run is measured against the tasks of all runs that share a task with it."""
    attempted = {key: {row.task for row in rows} | rows.repeated_tasks for key, rows in groups.items()}
    names = {number: name for name, number in tasks.items()}
    for key, own in attempted.items():
        others = [theirs for other, theirs in attempted.items() if other != key and not own.isdisjoint(theirs)]
        missing = set().union(*others) - own
        if missing:
            named = ", ".join(names[number] for number in sorted(missing)[:NAMED])
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            dirt.note("missing_tasks", key[1], f"{key[0]} lacks {named}{more}", count=len(missing))


def _tell_harnesses(groups: Groups, dirt: Dirt) -> None:
    by_model: dict[str, dict[str, None]] = {}
    for (model, _), rows in groups.items():
        by_model.setdefault(model, {}).update(dict.fromkeys(sorted(rows.harnesses)))
    for model, harnesses in by_model.items():
        if len(harnesses) > 1:
            dirt.note("different_harness", None, f"{model}: {', '.join(harnesses)}", count=len(harnesses))


def _tell_users(groups: Groups, dirt: Dirt) -> None:
    users = dict.fromkeys(user for rows in groups.values() for user in sorted(rows.user_models))
    if len(users) > 1:
        dirt.note("different_user_model", None, ", ".join(users), count=len(users))
