"""What ``playbook_peers.py`` asks of potstill, each function in a process of its own.

What it knows: potstill's public calls. What it does not do: make data, compare.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import _playbook_data as data
from playbook_similar import SEMANTIC, Texts
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.gate import gated
from potstill.distill.playbook.history import diff
from potstill.distill.playbook.operations import Add, Batch, Operation, Stage, Tag, Update
from potstill.distill.playbook.shortlist import Shortlist
from potstill.distill.playbook.similar_vectors import SemanticIndex, vector_pairs
from potstill.distill.playbook.twins import BookIndex, Gate
from potstill.retrieval.dense import DenseRanker
from potstill.retrieval.faiss_index import FaissIndex
from potstill.retrieval.lexical import LexicalRanker
from potstill.trajectories import Store

Row = dict[str, Any]
FILLING = 1000
EACH = 5
"""ADDs of a delta."""
INDEX = {"exact": None, "approximate": partial(FaissIndex)}


def peak_mb() -> float:
    """Of this program's memory; the system's own count may be that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def timed(work: Callable[[int], object], count: int) -> Row:
    wall, cpu = [], []
    for place in range(count):
        start, started = time.perf_counter(), time.process_time()
        work(place)
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - started))
    p50, p99 = np.percentile(wall, [50, 99])
    return {"p50_ms": p50, "p99_ms": p99, "cpu_p50_ms": float(np.median(cpu)), "n": count, "peak_rss_mb": peak_mb()}


def once(work: Callable[[], Any]) -> tuple[Any, Row]:
    start, started = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - started
    return result, {"wall_s": wall, "cpu_s": cpu, "peak_rss_mb": peak_mb()}


# --- a delta ----------------------------------------------------------------------------------------------------------


def filled(store: Store, texts: list[str], sections: int) -> Playbook:
    book = Playbook(store, "default", "bench")
    for start in range(0, len(texts), FILLING):
        some = data.adds(texts[start : start + FILLING], sections, start)
        book.apply(Batch(operations=some, actor="bench"))
    return book


def prepare(folder: str, bullets: int, sections: int) -> str:
    """A store with a book of this size, to be copied by whoever writes into it."""
    path = Path(folder) / f"filled-{sections}.db"
    if not path.exists():
        made = data.read(Path(folder), bullets)
        with Store.open(path) as store:
            filled(store, made.texts, sections)
    return str(path)


def delta(folder: str, bullets: int, count: int, gate: str, sections: int) -> Row:
    """Five ADDs, durable; with a gate also finding their twins and keeping its index up to date."""
    made, start = data.read(Path(folder), bullets), prepare(folder, bullets, sections)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = shutil.copy(start, Path(place) / "book.db")
        with Store.open(path) as store:
            return _deltas(store, made, count, gate, sections)


def _deltas(store: Store, made: data.Made, count: int, gate: str, sections: int) -> Row:
    book = Playbook(store, "default", "bench")
    batches = [
        Batch(
            operations=data.new_adds(made, range(EACH * n, EACH * n + EACH), sections),
            actor="bench",
            sources=(f"trace-{n}",),
            key=f"key-{n}",
        )
        for n in range(count)
    ]
    floor = timed(lambda _: store.bump("bench", "floor", shown=1), min(100, count))["p50_ms"]
    if gate == "none":
        return {**timed(lambda n: book.apply(batches[n]), count), "floor_p50_ms": floor}
    return {**_gated_deltas(book, made, batches, gate), "floor_p50_ms": floor}


def _gated_deltas(book: Playbook, made: data.Made, batches: list[Batch], gate: str) -> Row:
    held = book.bullets()
    vectors = {bullet.id: made.matrix[bullet.number - 1] for bullet in held.values()}
    embedder = data.LookedUp(made)

    def build() -> BookIndex:
        index = BookIndex(held.values(), embedder=embedder, approximate=INDEX[gate], vectors=vectors)
        gated(batches[-1], index)  # the first question fills what the index puts off
        return index

    index, building = once(build)
    seen, searching, kept_out = book.revision, [], 0

    def work(number: int) -> None:
        nonlocal seen, kept_out
        start = time.perf_counter()
        batch, decisions = gated(batches[number], index)
        searching.append(1e3 * (time.perf_counter() - start))
        kept_out += sum(one.what == "tag" for one in decisions)
        book.apply(batch)
        since = book.since(seen)
        seen = since.revision
        index.put(since.bullets.values())

    row = timed(work, len(batches))
    planted = sum(twin >= 0 for twin in made.twins[: EACH * len(batches)])
    return {
        **row,
        "gate_p50_ms": float(np.median(searching)),
        "kept_out": kept_out,
        "planted": planted,
        "index_built_s": building["wall_s"],
    }


