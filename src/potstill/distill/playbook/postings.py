"""Sets of numbers by slot, to be asked for those that a set is like: an inverted index that reads as little as it can.

What it knows: sorted sets of 32-bit hashes, which set holds which of them, bounds on what two sets can share. What it
does not do: texts and ids' meaning (``similar``), locks, files.

A search is exact. A set B that reaches the threshold t shares at least s = t sqrt(|A| |B|) numbers with the query A, so
it is met in the postings of any |A| - s + 1 of A's numbers, however rare these are: the rarest are read. The larger
B, the fewer are enough, so postings are kept by classes of size, and of a class only as many are read as its smallest
set asks for, and some more (``margin``): what was met c times then shares at most c and what was not read, and only
where that is enough are the sets themselves compared.

Most sets lie in one array (``_Packed``), in the order of bucket, class and slot. Sets that came since are entered into
it when they are an eighth of it; until then each bucket keeps its own.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grams = NDArray[np.uint32]
_BUCKETS = 1 << 18
_LAST = np.uint32(_BUCKETS - 1)
_CLASSES = 16
_SMALLEST = 64
"""Numbers of a set that is not of the first class any more; each class begins with 2^(1/4) times the one before."""
_FLOORS = (0, *(math.ceil(_SMALLEST * 2 ** (step / 4)) for step in range(_CLASSES - 1)))
"""The smallest size of each class."""
_FEW = 16  # sets that are all compared
_LATE = 2048  # sets that are not worth being packed
_AT_ONCE = 8192  # sets that are packed at a time: 100 MB for texts of some 150 characters
_VERIFY = 4096
_POSTINGS_A_SET = 1000  # that are read in the time in which one set is compared
_MARGIN = 16  # which part of a query is read in addition
_SLACK = 1e-6


class Postings:
    """The sets of one section. Memory: 8 bytes a number of each set, and 30 MB from some thousand sets on."""

    def __init__(self) -> None:
        self.ids: list[str | None] = []
        self._sets: list[Grams] = []
        self._roots = np.empty(64, dtype=np.float64)  # of the sets' sizes; infinite where removed
        self._classes = np.empty(64, dtype=np.uint8)
        self._packed = _Packed()
        self._late: defaultdict[int, array[int]] = defaultdict(lambda: array("I"))
        self._lengths = np.empty(0, dtype=np.int64)  # of the postings, by bucket
        self._posted = 0  # sets that are in the postings, late ones among them
        self._removed = 0

    @property
    def mostly_removed(self) -> bool:
        return self._removed > 64 and 2 * self._removed > len(self.ids)

    def add(self, id: str, found: Grams) -> int:
        slot = len(self.ids)
        if slot == len(self._roots):
            self._roots = np.concatenate([self._roots, np.empty_like(self._roots)])
            self._classes = np.concatenate([self._classes, np.empty_like(self._classes)])
        self._roots[slot] = math.sqrt(len(found)) if len(found) else math.inf
        self._classes[slot] = np.searchsorted(_FLOORS, len(found), side="right") - 1
        self.ids.append(id)
        self._sets.append(found)
        return slot

    def remove(self, slot: int) -> None:
        self.ids[slot], self._sets[slot], self._roots[slot] = None, np.empty(0, dtype=np.uint32), math.inf
        self._removed += 1

    def living(self) -> Iterator[tuple[int, str, Grams]]:
        for slot, id in enumerate(self.ids):
            if id is not None:
                yield slot, id, self._sets[slot]

    # --- entering ---------------------------------------------------------------------------------------------------

    def _post(self) -> None:
        """Enter what was added since the last search. So an index that stays small needs no postings."""
        waiting = len(self._sets) - self._packed.count
        if waiting > max(_LATE, self._packed.count // 8):
            self._pack()
        if not len(self._lengths):
            self._lengths = np.zeros(_BUCKETS, dtype=np.int64)
        for slot in range(self._posted, len(self._sets)):
            buckets = distinct(self._sets[slot] & _LAST)
            self._lengths[buckets] += 1
            for bucket in buckets.tolist():
                self._late[bucket].append(slot)
        self._posted = len(self._sets)

    def _pack(self) -> None:
        self._late.clear()
        while self._packed.count < len(self._sets):
            first = self._packed.count
            last = min(len(self._sets), first + min(_AT_ONCE, max(_LATE, first // 2)))
            self._packed.enter(self._sets[first:last], self._classes[first:last])
        self._lengths = self._packed.lengths()
        self._posted = len(self._sets)

    # --- searching --------------------------------------------------------------------------------------------------

    def near(self, query: Grams, threshold: float, before: int | None = None) -> Iterator[tuple[str, float]]:
        """Ids and similarities of whatever reaches the threshold, by slot; with ``before`` only slots below it."""
        limit = len(self.ids) if before is None else before
        if len(self.ids) <= _FEW:
            slots = np.array([slot for slot, _, found in self.living() if slot < limit and len(found)], dtype=np.int64)
        else:
            self._post()
            slots = self._candidates(query, threshold)
            slots = slots if before is None else slots[slots < limit]
        for start in range(0, len(slots), _VERIFY):
            yield from self._verified(query, threshold, slots[start : start + _VERIFY].tolist())

    def _verified(self, query: Grams, threshold: float, slots: list[int]) -> Iterator[tuple[str, float]]:
        sets = [self._sets[slot] for slot in slots]
        together = np.concatenate(sets)
        places = np.minimum(np.searchsorted(query, together), len(query) - 1)
        ends = np.cumsum([len(each) for each in sets])
        shared = np.add.reduceat(query[places] == together, np.concatenate([[0], ends[:-1]]), dtype=np.int64)
        for slot, count in zip(slots, shared.tolist(), strict=True):
            value = cosine(count, len(query), len(self._sets[slot]))
            id = self.ids[slot]
            if value >= threshold and id is not None:
                yield id, value

    def _candidates(self, query: Grams, threshold: float) -> NDArray[np.int64]:
        """Slots whose sets may share enough, in their order."""
        plan = _Plan(query, threshold, self._lengths)
        counts = np.zeros(0, dtype=np.int64)
        begun, cost, margin = np.zeros(_CLASSES, dtype=np.int64), 0, max(4, len(query) // _MARGIN)
        while True:
            read = plan.read(margin)
            rows = [*self._packed.rows(plan.buckets, begun, read), *self._late_rows(plan.buckets, begun, read)]
            if rows:
                together = np.concatenate(rows)
                met, cost = np.bincount(together, minlength=len(self.ids)), cost + len(together)
                counts = counts + met if len(counts) else met
            found = np.flatnonzero(counts >= plan.least(read))
            found = found[self._enough(plan, found, counts[found], read)]
            more = plan.read(2 * margin)
            if _POSTINGS_A_SET * len(found) < cost or np.array_equal(more, read):
                return found
            begun, margin = read, 2 * margin

    def _enough(
        self, plan: _Plan, slots: NDArray[np.int64], counts: NDArray[np.int64], read: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        of_slots = np.where(slots < self._packed.count, read[self._classes[slots]], read.max())
        shared_at_most = counts + (len(plan.buckets) - of_slots)
        enough: NDArray[np.bool_] = shared_at_most >= plan.needed * self._roots[slots] - _SLACK
        return enough

    def _late_rows(
        self, buckets: NDArray[np.int64], begun: NDArray[np.int64], read: NDArray[np.int64]
    ) -> Iterator[NDArray[np.uint32]]:
        """Of sets of any size: as many as the smallest class asks for."""
        if self._late:
            found = map(self._late.get, buckets[begun.max() : read.max()].tolist())
            yield np.frombuffer(b"".join(filter(None, found)), dtype=np.uint32)


class _Plan:
    """How many of a query's buckets have to be read for the sets of each class. Empty buckets cost nothing."""

    def __init__(self, query: Grams, threshold: float, lengths: NDArray[np.int64]) -> None:
        buckets = (query & _LAST).astype(np.int64)
        many = lengths[buckets]
        order = np.argsort(many, kind="stable")
        absent = len(query) - int(np.count_nonzero(many))
        self.buckets = buckets[order][absent:]
        """From the rarest, without those of no set."""
        self.needed = threshold * math.sqrt(len(query))
        """What a set has to share, over the root of its size."""
        smallest = self.needed * self.needed
        self._shared = self.needed * np.sqrt(np.maximum(_FLOORS, smallest))
        """What the smallest set of each class that can reach the threshold has to share."""
        ends = np.append(_FLOORS[1:], math.inf)
        possible = (ends > smallest - _SLACK) & (self._shared <= len(query) + _SLACK)
        least = len(query) - np.ceil(self._shared - _SLACK).astype(np.int64) + 1 - absent
        self._least = np.where(possible, np.maximum(least, 0), 0)

    def read(self, margin: int) -> NDArray[np.int64]:
        """By class, so many buckets and ``margin`` more; 0 of a class that no set of is near enough."""
        more = np.minimum(self._least + margin, len(self.buckets))
        return np.where(self._least > 0, more, 0)

    def least(self, read: NDArray[np.int64]) -> int:
        """How often a set that is near enough is met at least."""
        asked = self._least > 0
        fewest = self._shared[asked] - (len(self.buckets) - read[asked])
        return max(1, math.floor(fewest.min() - _SLACK)) if len(fewest) else 1


