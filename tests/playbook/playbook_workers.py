"""Workers that write into one playbook: what each proposes after reading it, and how it tries again when it lost."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Refused, Why
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Applied, Batch, Bullet, Merge, Operation, Stage, Tag, Update

SECTIONS = ("strategies", "formulas", "others")


def add(content: str, section: str = "strategies") -> Add:
    return Add(section=section, content=content)


def batch(*operations: Operation, actor: str = "curator", sources: tuple[str, ...] = (), key: str = "") -> Batch:
    return Batch(operations=operations, actor=actor, sources=sources, key=key)


def proposal(rng: random.Random, view: Mapping[str, Bullet], worker: str) -> Batch:
    """One to four operations on the bullets as this worker last read them."""
    ids = list(view)
    source = f"trace-{worker}-{rng.randint(0, 3)}"
    operations = tuple(_operation(rng, view, ids, source) for _ in range(rng.randint(1, 4)))
    return batch(*operations, actor=worker, sources=(source,))


def _operation(rng: random.Random, view: Mapping[str, Bullet], ids: list[str], source: str) -> Operation:
    kind = rng.choice(("add", "tag", "tag", "update", "merge", "remove", "restore", "quarantine", "pin", "stage"))
    if not ids or kind == "add":
        return add(f"{source} lesson {rng.randint(0, 30)}", rng.choice(SECTIONS))
    id = rng.choice(ids)
    if kind == "merge" and len(ids) > 2:
        into, *others = rng.sample(ids, rng.randint(2, 3))
        revisions = tuple(view[one].revision for one in (into, *others))
        return Merge(into=into, ids=tuple(others), content=f"{source} merged {rng.randint(0, 9)}", revisions=revisions)
    return {
        "update": Update(id=id, content=f"{source} better {rng.randint(0, 9)}", revision=view[id].revision),
        "remove": ops.Remove(id=id, reason="wrong"),
        "restore": ops.Restore(id=id),
        "quarantine": ops.Quarantine(id=id),
        "pin": ops.Pin(id=id, pinned=rng.random() < 0.5),
        "stage": ops.SetStage(id=id, stage=rng.choice(list(Stage))),
    }.get(kind) or Tag(id=id, helpful=rng.randint(0, 3), harmful=rng.randint(0, 1), neutral=1)


def counting(book: Playbook, worker: str, rounds: int) -> int:
    """Count up in the text of ``b-1`` by reading and writing, and in its counter; returns how often it was too late."""
    late = 0
    for round in range(rounds):
        while True:
            bullet = book.bullets(["b-1"])["b-1"]
            update = Update(id="b-1", content=str(int(bullet.content) + 1), revision=bullet.revision)
            try:
                book.apply(batch(update, Tag(id="b-1", helpful=1), add(f"{worker} {round}"), actor=worker))
                break
            except Refused as refused:
                if refused.why is not Why.STALE:
                    raise
                late += 1
    return late


def lessons(name: str, number: int) -> Batch:
    """The how-manieth batch of a writer that may be killed: five bullets that belong together, and a tag."""
    five = tuple(add(f"{name} {number} {part}", SECTIONS[part % 3]) for part in range(5))
    return batch(*five, Tag(id="b-1", helpful=1), actor=name, sources=(f"{name}-{number}",), key=f"{name}-{number}")


def encoded(applied: Applied) -> str:
    return msgspec.json.encode(applied).decode()