# --- near-duplicates --------------------------------------------------------------------------------------------------


def pairs(folder: str, bullets: int) -> Row:
    """All pairs of vectors; ``grown_mb`` is what the search took beside the vectors."""
    made = data.read(Path(folder), bullets)
    ids, copies, before = [f"b-{n}" for n in range(bullets)], bullets // 10, peak_mb()
    found, row = once(lambda: {(pair.a, pair.b) for pair in vector_pairs(ids, made.matrix, SEMANTIC)})
    planted = {tuple(sorted((ids[place], ids[bullets - copies + place]))) for place in range(copies)}
    recall = len(found & planted) / len(planted)
    return {**row, "grown_mb": row["peak_rss_mb"] - before, "pairs": len(found), "recall_of_planted": recall}


def incremental(folder: str, bullets: int, count: int, gate: str) -> Row:
    """One bullet against all others of one section by vectors, and its own row kept."""
    made = data.read(Path(folder), bullets)
    index = SemanticIndex(data.DIMENSION, INDEX[gate])
    index.add_many([f"b-{n}" for n in range(bullets)], "rules", made.matrix)
    asked = [place for place, twin in enumerate(made.twins) if twin >= 0]
    found = [index.nearest("rules", made.new_matrix[place], SEMANTIC) for place in asked]
    right = sum(f"b-{made.twins[at]}" in [near.id for near in hits] for at, hits in zip(asked, found, strict=True))

    def work(place: int) -> None:
        row = made.new_matrix[place % len(made.new)]
        index.nearest("rules", row, SEMANTIC)
        index.add("new", "rules", row)

    work(0)
    return {**timed(work, count), "recall": right / len(asked), "recall_n": len(asked)}


def whole_twin(folder: str, bullets: int, count: int, gate: str) -> Row:
    """One bullet against all others of one section as the gate asks: by fingerprint, by letters, by vector."""
    made = data.read(Path(folder), bullets)
    held = data.bullets_of(made.texts, 1)
    vectors = {bullet.id: made.matrix[bullet.number - 1] for bullet in held}
    embedder = data.LookedUp(made)
    rule, right = Gate(), 0

    def build() -> BookIndex:
        index = BookIndex(held, embedder=embedder, approximate=INDEX[gate], vectors=vectors)
        index.twin(data.SECTIONS[0], made.new[-1], rule, vector=made.new_matrix[-1])
        return index

    index, building = once(build)

    def work(place: int) -> None:
        nonlocal right
        twin = index.twin(data.SECTIONS[0], made.new[place], rule, vector=made.new_matrix[place])
        right += twin is not None and twin.id == f"b-{made.twins[place] + 1}"

    row = timed(work, count)
    planted = sum(twin >= 0 for twin in made.twins[:count])
    return {**row, "found": right, "planted": planted, "index_built_s": building["wall_s"]}


# --- retrieval --------------------------------------------------------------------------------------------------------


def retrieve(folder: str, bullets: int, count: int, by: str) -> Row:
    made = data.read(Path(folder), bullets)
    embedder = data.LookedUp(made)
    shortlist = Shortlist(LexicalRanker if by == "words" else lambda: DenseRanker(embedder))
    shortlist.hold(data.bullets_of(made.texts, 1))
    shortlist.nearest(made.new[0], 5)  # the ranker builds its index at the first question
    return timed(lambda place: shortlist.nearest(made.new[place], 5), count)


# --- several writers --------------------------------------------------------------------------------------------------


