"""A process that writes into a playbook until it is killed or done, and prints what was acknowledged when it was.

``python playbook_child.py lessons STORE NAME COUNT``: a line for each batch, its number and what was applied.
``python playbook_child.py count STORE NAME COUNT``: counts up in the text of ``b-1`` by compare-and-set.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from playbook_workers import counting, encoded, lessons

from potstill.distill.playbook.book import Playbook
from potstill.trajectories.opening import open_store


def write(book: Playbook, name: str, count: int) -> None:
    """Two threads, so that the writer commits in groups."""

    def work(thread: int) -> None:
        for number in range(count):
            applied = book.apply(lessons(f"{name}{thread}", number))
            os.write(1, f"{name}{thread} {number} {encoded(applied)}\n".encode())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    verb, path, name, count = sys.argv[1:]
    with open_store(path) as store:
        {"lessons": write, "count": counting}[verb](Playbook(store, "default", "book"), name, int(count))
