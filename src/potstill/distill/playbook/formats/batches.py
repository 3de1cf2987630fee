"""Imported bullets as batches of operations: first their texts, then, once the book has given ids, all else.

What it knows: which operation carries which field, how many fit a batch, keys that make a repeated import harmless.
What it does not do: apply them, or look for near-duplicates (``gate`` does, ``became`` reads what it decided).

    imported = formats.read(data)
    ids = [id for batch in batches(imported) for id in apply(batch).ids]
    for batch in follow_up(imported, ids): apply(batch)

A crash between the two is mended by importing again: the keys are made of the file, so that each batch that was applied
returns what it did then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from potstill.distill.playbook.apply import MAX_TAG
from potstill.distill.playbook.formats.imported import Imported, ImportedBullet
from potstill.distill.playbook.operations import (
    MAX_OPERATIONS,
    Add,
    Applied,
    Batch,
    Operation,
    Pin,
    Quarantine,
    SetStage,
    Stage,
    Tag,
)
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.playbook.gate import Decision


def batches(
    imported: Imported, actor: str = "import", *, stage: Stage | None = None, key: str | None = None
) -> tuple[Batch, ...]:
    """One ``ADD`` for each item, in order. Items of the same sources share a batch, so that forgetting a source takes
    nothing else along.

    ``stage``: for all of them; None: what the file says, else ``shadow``. A quarantined bullet comes in as ``shadow``,
    so that nobody is shown it meanwhile. ``key``: how the idempotency keys begin; None: made of the file; empty: no
    keys, the same file adds its bullets again.
    """
    found: list[Batch] = []
    for sources, members in groupby(imported.items, key=lambda item: item.sources):
        adds: list[Operation] = [
            Add(section=item.section, content=item.content, stage=_first_stage(item, stage)) for item in members
        ]
        for chunk in _chunks(adds):
            found.append(_batch(chunk, actor, imported, key, f"add-{len(found)}", sources))
    return tuple(found)


def follow_up(
    imported: Imported,
    ids: Sequence[str],
    actor: str = "import",
    *,
    stage: Stage | None = None,
    key: str | None = None,
    twins: Iterable[str] = (),
) -> tuple[Batch, ...]:
    """Counters, pins and quarantines of what ``batches`` added.

    ``ids``: the bullet that each item became, in order; where the near-duplicate gate found a twin, the twin's, and
    then it stands in ``twins`` too: counters are added to it, and nothing else is done to a bullet that was there.
    Raises ``ConfigError`` where there is not one id for each item.
    """
    if len(ids) != len(imported.items):
        raise ConfigError(
            f"The import has {len(imported.items)} bullets and {len(ids)} ids came back. Pass one id for each item: "
            "Applied.ids of the batches that batches() made, one after the other."
        )
    known = frozenset(twins)
    operations = [
        operation
        for item, id in zip(imported.items, ids, strict=True)
        for operation in _about(item, id, stage, id in known)
    ]
    chunks = enumerate(_chunks(operations))
    return tuple(_batch(chunk, actor, imported, key, f"tag-{index}", ()) for index, chunk in chunks)


def became(decisions: Sequence[Decision], applied: Applied) -> tuple[tuple[str, ...], frozenset[str]]:
    """For a batch that went through ``gate.gated``: the id that each of its items became, and the twins among them.

    Both are for ``follow_up``. A batch that is applied again finds its own bullets as twins: they are not.
    """
    ids = tuple(one.id if one.place is None else applied.ids[one.place] for one in decisions)
    twins = {one.id for one in decisions if one.place is None}
    return ids, frozenset(twins - set(applied.ids))


def _first_stage(item: ImportedBullet, stage: Stage | None) -> Stage:
    return Stage.SHADOW if item.quarantined else _stage(item, stage)


def _stage(item: ImportedBullet, stage: Stage | None) -> Stage:
    return stage or item.stage or Stage.SHADOW


def _about(item: ImportedBullet, id: str, stage: Stage | None, twin: bool) -> Iterable[Operation]:
    helpful, harmful, neutral = item.helpful, item.harmful, item.neutral
    while helpful or harmful or neutral:
        tag = Tag(id=id, helpful=min(helpful, MAX_TAG), harmful=min(harmful, MAX_TAG), neutral=min(neutral, MAX_TAG))
        helpful, harmful, neutral = helpful - tag.helpful, harmful - tag.harmful, neutral - tag.neutral
        yield tag
    if twin:
        return
    if item.quarantined:
        yield Quarantine(id=id, reason="quarantined in the file that it was imported from")
        if _stage(item, stage) is not Stage.SHADOW:
            yield SetStage(id=id, stage=_stage(item, stage))
    if item.pinned:
        yield Pin(id=id)


def _chunks(operations: Sequence[Operation]) -> Iterable[tuple[Operation, ...]]:
    for start in range(0, len(operations), MAX_OPERATIONS):
        yield tuple(operations[start : start + MAX_OPERATIONS])


def _batch(
    operations: tuple[Operation, ...],
    actor: str,
    imported: Imported,
    key: str | None,
    part: str,
    sources: tuple[str, ...],
) -> Batch:
    start = f"import-{imported.digest}" if key is None and imported.digest else key
    return Batch(
        operations=operations,
        actor=actor,
        sources=sources,
        key=f"{start}-{part}" if start else "",
        reason=f"imported from {imported.format}",
    )
