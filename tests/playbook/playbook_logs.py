"""Logs of playbooks for tests: written by hand, or drawn at random and valid because each batch was applied."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Entry, Refused, apply
from potstill.distill.playbook.operations import Batch, Bullet, Stage

SOURCES: tuple[tuple[str, ...], ...] = ((), ("t-1",), ("t-2",), ("t-3",), ("t-1", "t-2"))
ACTORS = ("curator", "admin", "import", "alice@example.org")


class Log:
    """A book in memory: what the store does, without one."""

    def __init__(self, own: bool = False) -> None:
        self.own = own
        """Whether each batch's texts are its own."""
        self.bullets: dict[str, Bullet] = {}
        self.entries: list[Entry] = []

    def do(self, *operations: ops.Operation, actor: str = "curator", **fields: Any) -> tuple[str, ...]:
        """Apply a batch, or raise ``Refused`` and leave everything as it was."""
        return self.append(Batch(operations=operations, actor=actor, **fields))

    def append(self, batch: Batch) -> tuple[str, ...]:
        number = 1 + sum(len(entry.ids) for entry in self.entries)
        revision = len(self.entries) + 1
        change = apply(self.bullets, batch, revision=revision, next_number=number)
        self.bullets = {**self.bullets, **{bullet.id: bullet for bullet in (*change.changed, *change.added)}}
        self.entries.append(Entry(revision=revision, at=float(revision), batch=batch, ids=change.ids))
        return change.ids


def add(content: str, section: str = "strategies", stage: Stage = Stage.SHADOW) -> ops.Add:
    return ops.Add(section=section, content=content, stage=stage)


def text(draw: st.DrawFn, log: Log, revision: int) -> str:
    """Distinct in its own words for each batch, and now and then the same as another's."""
    number = draw(st.integers(0, 9))
    return (
        f"common rule {number} of all" if number < 2 and not log.own else f"lesson {revision} part {number} from here"
    )


def _operation(draw: st.DrawFn, log: Log, revision: int) -> ops.Operation:
    ids = sorted(log.bullets)
    kind = draw(st.sampled_from(("add", "update", "merge", "tag", "remove", "pin", "quarantine", "restore", "stage")))
    if not ids or kind == "add":
        return add(
            text(draw, log, revision), draw(st.sampled_from(("strategies", "pitfalls"))), draw(st.sampled_from(Stage))
        )
    id = draw(st.sampled_from(ids))
    return {
        "update": lambda: ops.Update(id=id, content=text(draw, log, revision), revision=log.bullets[id].revision),
        "merge": lambda: _merge(draw, log, id, revision),
        "tag": lambda: ops.Tag(id=id, helpful=draw(st.integers(0, 3)), harmful=draw(st.integers(0, 3)), neutral=1),
        "remove": lambda: ops.Remove(id=id, reason=f"why {revision}"),
        "pin": lambda: ops.Pin(id=id, pinned=draw(st.booleans())),
        "quarantine": lambda: ops.Quarantine(id=id),
        "restore": lambda: ops.Restore(id=id),
        "stage": lambda: ops.SetStage(id=id, stage=draw(st.sampled_from(Stage))),
    }[kind]()


def _merge(draw: st.DrawFn, log: Log, into: str, revision: int) -> ops.Operation:
    others = [id for id, bullet in sorted(log.bullets.items()) if id != into and not bullet.removed]
    if not others:
        return ops.Restore(id=into)
    ids = tuple(draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True)))
    new = text(draw, log, revision)
    content = new if log.own else draw(st.sampled_from((log.bullets[ids[0]].content, new)))
    return ops.Merge(
        into=into, ids=ids, content=content, revisions=tuple(log.bullets[id].revision for id in (into, *ids))
    )


@st.composite
def logs(draw: st.DrawFn, most: int = 14, sourced: bool = False) -> Log:
    """A log of some batches; those that would be refused are left out of it. ``sourced``: each names its sources, and
    each writes texts of its own."""
    log = Log(own=sourced)
    log.do(add("the first rule of this book"), add("the second rule of this book"), sources=("t-1",))
    for _ in range(draw(st.integers(0, most))):
        operations = [_operation(draw, log, len(log.entries) + 1) for _ in range(draw(st.integers(1, 3)))]
        try:
            log.do(*operations, actor=draw(st.sampled_from(ACTORS)), sources=draw(st.sampled_from(SOURCES[sourced:])))
        except Refused:
            continue
    return log
