"""Vectors and images as arrays: one ``.npz`` file without pickled objects, the same bytes for the same episodes.

What it knows: the arrays. What it does not do: merge equal decisions, split or weigh them (``distill.weights.data``);
texts (``ranking``). Everything is in memory until the file is written; each image once.

With n choices, a actions, m different images of one size, t tasks and e episodes:

    observations   (n, d) float32        where each observation's text is a JSON list of d numbers
    images         (m, height, width, 3) uint8, and image_of (n,) int64: which of them was seen (the first of a step)
    actions        (n,) int64            positions in action_names (a,)
    admissible     (n, a) bool
    log_probabilities (n, a) float32     where every choice's model said how likely each action was; -inf: not listed
    goals (t,), task_names (t,), task_of (n,) int64; episode_names (e,), episode_of (n,) int64, steps (n,) int64

Read it with ``numpy.load(FILE)``; names are arrays of Unicode.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from potstill.edge.vectors import vector_of
from potstill.errors import ConfigError, MissingExtra
from potstill.trajectories.choices import Choice, LeftOut, all_choices
from potstill.types import Answerer, Observation, Purpose, Trajectory

MAX_ACTIONS = 1000
OTHER_SHAPE = "steps whose observation is neither a list of numbers nor an image, or another one than the first step's"

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def write_arrays(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer],
    read_blob: Callable[[str], bytes] | None = None,
    left_out: Counter[str] | None = None,
) -> int:
    """Returns how many choices were written. ``read_blob`` gives the images.

    Raises ``ConfigError`` where there is no vector and no image, or more than ``MAX_ACTIONS`` actions, ``MissingExtra``
    for images without Pillow.
    """
    reasons: Counter[LeftOut] = Counter()
    table = _Table(read_blob)
    for trajectory, choice in all_choices(trajectories, answerers, only_successes=not all_outcomes, left_out=reasons):
        table.add(trajectory, choice)
    if left_out is not None:
        left_out.update(reasons)
        left_out.update({OTHER_SHAPE: table.other_shape} if table.other_shape else {})
    if not len(table):
        raise ConfigError(
            "No choice among listed actions has a vector (a JSON list of numbers as the observation's text) or an "
            "image. For text worlds type: --format ranking"
        )
    save_npz(target, table.arrays())
    return len(table)


def save_npz(target: BinaryIO, arrays: dict[str, NDArray[Any]]) -> None:
    """Like ``numpy.savez_compressed``, with the same bytes for the same arrays: no clock, no pickled objects."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open(entry, "w", force_zip64=True) as told:
                told.write(content.getbuffer())


class _Names:
    """Names in the order of their first mention."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


class _Table:
    def __init__(self, read_blob: Callable[[str], bytes] | None) -> None:
        self._read_blob = read_blob
        self._shape: tuple[int | None, tuple[int, ...] | None] | None = None
        self.other_shape = 0
        self._vectors: list[Floats] = []
        self._images: list[Bytes] = []
        self._digests, self._tasks, self._episodes, self._actions = _Names(), _Names(), _Names(), _Names()
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._lists: list[NDArray[np.int64]] = []
        self._scores: list[dict[str, float] | None] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, trajectory: Trajectory, choice: Choice) -> None:
        seen = choice.step.observation
        vector, image = vector_of(seen.text), self._image(seen)
        pixels = None if image is None else self._images[image]
        shape = (None if vector is None else len(vector), None if pixels is None else pixels.shape)
        if shape == (None, None) or shape != (self._shape or shape):
            self.other_shape += 1
            return
        self._shape = shape
        if vector is not None:
            self._vectors.append(vector)
        task = self._tasks.number((trajectory.task.id, choice.situation.goal))
        episode = self._episodes.number(trajectory.id)
        self._lists.append(np.array([self._actions.number(one) for one in choice.admissible], np.int64))
        if len(self._actions.numbers) > MAX_ACTIONS:
            raise ConfigError(
                f"There are more than {MAX_ACTIONS} different actions: they are texts, and one output for each would "
                "learn nothing. Type: --format ranking"
            )
        action = self._actions.number(choice.action)
        self._rows.append((action, task, episode, choice.step.index, -1 if image is None else image))
        self._scores.append(_scores(choice))

    def _image(self, seen: Observation) -> int | None:
        if not seen.images:
            return None
        if self._read_blob is None:
            raise ConfigError("The episodes hold images, and there is no store to read them from.")
        digest = seen.images[0].digest
        if digest not in self._digests.numbers:
            self._images.append(pixels_of(self._read_blob(digest)))
        return self._digests.number(digest)

    def arrays(self) -> dict[str, NDArray[Any]]:
        action, task, episode, step, image = np.array(self._rows, np.int64).T
        names = sorted(self._actions.numbers)
        place = np.empty(len(names), np.int64)
        for position, name in enumerate(names):
            place[self._actions.numbers[name]] = position
        admissible = np.zeros((len(self), len(names)), bool)
        for row, listed in enumerate(self._lists):
            admissible[row, place[listed]] = True
        found: dict[str, NDArray[Any]] = {}
        if self._vectors:
            found["observations"] = np.stack(self._vectors)
        if image[0] >= 0:
            used, image_of = np.unique(image, return_inverse=True)
            found |= {"images": np.stack([self._images[one] for one in used]), "image_of": image_of.astype(np.int64)}
        found |= {"actions": place[action], "action_names": np.array(names), "admissible": admissible}
        if all(score is not None for score in self._scores):
            found["log_probabilities"] = self._log_probabilities(names)
        tasks = list(self._tasks.numbers)
        return found | {
            "task_of": task,
            "task_names": np.array([name for name, _ in tasks]),
            "goals": np.array([goal for _, goal in tasks]),
            "episode_of": episode,
            "episode_names": np.array(list(self._episodes.numbers)),
            "steps": step,
        }

    def _log_probabilities(self, names: Sequence[str]) -> Floats:
        table = np.full((len(self), len(names)), -np.inf, np.float64)
        for row, scores in enumerate(self._scores):
            for column, name in enumerate(names):
                table[row, column] = (scores or {}).get(name, -np.inf)
        table -= table.max(axis=1, keepdims=True)
        return np.asarray(table - np.log(np.exp(table).sum(axis=1, keepdims=True)), np.float32)


def _scores(choice: Choice) -> dict[str, float] | None:
    """Log-probabilities of all listed actions, by the model that chose; None where it did not say them."""
    for call in reversed(choice.step.calls):
        if call.answerer is choice.step.answerer and call.purpose is Purpose.ACT and call.error is None:
            for reply in reversed(call.replies):
                scores = dict(reply.candidates)
                listed = {action: scores.get(action, np.nan) for action in choice.admissible}
                if not any(np.isnan(score) for score in listed.values()) and max(listed.values()) > -np.inf:
                    return listed
    return None


def pixels_of(content: bytes) -> Bytes:
    """An encoded image as (height, width, 3) uint8.

    Raises ``MissingExtra`` without Pillow, ``ConfigError`` for bytes that it cannot read.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("Images as arrays", "weights") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"An image of the episodes cannot be read ({error}). Leave such episodes out.") from None
