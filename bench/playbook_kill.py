"""What is left of a playbook whose writer is killed in the middle of its writes, or finds the disk full: both sides.

A child applies deltas of five bullets that belong together, as fast as it can, and says each time that one was
acknowledged. It is killed with SIGKILL at a random moment of the first ``--window`` seconds of that; or no file may
grow beyond a random limit (RLIMIT_FSIZE). Then the book is opened and looked through:

- ``unreadable``: it cannot be opened or loaded;
- ``half_applied``: of a delta there are some bullets and not all;
- ``lost_rounds``: something that was acknowledged is not there (an unreadable book has lost everything).

For potstill the log is replayed too (``check``), and it goes on in the same store, so that a later round finds what an
earlier one broke. ``ace-framework`` starts each round with the same file of ``--bullets`` bullets; it saves without
syncing, and is killed here, not cut off from its power, which would be harder on it.

    python bench/playbook_kill.py --venvs FOLDER [--rounds 40] [--disks 20]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import _playbook_peer as peer
import _results
from playbook_similar import Texts
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch
from potstill.errors import StoreError
from potstill.trajectories import Store

OURS = "potstill"
PARTS = 5
SEED = 5
Row = dict[str, Any]


def five(name: str, number: int) -> Batch:
    adds = tuple(Add(section="rules", content=f"{name} {number} {part}") for part in range(PARTS))
    return Batch(operations=adds, actor="bench", sources=(f"trace-{number}",), key=f"{name}-{number}")


def child(path: str, name: str, limit: int) -> None:
    """Write until killed, or until the store says that it cannot."""
    with Store.open(path) as store:
        book = Playbook(store, "default", "bench")
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        number = 0
        while True:
            try:
                book.apply(five(name, number))
            except StoreError as error:
                print(json.dumps({"stopped": type(error).__name__, "after": number}))
                os._exit(0)  # closing would try to write again
            os.write(2, f"{number}\n".encode())
            number += 1


# --- one round --------------------------------------------------------------------------------------------------------


def killed(command: Sequence[str], environment: Any, rng: random.Random, window: float) -> int:
    """Start a child, kill it at a random moment after its first acknowledgement; how many it was given."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    assert process.stderr is not None
    first = process.stderr.readline()
    if not first.strip().isdigit():
        raise RuntimeError((first + process.stderr.read()).decode())
    time.sleep(rng.uniform(0, window))
    process.send_signal(signal.SIGKILL)
    rest = process.stderr.read()
    process.wait()
    return (first + rest).count(b"\n")


def stopped(command: Sequence[str], environment: Any) -> tuple[int, str]:
    """Run a child until it stops by itself: acknowledgements, and the error that stopped it."""
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return done.stderr.count(b"\n"), json.loads(done.stdout)["stopped"]


def judged(texts: Iterable[str], acknowledged: dict[str, int]) -> Row:
    """What of the deltas of these writers is there: by halves, or not at all though it was acknowledged."""
    held: dict[tuple[str, int], int] = {}
    for text in texts:
        name, number, _ = text.rsplit(" ", 2)
        if name in acknowledged:
            held[name, int(number)] = held.get((name, int(number)), 0) + 1
    told = {(name, number) for name, count in acknowledged.items() for number in range(count)}
    return {"half_applied": sum(count != PARTS for count in held.values()), "lost": len(told - held.keys())}


# --- both sides -------------------------------------------------------------------------------------------------------


