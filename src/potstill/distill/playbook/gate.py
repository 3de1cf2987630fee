"""What becomes of near-duplicates: of a batch's ``ADD``s before it is written, and of a whole book's bullets.

What it knows: batches, twins, who may swallow whom. What it does not do: find twins (``twins``), apply or write a
batch, ask a model. What it decides stands in the batch that is logged, so that a replay decides nothing again.

Two workers that gate at the same time do not see each other's ``ADD``s: both get in, and ``refine`` proposes the merge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from potstill.distill.playbook.apply import MAX_REASON_CHARACTERS
from potstill.distill.playbook.operations import (
    MAX_CONTENT_CHARACTERS,
    MAX_OPERATIONS,
    Add,
    Batch,
    Bullet,
    Merge,
    Operation,
    Remove,
    Stage,
    Tag,
    Update,
)
from potstill.distill.playbook.similar import groups
from potstill.distill.playbook.twins import BookIndex, Gate, How, Kept, Twin
from potstill.errors import ConfigError
from potstill.retrieval.vectors import FloatVector
from potstill.types import Struct

_STAGES = list(Stage)


class What(StrEnum):
    """What became of an ``ADD``."""

    ADD = "add"
    """Nothing is like it: it stays."""
    TAG = "tag"
    """The book says it already: it became a ``TAG`` of its twin; one for each twin, however many ``ADD``s repeat it."""
    DROP = "drop"
    """Another ``ADD`` of the batch says it."""
    ASK = "ask"
    """The book says something like it, and yet it stays: a ``refine`` will propose to merge them."""


class Decision(Struct, frozen=True, kw_only=True):
    """What was decided for one ``ADD``."""

    index: int
    """Of the operation in the batch that came in."""
    what: What
    place: int | None = None
    """In ``Applied.ids``, of the bullet with this lesson: its own one, or of a ``DROP`` the other's; None for ``TAG``.
    """
    id: str = ""
    """The twin's, where it is in the book."""
    how: How | None = None
    similarity: float = 0.0
    stage: Stage | None = None
    """The one that the ``ADD`` asked for, where its twin has a lower one: whoever decides on stages may promote it."""


# --- a batch --------------------------------------------------------------------------------------------------------


def gated(
    batch: Batch, book: BookIndex, gate: Gate | None = None, *, kept: Kept = frozenset()
) -> tuple[Batch, tuple[Decision, ...]]:
    """The batch to write instead of this one, and a decision for each ``ADD``, in their order.

    An ``ADD`` that an unremoved bullet says already becomes a ``TAG`` of it; the bullet's text stays, for an ``ADD``
    needs no revision and shall not rewrite what others trust. Bullets that the batch itself removes, merges away or
    rewrites are nobody's twins; what it rewrites them to is. Of ``ADD``s that are twins of each other the longest stays
    (ties: the alphabetically first), whatever their order. Every other operation is as it was.
    """
    gate = gate or Gate()
    adds = {index: one for index, one in enumerate(batch.operations) if isinstance(one, Add)}
    vectors = dict(zip(adds, book.embed([add.content for add in adds.values()]), strict=True))
    meant = dict(zip(adds, book.meant([(add.section, vectors[at]) for at, add in adds.items()], gate), strict=True))
    rewritten = _rewritten(batch, book)
    gone = _touched(batch)
    decisions: dict[int, Decision] = {}
    for index, add in adds.items():
        vector, near = vectors[index], meant[index]
        twin = book.twin(add.section, add.content, gate, kept=kept, without=gone, vector=vector, meant=near)
        where = book
        if twin is None and len(rewritten):
            twin, where = rewritten.twin(add.section, add.content, gate, kept=kept, vector=vector), rewritten
        if twin is not None:
            decisions[index] = _against_book(index, add, twin, where[twin.id], gate)
    stay = {index: add for index, add in adds.items() if index not in decisions or decisions[index].what is What.ASK}
    decisions |= _among(stay, decisions, vectors, book, gate, kept)
    return _written(batch, decisions, gate)


def _touched(batch: Batch) -> set[str]:
    gone: set[str] = set()
    for operation in batch.operations:
        if isinstance(operation, Remove | Update):
            gone.add(operation.id)
        elif isinstance(operation, Merge):
            gone.update((operation.into, *operation.ids))
    return gone