class _Packed:
    """The first ``count`` sets, as one array: for each bucket its slots by class."""

    def __init__(self) -> None:
        self.count = 0
        self._slots = np.empty(0, dtype=np.uint32)
        self._starts: NDArray[Any] = np.empty(0, dtype=np.uint32)  # in it, by bucket and class; and the end

    def enter(self, sets: list[Grams], classes: NDArray[np.uint8]) -> None:
        """The next sets. Of two numbers in one bucket a set is entered once."""
        if not len(self._starts):
            self._starts = np.zeros(_BUCKETS * _CLASSES + 1, dtype=np.uint32)
        sizes = [len(each) for each in sets]
        rows = (np.concatenate(sets) & _LAST).astype(np.uint64) * np.uint64(_CLASSES) + np.repeat(classes, sizes)
        rows <<= np.uint64(32)
        rows |= np.repeat(np.arange(self.count, self.count + len(sets), dtype=np.uint64), sizes)
        rows = distinct(rows)
        places, slots = (rows >> np.uint64(32)).astype(np.int64), rows.astype(np.uint32)
        del rows
        self._slots = _merged(self._slots, slots, self._starts[places + 1] + np.arange(len(places)))
        starts = np.cumsum(np.bincount(places, minlength=_BUCKETS * _CLASSES))
        starts += self._starts[1:]
        self._starts = np.append(0, starts).astype(np.min_scalar_type(len(self._slots)))
        self.count += len(sets)

    def lengths(self) -> NDArray[np.int64]:
        """Of the postings, by bucket."""
        ends = self._starts[::_CLASSES].astype(np.int64)
        return ends[1:] - ends[:-1]

    def rows(
        self, buckets: NDArray[np.int64], begun: NDArray[np.int64], read: NDArray[np.int64]
    ) -> Iterator[NDArray[np.uint32]]:
        """The slots in the first ``read`` buckets, without those in the first ``begun``, each by class. The larger the
        sets of a class, the fewer are read of it, so of a bucket these are neighbours."""
        if not self.count or not read.any():
            return
        ranks = np.arange(begun.min(), read.max())
        first = buckets[begun.min() : read.max()] * _CLASSES + int(np.flatnonzero(read)[0])
        starts = self._starts[first + _above(begun, ranks)].tolist()
        ends = self._starts[first + _above(read, ranks)].tolist()
        for start, end in zip(starts, ends, strict=True):
            if start < end:
                yield self._slots[start:end]


def _merged(old: Grams, new: Grams, at: NDArray[np.int64]) -> Grams:
    """Both, the new ones at these places of the whole."""
    whole, others = np.empty(len(old) + len(new), dtype=np.uint32), np.ones(len(old) + len(new), dtype=np.bool_)
    others[at] = False
    whole[others], whole[at] = old, new
    return whole


def _above(values: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the values are larger than each of the ranks."""
    return len(values) - np.searchsorted(np.sort(values), ranks, side="right")


def cosine(shared: int, first: int, second: int) -> float:
    """Of two sets of these sizes."""
    return shared / math.sqrt(first * second) if shared else 0.0


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Sorted, each once."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
