"""A process that writes to a store until it is killed, and prints what was acknowledged the moment it was.

``python writing_child.py STORE NAME COUNT``; a line is ``A id`` (appended) or ``R id`` (removed).
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from potstill.trajectories import Store


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main(path: str, name: str, count: int) -> None:
    from trajectory_fakes import episode

    store = Store.open(path)

    def work(thread: int) -> None:
        for i in range(count):
            id = f"{name}-{thread}-{i}"
            store.append(episode(id, steps=1 + i % 4, words=name))
            say(f"A {id}")
            if i % 5 == 4:
                victim = f"{name}-{thread}-{i - 2}"
                say(f"T {victim}")
                store.remove([victim])
                say(f"R {victim}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