def writer(path: str, name: str, updates: int) -> None:
    with Store.open(path) as store:
        book = Playbook(store, "default", "bench")
        for number in range(updates):
            book.apply(Batch(operations=(Add(section="rules", content=f"{name} {number}"),), actor=name))


def survivors(folder: str, processes: int, updates: int) -> Row:
    """Every process adds as many bullets as it can say; how many are there in the end."""
    path = str(Path(folder) / "shared.db")
    with Store.open(path) as store:
        Playbook(store, "default", "bench").apply(Batch(operations=(Add(section="s", content="0"),), actor="bench"))
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=writer, args=(path, f"w{n}", updates)) for n in range(processes)]
    begun = time.perf_counter()
    for child in children:
        child.start()
    for child in children:
        child.join()
    took = time.perf_counter() - begun
    with Store.open(path) as store:
        book = Playbook(store, "default", "bench")
        texts, problems = {bullet.content for bullet in book.bullets().values()}, book.check()
    wanted = {f"w{n} {number}" for n in range(processes) for number in range(updates)}
    return {"wanted": len(wanted), "survivors": len(wanted & texts), "problems": len(problems), "wall_s": took}


# --- the past ---------------------------------------------------------------------------------------------------------


ASKED = 3
"""How often each question is asked: the median counts. Another source is forgotten each time."""


def history(folder: str, operations: int, seed: int) -> list[Row]:
    """A log of so many operations, ten a batch (three ADDs, six TAGs, one UPDATE) and ten batches a source."""
    with tempfile.TemporaryDirectory(dir=folder) as place, Store.open(Path(place) / "book.db") as store:
        book = Playbook(store, "default", "bench")
        sources = _written(book, operations, seed)
        revision = book.revision
        questions: dict[str, Callable[[int], Row]] = {
            "as-of, the middle of the log": lambda _: {"bullets_then": len(book.as_of(revision // 2))},
            "as-of, the last but one": lambda _: {"bullets_then": len(book.as_of(revision - 1))},
            "diff, the middle of the log against now": lambda _: {
                "changes": len(diff(book.as_of(revision // 2), book.bullets()))
            },
            "diff, ten batches ago against now": lambda _: {
                "changes": len(diff(book.as_of(revision - 10), book.bullets()))
            },
            "forget a source, with the scan that proves it": lambda n: _forgotten(book, f"trace-{sources // 2 + n}"),
        }
        rows = [
            {"what": what, "operations": operations, "revisions": revision, **_asked(question)}
            for what, question in questions.items()
        ]
        if problems := book.check():
            raise SystemExit(f"The book is not what its log says: {problems[:3]}")
        return rows


def _asked(question: Callable[[int], Row]) -> Row:
    found = [once(partial(question, number)) for number in range(ASKED)]
    median = {key: float(np.median([row[key] for _, row in found])) for key in ("wall_s", "cpu_s")}
    return {**found[-1][0], **median, "n": ASKED, "peak_rss_mb": found[-1][1]["peak_rss_mb"]}


def _forgotten(book: Playbook, source: str) -> Row:
    forgotten, traces = book.forget_source(source, actor="bench")
    kinds = Counter(trace.kind.value for trace in traces)
    left = {"traces": kinds["text"] + kinds["source"], "pieces_in_others_texts": kinds["fragment"]}
    return {"texts": len(forgotten.texts), "rows": len(forgotten.erased), **left}


def _written(book: Playbook, operations: int, seed: int) -> int:
    rng, texts, revisions, bullets = random.Random(seed), Texts(seed), dict[str, int](), 0
    for number in range(operations // 10):
        made: list[Operation] = [Add(section="rules", content=texts.fresh(), stage=Stage.LIVE) for _ in range(3)]
        if bullets:
            made += [Tag(id=f"b-{rng.randint(1, bullets)}", helpful=1) for _ in range(6)]
            id = f"b-{rng.randint(1, bullets)}"
            revisions[id] = revisions.get(id, 0) + 1
            made.append(Update(id=id, content=texts.fresh(), revision=revisions[id]))
        book.apply(
            Batch(operations=tuple(made), actor="curator", sources=(f"trace-{number // 10}",), key=f"key-{number}")
        )
        bullets += 3
    return operations // 100