def _rewritten(batch: Batch, book: BookIndex) -> BookIndex:
    """The bullets that the batch rewrites, as they will be."""
    found: dict[str, Bullet] = {}
    for operation in batch.operations:
        if isinstance(operation, Update | Merge):
            id = operation.id if isinstance(operation, Update) else operation.into
            if id in book:
                found[id] = msgspec.structs.replace(book[id], content=operation.content)
        for id in _removed(operation):
            found.pop(id, None)
    return BookIndex(found.values(), embedder=book.embedder, spellings=book.spellings)


def _removed(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, Merge):
        return operation.ids
    return (operation.id,) if isinstance(operation, Remove) else ()


def _against_book(index: int, add: Add, twin: Twin, bullet: Bullet, gate: Gate) -> Decision:
    settled = twin.how is How.EXACT or bullet.quarantined
    ask = not settled and (gate.mode == "lazy" or _says_more(add, bullet, gate))
    return Decision(
        index=index,
        what=What.ASK if ask else What.TAG,
        id=twin.id,
        how=twin.how,
        similarity=twin.similarity,
        stage=_higher(add.stage, bullet.stage),
    )


def _says_more(one: Add | Bullet, other: Bullet, gate: Gate) -> bool:
    return len(one.content) > gate.longer * len(other.content)


def _higher(asked: Stage, there: Stage) -> Stage | None:
    return asked if _STAGES.index(asked) > _STAGES.index(there) else None


def _among(
    adds: Mapping[int, Add],
    decisions: Mapping[int, Decision],
    vectors: Mapping[int, FloatVector | None],
    book: BookIndex,
    gate: Gate,
    kept: Kept,
) -> dict[int, Decision]:
    """Decisions for the ``ADD``s that the book does not say: the longest leads, those near it are dropped."""
    leaders, found = BookIndex(embedder=book.embedder, spellings=book.spellings), {}
    for index in sorted(adds, key=lambda index: (-len(adds[index].content), adds[index].content, index)):
        add, vector = adds[index], vectors[index]
        twin = leaders.twin(add.section, add.content, gate, kept=kept, vector=vector)
        if twin and (twin.how is How.EXACT or gate.mode == "proactive"):
            leader = leaders[twin.id].number
            stage = _higher(add.stage, adds[leader].stage)
            found[index] = Decision(
                index=index, what=What.DROP, place=leader, how=twin.how, similarity=twin.similarity, stage=stage
            )
            continue
        found[index] = decisions.get(index, Decision(index=index, what=What.ADD))
        # Within this index a bullet's number is the index of its operation.
        bullet = Bullet(id=f"operation {index}", number=index, section=add.section, content=add.content)
        leaders.put([bullet], vectors={} if vector is None else {bullet.id: vector})
    return found


def _written(batch: Batch, decisions: Mapping[int, Decision], gate: Gate) -> tuple[Batch, tuple[Decision, ...]]:
    operations: list[Operation] = []
    places: dict[int, int] = {}
    tagged: set[str] = set()
    for index, operation in enumerate(batch.operations):
        decision = decisions.get(index)
        if decision is None or decision.what in (What.ADD, What.ASK):
            operations.append(operation)
            if decision is not None:
                places[index] = len(places)
        elif decision.what is What.TAG and decision.id not in tagged:
            tagged.add(decision.id)
            helpful = gate.repeat == "helpful"
            operations.append(Tag(id=decision.id, helpful=int(helpful), neutral=int(not helpful)))
    settled = tuple(_placed(decisions[index], places) for index in sorted(decisions))
    reason = _reason(batch.reason, settled)
    return msgspec.structs.replace(batch, operations=tuple(operations), reason=reason), settled


def _placed(decision: Decision, places: Mapping[int, int]) -> Decision:
    """With the place among the ids that the written batch will be given, instead of an index of an operation."""
    if decision.what is What.TAG:
        return decision
    index = decision.index if decision.place is None else decision.place
    return msgspec.structs.replace(decision, place=places[index])


def _reason(given: str, decisions: Sequence[Decision]) -> str:
    """What the log shall show about the decisions, behind what the author said, as far as it fits."""
    said = [
        f"ADD {one.index + 1} is {one.id if one.id else 'another ADD'} ({one.how} {one.similarity:.2f})"
        for one in decisions
        if one.what in (What.TAG, What.DROP)
    ]
    for many in range(len(said), 0, -1):
        more = f"; and {len(said) - many} more" if many < len(said) else ""
        reason = f"{given}{' ' if given else ''}[near-duplicates: {'; '.join(said[:many])}{more}]"
        if len(reason) <= MAX_REASON_CHARACTERS:
            return reason
    return given


# --- a book ---------------------------------------------------------------------------------------------------------


