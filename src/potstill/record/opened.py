"""What open episodes have left behind: the hashes by which their next call is found.

What it knows: which hashes lead to which episodes, and how one call changes that. What it does not do: choose the
episode of a call (``stitch``), time, limits on how many are open.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple, Protocol

from potstill.logs.records import LogCall

_HASHES = 48
_OWNERS = 256
"""Episodes that one hash leads to: thousands may begin alike, the newest of them can still go on."""
_TIPS = 16
_LATEST = 3


class Book:
    """The hashes that the open episodes of one run have left, and those episodes."""

    __slots__ = ("owners", "roots", "run")

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.owners: dict[int, list[Open]] = {}
        self.roots: dict[int, list[Open]] = {}


class Open:
    """An episode that may go on."""

    __slots__ = (
        "book",
        "ended_at",
        "failed",
        "first",
        "hashes",
        "key",
        "last_at",
        "latest",
        "length",
        "prompt",
        "root",
        "said",
        "seen",
        "tips",
        "tools",
        "unheard",
    )

    def __init__(self, key: str, book: Book, first: int, root: int) -> None:
        self.key, self.book, self.first, self.root = key, book, first, root
        self.hashes = array("Q")
        self.tips: dict[int, int] = {}
        """Answers that no call has continued yet: hash of the conversation with the answer -> hash of its prompt."""
        self.unheard: list[tuple[int, Deferred]] = []
        """Answers that were not read yet, with the hashes of their prompts."""
        self.prompt = 0
        self.length = 0
        self.latest: tuple[int, ...] = ()
        """What the last messages of its last prompt said."""
        self.said = 0
        self.tools = 0
        self.failed = False
        self.seen = 0.0
        """The stitcher's clock at its last call."""
        self.last_at: float | None = None
        self.ended_at: float | None = None


# --- what a call leaves behind ----------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What an answer says about the next call."""

    after: int | None
    """Hash of the conversation with the answer behind the prompt."""
    characters: int = 0
    tools: int = 0
    """How many tools it calls."""
    failed: bool = False
    ended_at: float | None = None
    """Unix seconds."""


class Deferred(Protocol):
    """An answer that is read only if it decides where a call belongs: reading a long stream costs more than placing."""

    def hear(self) -> Sequence[Told]:
        """One for each sample; asked at most once."""

    def drop(self) -> None:
        """It will not be asked."""


def sent(episode: Open, call: LogCall) -> None:
    """Note what the call's prompt says about the episode's next call."""
    prompt = call.prefixes[-1]
    claim(episode, call)
    if prompt != episode.prompt:
        remember(episode, (prompt,))
    episode.prompt = prompt
    episode.length = len(call.prefixes)
    episode.latest = call.contents[-_LATEST:]
    episode.said = episode.tools = 0
    episode.failed = False
    episode.ended_at = call.started_at


def heard(episode: Open, prompt: int, told: Told) -> None:
    """Note an answer to the prompt with this hash."""
    if told.after is not None:
        episode.tips[told.after] = prompt
        remember(episode, (told.after,))
        if len(episode.tips) > _TIPS:
            del episode.tips[next(iter(episode.tips))]
    if prompt == episode.prompt:
        episode.said, episode.tools = told.characters, told.tools
        episode.failed, episode.ended_at = told.failed, told.ended_at


def defer(episode: Open, prompt: int, answer: Deferred) -> None:
    """Keep an answer unread; the oldest beyond the limit is dropped."""
    episode.unheard.append((prompt, answer))
    if len(episode.unheard) > _TIPS:
        episode.unheard.pop(0)[1].drop()


def hear(episode: Open, prompts: Container[int]) -> None:
    """Read the deferred answers to these prompts."""
    if episode.unheard:
        waiting, episode.unheard = episode.unheard, []
        for prompt, answer in waiting:
            if prompt in prompts:
                for told in answer.hear():
                    heard(episode, prompt, told)
            else:
                episode.unheard.append((prompt, answer))


def silence(episode: Open, prompts: Container[int] | None = None) -> None:
    """Drop the deferred answers to these prompts, or all."""
    if episode.unheard:
        waiting, episode.unheard = episode.unheard, []
        for prompt, answer in waiting:
            if prompts is None or prompt in prompts:
                answer.drop()
            else:
                episode.unheard.append((prompt, answer))


def claim(episode: Open, call: LogCall) -> None:
    """The answers to the step that this call goes on from are continued: samples that were not taken among them."""
    tips = episode.tips
    if tips:
        continued = {tips[hashed] for hashed in call.prefixes if hashed in tips}
        if continued:
            episode.tips = {tip: prompt for tip, prompt in tips.items() if prompt not in continued}


def remember(episode: Open, hashes: Iterable[int]) -> None:
    for hashed in hashes:
        if enter(episode.book.owners, hashed, episode):
            episode.hashes.append(hashed)
    if len(episode.hashes) > _HASHES:
        leave(episode.book.owners, episode.hashes.pop(0), episode)


def enter(book: dict[int, list[Open]], hashed: int, episode: Open) -> bool:
    """True if the episode is new there."""
    owners = book.get(hashed)
    if owners is None:
        book[hashed] = [episode]
    elif episode in owners:
        return False
    else:
        owners.append(episode)
        if len(owners) > _OWNERS:
            del owners[0]
    return True


def leave(book: dict[int, list[Open]], hashed: int, episode: Open) -> None:
    owners = book.get(hashed)
    if owners is not None and episode in owners:
        owners.remove(episode)
        if not owners:
            del book[hashed]