class Ours:
    library = OURS

    def __init__(self, folder: Path, bullets: int) -> None:
        self.path, self.told = folder / "ours.db", dict[str, int]()
        self._fill(bullets)

    def _fill(self, bullets: int) -> None:
        texts = Texts(SEED)
        with Store.open(self.path) as store:
            adds = tuple(Add(section="rules", content=f"{texts.fresh()} - -") for _ in range(bullets))
            Playbook(store, "default", "bench").apply(Batch(operations=adds, actor="bench"))

    def command(self, name: str, limit: int = 0) -> list[str]:
        return [sys.executable, __file__, "--child", str(self.path), name, str(limit)]

    environment = None

    def limit(self, more: int) -> int:
        return max(self.path.stat().st_size, _size(Path(f"{self.path}-wal"))) + more

    def found(self, name: str, acknowledged: int) -> Row:
        self.told[name] = acknowledged
        try:
            with Store.open(self.path) as store:
                book = Playbook(store, "default", "bench")
                if store.check() or book.check():
                    return {"unreadable": 1, "half_applied": 0, "lost": acknowledged}
                texts = [bullet.content for bullet in book.bullets().values()]
        except StoreError:
            return {"unreadable": 1, "half_applied": 0, "lost": acknowledged}
        return {"unreadable": 0, **judged(texts, self.told)}


class Theirs:
    library = peer.LIBRARY

    def __init__(self, folder: Path, bullets: int, python: Path) -> None:
        self.path, self.python = folder / "theirs.json", python
        self.environment = peer.surroundings()
        texts = Texts(SEED)
        (folder / "texts.json").write_text(json.dumps([f"{texts.fresh()} - -" for _ in range(bullets)]))
        self._start = {"folder": folder, "bullets": bullets, "path": self.path}

    def command(self, name: str, limit: int = 0) -> list[str]:
        peer.ask(self.python, "start", **self._start)
        return peer.command(self.python, "endless", path=self.path, name=name, limit=limit)

    def limit(self, more: int) -> int:
        peer.ask(self.python, "start", **self._start)
        return self.path.stat().st_size + more

    def found(self, name: str, acknowledged: int) -> Row:
        held = peer.ask(self.python, "count", path=self.path)
        if "texts" not in held:
            return {"unreadable": 1, "half_applied": 0, "lost": acknowledged}
        return {"unreadable": 0, **judged(held["texts"], {name: acknowledged})}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kills(side: Ours | Theirs, rounds: int, window: float) -> Row:
    rng, found = random.Random(SEED), []
    for round in range(rounds):
        acknowledged = killed(side.command(name := f"kill{round}"), side.environment, rng, window)
        found.append({"acknowledged": acknowledged, **side.found(name, acknowledged)})
    return summed(side.library, "SIGKILL", found)


def full_disks(side: Ours | Theirs, disks: int) -> Row:
    rng, found, errors = random.Random(SEED), [], set[str]()
    for round in range(disks):
        limit = side.limit(rng.randint(2_000, 200_000))
        acknowledged, error = stopped(side.command(name := f"full{round}", limit), side.environment)
        errors.add(error)
        found.append({"acknowledged": acknowledged, **side.found(name, acknowledged)})
    return {**summed(side.library, "full disk", found), "said": sorted(errors)}


def summed(library: str, what: str, rounds: Sequence[Row]) -> Row:
    row = {
        "what": what,
        "library": library,
        "rounds": len(rounds),
        "unreadable": sum(one["unreadable"] for one in rounds),
        "half_applied": sum(one["half_applied"] > 0 for one in rounds),
        "lost_rounds": sum(one["lost"] > 0 for one in rounds),
        "acknowledged": sum(one["acknowledged"] for one in rounds),
    }
    print(row, file=sys.stderr)
    return row


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "potstill-bench", help="the peer's home")
    parser.add_argument("--python", help="to make it with: 3.12 or newer")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--window", type=float, default=0.3)
    parser.add_argument("--bullets", type=int, default=1000)
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    options.venvs.mkdir(parents=True, exist_ok=True)
    python = peer.environment(options.venvs, options.python)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in (Ours(Path(folder), options.bullets), Theirs(Path(folder), options.bullets, python)):
            rows.append(kills(side, options.rounds, options.window))
            rows.append(full_disks(side, options.disks))
    if not options.dry_run:
        extra = {"bullets": options.bullets, "window_s": options.window, "versions": {"ace-framework": peer.VERSION}}
        _results.write("playbook_kill", rows, n=options.rounds, seeds=[SEED], extra=extra)


if __name__ == "__main__":
    main()