class Cluster(Struct, frozen=True, kw_only=True):
    """Bullets that are one lesson: the survivor first, each other one is near the survivor itself."""

    bullets: tuple[Bullet, ...]

    @property
    def into(self) -> Bullet:
        return self.bullets[0]


def clusters(book: BookIndex, gate: Gate | None = None, *, kept: Kept = frozenset()) -> tuple[Cluster, ...]:
    """What could be merged in this book, in the order of the survivors' numbers.

    Exact duplicates of any section, then near ones of one section (``similar.groups``: no chains). The survivor is
    pinned before unpinned, of the higher stage (so that a text that nobody may be shown yet does not take the place of
    a live one), the longer, the alphabetically first. Two pinned bullets are never merged, quarantined ones not at all,
    and one that says more than the survivor (``Gate.longer``) waits until its stage is the survivor's.
    """
    gate = gate or Gate()
    same: dict[str, list[Bullet]] = {}
    for bullets in book.same().values():
        ranked = sorted((one for one in bullets if not one.quarantined), key=_rank)
        if ranked:
            same[ranked[0].id] = [ranked[0], *(one for one in ranked[1:] if not (one.pinned and ranked[0].pinned))]
    pairs = [pair for pair in book.pairs(same, gate, kept) if _may_merge(book[pair.a], book[pair.b], gate)]
    near = groups(pairs, rank=lambda id: _rank(book[id]), apart=_apart(book, kept))
    joined = {id for group in near for id in group}
    found = [[bullet for id in group for bullet in same[id]] for group in near]
    found += [bullets for id, bullets in same.items() if id not in joined and len(bullets) > 1]
    return tuple(Cluster(bullets=tuple(each)) for each in sorted(found, key=lambda each: each[0].number))


def _rank(bullet: Bullet) -> tuple[bool, int, int, str, int]:
    return (not bullet.pinned, -_STAGES.index(bullet.stage), -len(bullet.content), bullet.content, bullet.number)


def _may_merge(first: Bullet, second: Bullet, gate: Gate) -> bool:
    survivor, other = sorted((first, second), key=_rank)
    return not (survivor.pinned and other.pinned) and not _says_more(other, survivor, gate)


def _apart(book: BookIndex, kept: Kept) -> list[tuple[str, str]]:
    """The ids whose texts somebody keeps apart."""
    if not kept:
        return []
    ids = {print_: [bullet.id for bullet in bullets] for print_, bullets in book.same().items()}
    return [(a, b) for first, second in kept for a in ids.get(first, ()) for b in ids.get(second, ())]


def refine(
    book: BookIndex,
    gate: Gate | None = None,
    *,
    kept: Kept = frozenset(),
    found: Sequence[Cluster] | None = None,
    texts: Mapping[str, str] | None = None,
    actor: str = "curator",
    key: str = "",
) -> Batch:
    """A batch that merges the book's near-duplicates; without operations (not to be written) where there are none.

    No model is needed: the survivor's text stays, its counters become the sum, by ``apply``. ``texts``: merged texts by
    the survivor's id, written by whomever for the ``found`` clusters (``clusters``) and clean already; a pinned bullet
    keeps its own. At most ``MAX_OPERATIONS`` merges: refine again for the rest. A bullet that changed meanwhile makes
    ``apply`` refuse the batch, by its revision. ``ConfigError``: a text that is blank or too long.
    """
    chosen = (clusters(book, gate, kept=kept) if found is None else tuple(found))[:MAX_OPERATIONS]
    merges = tuple(_merge(cluster, texts or {}) for cluster in chosen)
    going = sum(len(one.ids) for one in merges)
    what = "1 bullet" if going == 1 else f"{going} bullets"
    reason = f"near-duplicates: {what} merged into {'another' if len(merges) == 1 else 'others'}" if merges else ""
    return Batch(operations=merges, actor=actor, key=key, reason=reason)


def _merge(cluster: Cluster, texts: Mapping[str, str]) -> Merge:
    into = cluster.into
    content = into.content if into.pinned else texts.get(into.id, into.content)
    if not content.strip() or len(content) > MAX_CONTENT_CHARACTERS:
        raise ConfigError(
            f"The merged text for {into.id} has {len(content)} characters. "
            f"Allowed: 1 to {MAX_CONTENT_CHARACTERS}, not blank. Leave it out to keep the survivor's."
        )
    ids = tuple(bullet.id for bullet in cluster.bullets[1:])
    return Merge(into=into.id, ids=ids, content=content, revisions=tuple(one.revision for one in cluster.bullets))
