"""What the benches ask of ``ace-framework`` (Kayba), run by its own Python: ``_playbook_kayba.py WHAT OPTIONS``.

``OPTIONS`` is a JSON object; the answer is printed as JSON. What it knows: the package's public calls. What it does not
do: import anything of potstill. Stubbed: ``litellm`` (its ``embedding`` looks vectors up, so that embedding costs
nothing and is the same for all), and the package ``ace.implementations`` is entered without its ``__init__``, which
imports roles that ask models. Nothing else of it is changed.

Bullets are skills of the section ``harness`` with the text as their ``issue`` (``context`` would want it twice).
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

VECTORS: dict[str, list[float]] = {}


def _stub() -> None:
    litellm = types.ModuleType("litellm")
    vars(litellm)["embedding"] = lambda model, input: types.SimpleNamespace(
        data=[{"embedding": VECTORS[text]} for text in input]
    )
    sys.modules["litellm"] = litellm
    found = importlib.util.find_spec("ace")
    assert found is not None
    assert found.submodule_search_locations
    bare = types.ModuleType("ace.implementations")
    bare.__path__ = [str(Path(found.submodule_search_locations[0]) / "implementations")]
    sys.modules["ace.implementations"] = bare


_stub()

from ace.core.skillbook import Skillbook, UpdateBatch, UpdateOperation  # noqa: E402
from ace.deduplication.detector import SimilarityDetector  # noqa: E402
from ace.implementations.skill_rendering import render_skills_xml, retrieve_top_k  # noqa: E402
from ace.protocols.deduplication import DeduplicationConfig  # noqa: E402


def add(text: str) -> UpdateOperation:
    return UpdateOperation(type="ADD", section="harness", issue=text, keywords=["rules"])


def batch(texts: list[str]) -> UpdateBatch:
    return UpdateBatch(reasoning="", operations=[add(text) for text in texts])


def filled(texts: list[str], matrix: Any = None) -> Skillbook:
    book = Skillbook()
    for place, text in enumerate(texts):
        skill = book.add_skill("harness", text, keywords=["rules"])
        if matrix is not None:
            skill.embedding = matrix[place].tolist()
    return book


def read_texts(options: dict[str, Any]) -> list[str]:
    return json.loads((Path(options["folder"]) / "texts.json").read_text())[: options["bullets"]]


def data(options: dict[str, Any]) -> tuple[list[str], Any]:
    return read_texts(options), np.load(Path(options["folder"]) / "vectors.npy", mmap_mode="r")[: options["bullets"]]


def peak_mb() -> float:
    """Of this program's memory; the system's own count may be that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


# --- times ------------------------------------------------------------------------------------------------------------


def timed(work: Any, count: int) -> dict[str, Any]:
    wall, cpu = [], []
    for place in range(count):
        start, started = time.perf_counter(), time.process_time()
        work(place)
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - started))
    p50, p99 = np.percentile(wall, [50, 99])
    return {"p50_ms": p50, "p99_ms": p99, "cpu_p50_ms": float(np.median(cpu)), "n": count, "peak_rss_mb": peak_mb()}


def delta(options: dict[str, Any]) -> dict[str, Any]:
    """Five ADDs and a save. It does not sync the file."""
    texts, matrix = data(options)
    book = filled(texts, matrix if options["embeddings"] else None)
    path = str(Path(options["folder"]) / "theirs.json")

    def work(place: int) -> None:
        book.apply_update(batch([f"{texts[place]} {place} {part}" for part in range(5)]))
        book.save_to_file(path, exclude_embeddings=not options["embeddings"])

    return timed(work, options["count"])


def delta_in_memory(options: dict[str, Any]) -> dict[str, Any]:
    """Five ADDs, nothing kept."""
    texts = read_texts(options)
    book = filled(texts)
    return timed(
        lambda place: book.apply_update(batch([f"{texts[0]} {place} {n}" for n in range(5)])), options["count"]
    )


def pairs(options: dict[str, Any]) -> dict[str, Any]:
    texts, matrix = data(options)
    book, detector = filled(texts, matrix), SimilarityDetector(DeduplicationConfig())
    start, started = time.perf_counter(), time.process_time()
    found = detector.detect_similar_pairs(book, options["threshold"])
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - started,
        "pairs": len(found),
        "peak_rss_mb": peak_mb(),
    }


