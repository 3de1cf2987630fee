"""Books to measure on: texts, vectors and what is asked of them, made once in a folder and the same for both sides.

What it knows: a tenth of a book are near-duplicates of others in it (a cosine of about .96, three letters changed), and
every fifth new bullet is one of a bullet in the book. What it does not do: measure.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from playbook_similar import DIMENSION, Texts, twins_of, vectors
from potstill.distill.playbook.operations import Add, Bullet, Stage

SECTIONS = ("rules", "formulas", "code_snippets", "common_mistakes", "others")
Matrix = np.ndarray[Any, np.dtype[np.float32]]


class Made(NamedTuple):
    """What lies in the folder."""

    texts: list[str]
    matrix: Matrix
    """Of the texts, row by row, of length 1."""
    new: list[str]
    new_matrix: Matrix
    twins: list[int]
    """For each new text the place of its twin in ``texts``; -1: it has none."""


def make(folder: Path, bullets: int, new: int, seed: int) -> None:
    rng, texts = random.Random(seed), Texts(seed)
    copies = bullets // 10
    book = [texts.fresh() for _ in range(bullets - copies)]
    book += [texts.copy(text) for text in book[:copies]]
    matrix = vectors(bullets + new, seed)
    matrix[bullets - copies : bullets] = twins_of(matrix[:copies], seed + 1)
    twins = [rng.randrange(copies, bullets - copies) if place % 5 == 0 else -1 for place in range(new)]
    fresh = [texts.fresh() if twin < 0 else texts.copy(book[twin]) for twin in twins]
    near = twins_of(matrix[[max(0, twin) for twin in twins]], seed + 2)
    rows = np.where(np.array(twins)[:, None] >= 0, near, matrix[bullets:]).astype(np.float32)
    np.save(folder / "vectors.npy", matrix[:bullets])
    np.save(folder / "new.npy", rows)
    (folder / "texts.json").write_text(json.dumps(book))
    (folder / "new.json").write_text(json.dumps({"texts": fresh, "twins": twins}))


def read(folder: Path, bullets: int) -> Made:
    texts = json.loads((folder / "texts.json").read_text())[:bullets]
    new = json.loads((folder / "new.json").read_text())
    matrix = np.load(folder / "vectors.npy")[:bullets]
    return Made(texts, matrix, new["texts"], np.load(folder / "new.npy"), new["twins"])


def section(place: int, sections: int) -> str:
    return SECTIONS[place % sections]


def adds(texts: Sequence[str], sections: int, first: int = 0) -> tuple[Add, ...]:
    return tuple(
        Add(section=section(place, sections), content=text, stage=Stage.LIVE)
        for place, text in enumerate(texts, start=first)
    )


def new_adds(made: Made, places: Iterable[int], sections: int) -> tuple[Add, ...]:
    """New bullets, each in the section of its twin."""
    homes = {place: made.twins[place] if made.twins[place] >= 0 else place for place in places}
    return tuple(
        Add(section=section(home, sections), content=made.new[place], stage=Stage.LIVE) for place, home in homes.items()
    )


def bullets_of(texts: Sequence[str], sections: int) -> list[Bullet]:
    return [
        Bullet(id=f"b-{n}", number=n, section=section(n - 1, sections), content=text)
        for n, text in enumerate(texts, start=1)
    ]


class LookedUp:
    """A ``protocols.Embedder`` that has every vector already: embedding costs nothing on either side."""

    name = "looked up"
    dimension = DIMENSION

    def __init__(self, made: Made) -> None:
        self._rows = dict(zip(made.texts, made.matrix, strict=True)) | dict(zip(made.new, made.new_matrix, strict=True))

    def embed(self, texts: Sequence[str]) -> Matrix:
        return np.stack([self._rows[text] for text in texts])
