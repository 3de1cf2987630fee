"""Playbooks side by side: potstill and ``ace-framework`` (PyPI) on the same texts and vectors, each in its own process.

What is timed: a delta of five ADDs made durable, with and without the near-duplicate gate; all pairs of a book's
vectors; one new bullet against a book; the top five for a task; several processes that write into one book; the past
of a log. Vectors have 384 dimensions, lie round 500 centres, a tenth of a book are near-duplicates of others in it (a
cosine of about .96); thresholds are .90 for vectors and .80 for letters. Embedding costs nothing on either side.
``sections``: bullets are compared within a section; 1 is the worst case. One thread of linear algebra. Milliseconds
are wall time; ``cpu_p50_ms`` is the processor time of all threads, ``floor_p50_ms`` the smallest durable write of the
same store on the same disk.

``traces`` are whole texts of a forgotten source, or its id, that a scan of all rows still finds; 40 characters that
another source's text has in common with it (these texts are drawn from few words) are ``pieces_in_others_texts``.

Theirs: ``save`` writes the whole file and does not sync it; ``all pairs`` is measured at ``--peer-pairs`` bullets and,
for larger books, extrapolated by the number of pairs (``extrapolated``); its writers have fewer updates each
(``--peer-updates``), as each one loads and saves the file, and give up where a thousand reads in a row find no book. It
has no history, no forgetting and no gate at write time.
ace-agent/ace, the authors' release, is in no package registry and was not run: what an earlier run of its code took
(CPU, two cores) stands in rows with ``reported_before``.

    python bench/playbook_peers.py --venvs FOLDER [--sizes 1000 10000 100000] [--parts delta pairs ...]

``FOLDER`` keeps the peer's virtual environment. ``--merge`` keeps the rows of parts that are not run again; each row
names its commit. ``load_1m`` is the machine's load when a row was done: above two, others were at work, and processor
time says more than wall time. So a target is ``met`` in wall time, or ``met_in_cpu`` in processor time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import _playbook_data as data
import _playbook_ours as ours
import _playbook_peer as peer
import _results
from playbook_similar import SEMANTIC

OURS, RELEASE = "potstill", "ace-agent/ace"
NEW = 2000
"""New bullets that lie ready."""
REPEATS = 5
SEED = 0
Row = dict[str, Any]


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that memory and caches are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path, python: Path) -> None:
        self.options, self.folder, self.python = options, folder, python

    def of(self, size: int) -> str:
        """The folder of a book of this size, made where it is not there."""
        place = self.folder / str(size)
        if not place.exists():
            place.mkdir()
            alone(data.make, place, size, NEW, SEED)
        return str(place)

    def ask(self, what: str, size: int, **more: Any) -> Row:
        return peer.ask(self.python, what, folder=self.of(size), bullets=size, **more)

    # --- parts ------------------------------------------------------------------------------------------------------

    def delta(self) -> Iterator[Row]:
        targets = {"none": 2, "exact": 50, "approximate": 15}
        for size in self.options.sizes:
            for gate, sections in (("none", 1), ("exact", 1), ("approximate", 1), ("exact", 5), ("approximate", 5)):
                row = alone(ours.delta, self.of(size), size, self.options.count, gate, sections)
                target = targets[gate] if size == 100_000 else None
                yield _row("5 ADDs, durable", OURS, size, row, target, gate=gate, sections=sections)
            for embeddings in (False, True):
                if size * (10 if embeddings else 1) <= self.options.peer_saves:
                    row = self.ask("delta", size, count=max(3, min(20, 20_000 // size)), embeddings=embeddings)
                    yield _row("5 ADDs and a save", peer.LIBRARY, size, row, embeddings_saved=embeddings)
            row = self.ask("delta_in_memory", size, count=100)
            yield _row("5 ADDs, kept nowhere", peer.LIBRARY, size, row)
        for size, took in ((1000, 3.3), (10_000, 36.0), (100_000, 428.0)):
            yield _row("5 ADDs, kept nowhere", RELEASE, size, {"cpu_p50_ms": took}, reported_before=True)

    def pairs(self) -> Iterator[Row]:
        for size in self.options.sizes:
            target = {10_000: 2, 100_000: 180}.get(size)
            yield _row("all pairs", OURS, size, alone(ours.pairs, self.of(size), size), target, "wall_s")
        size = self.options.peer_pairs
        measured = self.ask("pairs", size, threshold=SEMANTIC)
        yield _row("all pairs", peer.LIBRARY, size, measured)
        for larger in (one for one in self.options.sizes if one > size):
            times = larger * (larger - 1) / (size * (size - 1))
            row = {key: measured[key] * times for key in ("wall_s", "cpu_s")}
            yield _row("all pairs", peer.LIBRARY, larger, row, extrapolated=True)
        for size, took in ((1000, 0.18), (10_000, 21.1)):
            yield _row("all pairs", RELEASE, size, {"cpu_s": took}, reported_before=True)

    def incremental(self) -> Iterator[Row]:
        for size in self.options.sizes:
            for gate, most in (("exact", 25), ("approximate", 5)):
                target = most if size == 100_000 else None
                row = alone(ours.incremental, self.of(size), size, self.options.count, gate)
                yield _row("one bullet, vectors", OURS, size, row, target, gate=gate)
                row = alone(ours.whole_twin, self.of(size), size, self.options.count, gate)
                yield _row("one bullet, letters and vectors", OURS, size, row, target, gate=gate)

    def retrieve(self) -> Iterator[Row]:
        for size in (one for one in self.options.sizes if one <= 10_000):
            target = 5 if size == 10_000 else None
            for by in ("words", "vectors"):
                row = alone(ours.retrieve, self.of(size), size, self.options.count, by)
                yield _row("top 5", OURS, size, row, target, by=by)
            made = data.read(Path(self.of(size)), size)
            count = max(5, 20_000 // size)
            (Path(self.of(size)) / "queries.json").write_text(json.dumps(made.new[:count]))
            data.np.save(Path(self.of(size)) / "queries.npy", made.new_matrix[:count])
            row = self.ask("retrieve", size, count=count)
            yield _row("top 5", peer.LIBRARY, size, row, by="words and vectors")

    def processes(self) -> Iterator[Row]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            row = ours.survivors(folder, self.options.processes, self.options.updates)
            yield _row("processes", OURS, 0, row, processes=self.options.processes)
            (Path(folder) / "texts.json").write_text(json.dumps(["first"]))
            for writers, updates in ((2, 50), (self.options.processes, self.options.peer_updates)):
                for _ in range(REPEATS):  # what is left depends on when they met
                    row = self._theirs(Path(folder), writers, updates)
                    yield _row("processes", peer.LIBRARY, 0, row, processes=writers)

    def _theirs(self, folder: Path, writers: int, updates: int) -> Row:
        path = folder / "shared.json"
        peer.ask(self.python, "start", folder=folder, bullets=1, path=path)
        begun = time.perf_counter()
        commands = [
            peer.command(self.python, "worker", path=path, name=f"w{n}", updates=updates) for n in range(writers)
        ]
        children = [subprocess.Popen(one, stdout=subprocess.PIPE, env=peer.surroundings()) for one in commands]
        said = [json.loads(child.communicate()[0] or b'{"torn": 0, "gave_up_after": 0}') for child in children]
        took = time.perf_counter() - begun
        wanted = {f"w{n} {number}" for n in range(writers) for number in range(updates)}
        left = peer.ask(self.python, "count", path=path)
        return {
            "wanted": len(wanted),
            "survivors": len(wanted & set(left.get("texts", ()))),
            "unreadable_for_good": "texts" not in left,
            "torn_reads": sum(one["torn"] for one in said),
            "gave_up": sum("gave_up_after" in one for one in said),
            "wall_s": took,
        }

    def history(self) -> Iterator[Row]:
        for row in alone(ours.history, str(self.folder), self.options.operations, SEED):
            yield _row(row["what"], OURS, 0, row, 1 if self.options.operations == 100_000 else None, "wall_s")


def _row(
    what: str,
    library: str,
    bullets: int,
    measured: Row,
    target: float | None = None,
    of: str = "p50_ms",
    **more: Any,
) -> Row:
    measured = {key: value for key, value in measured.items() if key != "what"}
    row: Row = {"what": what, "library": library, **({"bullets": bullets} if bullets else {}), **more, **measured}
    if target is not None:
        cpu = "cpu_s" if of == "wall_s" else "cpu_p50_ms"
        row |= {"target": target, "met": bool(row[of] < target), "met_in_cpu": bool(row[cpu] < target)}
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


PARTS = ("delta", "pairs", "incremental", "retrieve", "processes", "history")


def before(parts: list[str]) -> list[Row]:
    """Rows of the last result file that are of other parts."""
    path = _results.RESULTS / "playbook_peers.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if row["part"] not in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "potstill-bench", help="the peer's home")
    parser.add_argument("--python", help="to make it with: 3.12 or newer")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="bullets of a book")
    parser.add_argument("--count", type=int, default=200, help="deltas, bullets and questions that are timed")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--updates", type=int, default=500, help="of each process")
    parser.add_argument("--operations", type=int, default=100_000, help="of the log whose past is asked for")
    parser.add_argument("--peer-updates", type=int, default=100, help="of each of the peer's processes")
    parser.add_argument("--peer-pairs", type=int, default=1000, help="bullets whose pairs the peer compares")
    parser.add_argument("--peer-saves", type=int, default=100_000, help="bullets that it saves; ten times as many each")
    parser.add_argument("--merge", action="store_true", help="keep the last result's rows of other parts")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    options.venvs.mkdir(parents=True, exist_ok=True)
    python = peer.environment(options.venvs, options.python)
    os.environ.update(peer.ONE_THREAD)
    rows, commit = before(options.parts) if options.merge else [], _results.commit()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder), python)
        for part in options.parts:
            for row in getattr(bench, part)():
                rows.append({"part": part, **row, "load_1m": round(os.getloadavg()[0], 1), "of_commit": commit})
                print(rows[-1], file=sys.stderr)
    if not options.dry_run:
        extra = {"versions": {"ace-framework": peer.VERSION}, "dimension": data.DIMENSION, "threads": 1}
        _results.write("playbook_peers", rows, n=options.count, seeds=[SEED], extra=extra)


if __name__ == "__main__":
    main()