def retrieve(options: dict[str, Any]) -> dict[str, Any]:
    texts, matrix = data(options)
    book, detector = filled(texts, matrix), SimilarityDetector(DeduplicationConfig())
    asked = json.loads((Path(options["folder"]) / "queries.json").read_text())
    found = np.load(Path(options["folder"]) / "queries.npy")
    VECTORS.update({text: vector.tolist() for text, vector in zip(asked, found, strict=True)})
    return timed(lambda place: retrieve_top_k(book, asked[place], top_k=5, detector=detector), options["count"])


# --- writers ----------------------------------------------------------------------------------------------------------


GIVE_UP = 1000
"""Reads one after the other that find no book: nobody mends it any more."""


def worker(options: dict[str, Any]) -> dict[str, Any]:
    """Load, add one bullet, save; loads again where the file cannot be read at the moment."""
    torn = 0
    for number in range(options["updates"]):
        for _ in range(GIVE_UP):
            try:
                book = Skillbook.load_from_file(options["path"])
                break
            except ValueError:
                torn += 1
                time.sleep(0.001)
        else:
            return {"torn": torn, "gave_up_after": number}
        book.apply_update(batch([f"{options['name']} {number}"]))
        book.save_to_file(options["path"])
    return {"torn": torn}


def count(options: dict[str, Any]) -> dict[str, Any]:
    """What is in a file: texts, or why it cannot be read."""
    try:
        book = Skillbook.load_from_file(options["path"])
    except (ValueError, OSError) as error:
        return {"unreadable": type(error).__name__, "bytes": os.path.getsize(options["path"])}
    return {"texts": [skill.issue for skill in book.skills()]}


def start(options: dict[str, Any]) -> dict[str, Any]:
    filled(read_texts(options)).save_to_file(options["path"])
    return {}


def endless(options: dict[str, Any]) -> dict[str, Any]:
    """Deltas of five bullets that belong together, a save after each, a line when it returned; until it is killed, or
    the save fails. ``limit``: bytes that a file may have."""
    book = Skillbook.load_from_file(options["path"])
    if options.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["limit"], options["limit"]))
    number = 0
    while True:
        book.apply_update(batch([f"{options['name']} {number} {part}" for part in range(5)]))
        try:
            book.save_to_file(options["path"])
        except OSError as error:
            return {"stopped": type(error).__name__, "after": number}
        os.write(2, f"{number}\n".encode())
        number += 1


# --- forging ----------------------------------------------------------------------------------------------------------


def forge(options: dict[str, Any]) -> dict[str, Any]:
    """Both renderings of a book for each text: a skill with the text as its issue, and another one behind it."""
    texts = json.loads(Path(options["texts"]).read_text())
    books = {name: _two(text) for name, text in texts.items()}
    return {
        "prompt": {name: book.as_prompt() for name, book in books.items()},
        "xml": {name: render_skills_xml(book.skills()).rpartition("\n\n")[0] for name, book in books.items()},
        "given_id": _given_id(),
    }


def _two(text: str) -> Skillbook:
    book = Skillbook()
    for issue in (text if text.strip() else "empty", "last"):
        book.add_skill("harness", issue, keywords=["rules"])
    return book


def _given_id() -> dict[str, int]:
    """An ADD whose id a model wrote: it takes the place of another skill, and is listed twice."""
    book = _two("first")
    payload = {"type": "ADD", "section": "harness", "issue": "forged", "skill_id": "harness-00001", "keywords": ["x"]}
    book.apply_update(UpdateBatch.from_json({"reasoning": "", "operations": [payload]}))
    first = book.get_skill("harness-00001")
    taken = int(first is not None and first.issue == "forged")
    return {"overwritten": taken, "rendered": book.as_prompt().count("[harness-00001]")}


WHAT = {each.__name__: each for each in (delta, delta_in_memory, pairs, retrieve, worker, count, start, endless, forge)}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[1]](json.loads(sys.argv[2]))))
