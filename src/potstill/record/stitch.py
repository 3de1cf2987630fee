"""Put single calls together into episodes, online: which episode does this call belong to?

What it knows: the hashes of conversations that calls carry (``LogCall.prefixes``, ``after``), which of them open
episodes have left behind, and when. What it does not do: read logs, price, or keep texts.

How a call is placed, the first rule that fits (``Placed`` counts them):

1. ``BY_ID``: the log names the episode (within its run).
2. ``BY_ANSWER``: the prompt starts with an earlier call's prompt and answer, the longest such beginning. Episodes that
   are equal so far are told apart by what follows; where nothing differs, each answer is continued once, the oldest
   first (of those active in the last ten minutes), by calls that start after it was given.
3. ``REPEAT``: the same prompt again in the middle of an episode (a retry, another sample, a second model), or the same
   first prompt within ``retry_s`` of one that failed. Otherwise the same first prompt again is a new episode, also
   where a second model is asked: a benchmark that runs twice looks just so.
4. ``BY_PREFIX``: the prompt starts with an earlier prompt, but the answer was changed by the client when it was put
   back, or the conversation was edited or branched further up.
5. ``BY_ROOT``: only the instructions and the first user message are the same, and the prompt is no beginning: an open
   episode whose context was truncated or compacted. One whose last message is still in the prompt wins, else the
   nearest in time among those that were at least as long.
6. ``ADOPTED``: a call that goes on from an answer, of an episode that another process knows (only where one is asked).
7. ``NEW``; ``ALONE`` where the log holds no prompt. Sub-agents with instructions of their own are episodes.

Memory: what is idle is forgotten, so an agent that sleeps longer becomes two episodes. Open episodes that were put
together close after ``idle_s`` without a call; these and the named ones also when more than ``max_episodes`` of a kind
are open (the idlest first). Each keeps at most ``_HASHES`` hashes, about 100 bytes each.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from potstill.logs.records import LogCall
from potstill.record.opened import (
    Book,
    Deferred,
    Open,
    Told,
    defer,
    enter,
    hear,
    heard,
    leave,
    remember,
    sent,
    silence,
)

_STEPS_BACK = 3
_ACTIVE_S = 600.0
_ALIKE = 0.2


class Placed(StrEnum):
    """Why a call was put into its episode."""

    BY_ID = "by-id"
    BY_ANSWER = "by-answer"
    BY_PREFIX = "by-prefix"
    BY_ROOT = "by-root"
    REPEAT = "repeat"
    NEW = "new"
    ALONE = "alone"
    ADOPTED = "adopted"


_UNSURE = {Placed.NEW, Placed.BY_ROOT}


class Seat(NamedTuple):
    """Where a call was placed, and what ``note`` needs once its answer is there."""

    key: str
    placed: Placed
    episode: Open | None = None
    prompt: int = 0
    """Hash of the call's whole prompt."""


def told(call: LogCall) -> Told:
    """What a finished call says of its answer."""
    at = call.started_at
    ended_at = at if at is None or call.latency_s is None else at + call.latency_s
    return Told(call.after, call.answer_characters, len(call.tool_calls), call.error is not None, ended_at)


class Stitcher:
    """Finds the episode of each call. Calls come in the order of the log, which is nearly that of time.

    ``idle_s``: seconds without a call after which an episode is closed. ``max_episodes``: open at the same time.
    ``retry_s``: seconds within which a first prompt that failed may be tried again.
    ``ignore_ids``: by prompts only, whatever the log says. ``on_drop`` is told the key of each
    episode that is closed. ``name`` makes up keys (else they are counted). ``placed`` counts how calls were placed,
    ``stitched`` the episodes put together.
    """

    def __init__(
        self,
        *,
        idle_s: float = 6 * 3600.0,
        max_episodes: int = 20_000,
        retry_s: float = 60.0,
        ignore_ids: bool = False,
        on_drop: Callable[[str], None] | None = None,
        name: Callable[[], str] | None = None,
    ) -> None:
        self._idle_s, self._most, self._retry_s = idle_s, max_episodes, retry_s
        self._ignore_ids = ignore_ids
        self.on_drop = on_drop
        self.placed: Counter[Placed] = Counter()
        self.stitched = 0
        self._named: OrderedDict[str, None] = OrderedDict()
        self._open: OrderedDict[str, Open] = OrderedDict()
        self._books: dict[str, Book] = {}
        self._now = self._before = float("inf")
        self._name = name or (lambda: f"stitched-{self.stitched + 1}")
        self._deferred = False

    def episode_of(self, call: LogCall) -> str:
        """The key of the call's episode: ``RUN/ID`` where the log names one (``ID`` without a run), else made up.

        >>> asked = LogCall(model="m", roles="u", sizes=(2,), prefixes=(1,), after=2)
        >>> then = LogCall(model="m", roles="uau", sizes=(2, 2, 2), prefixes=(1, 2, 3), after=4)
        >>> stitcher = Stitcher()
        >>> [stitcher.episode_of(call) for call in (asked, then, asked)]
        ['stitched-1', 'stitched-1', 'stitched-2']
        """
        seat = self.place(call)
        self.note(seat, told(call))
        return seat.key

    def place(self, call: LogCall, *, adopt: Callable[[LogCall], str | None] | None = None) -> Seat:
        """Find the episode of a call whose answer is not known yet: what ``call`` says of it is not looked at.

        ``adopt`` is asked for the key of an episode that began elsewhere (in another process) where a call that goes
        on from an answer fits none of those open here.
        """
        self._tick(call.started_at)
        if call.episode_id is not None and not self._ignore_ids:
            return Seat(self._by_id(call.run, call.episode_id), Placed.BY_ID)
        book = self._books.get(call.run)
        if book is None:
            book = self._books[call.run] = Book(call.run)
        episode, placed = self._find(book, call)
        if adopt is not None and placed in _UNSURE and "a" in call.roles and (key := adopt(call)) is not None:
            known = self._open.get(key)
            episode = self._begin(book, call, key, _asked_first(call)) if known is None else known
            placed = Placed.ADOPTED
        if episode is None:
            episode = self._begin(book, call, self._name())
        else:
            self._open.move_to_end(episode.key)
        self.placed[placed] += 1
        if call.prefixes:
            sent(episode, call)
        episode.seen = self._now
        episode.last_at = call.started_at if call.started_at is not None else episode.last_at
        self._forget()
        return Seat(episode.key, placed, episode, call.prefixes[-1] if call.prefixes else 0)

    def knows(self, call: LogCall) -> bool:
        """Whether an open episode has been at, or beyond, the first answer that the call goes on from."""
        book = self._books.get(call.run)
        first = call.roles.find("a")
        return book is not None and first >= 0 and any(hash in book.owners for hash in call.prefixes[first:])

    def note(self, seat: Seat, answer: Told) -> None:
        """The call that got this seat was answered (each of several samples is noted for itself)."""
        episode = seat.episode
        if episode is not None and seat.prompt and self._open.get(episode.key) is episode:
            heard(episode, seat.prompt, answer)

    def defer(self, seat: Seat, answer: Deferred) -> None:
        """``note``, for an answer that is dear to read: it is read once that may decide where another call belongs."""
        episode = seat.episode
        if episode is not None and seat.prompt and self._open.get(episode.key) is episode:
            defer(episode, seat.prompt, answer)
            self._deferred = True
        else:
            answer.drop()

    def _find(self, book: Book, call: LogCall) -> tuple[Open | None, Placed]:
        if self._deferred:
            episode = _alone_there(book, call)
            if episode is not None:
                return episode, Placed.BY_PREFIX
            for _, owners in _hits(book, call.prefixes):
                for owner in tuple(owners):
                    hear(owner, call.prefixes)
        return _place(book, call, self._retry_s)

    def _by_id(self, run: str, episode_id: str) -> str:
        key = f"{run.replace('%', '%25').replace('/', '%2F')}/{episode_id}" if run else episode_id
        self.placed[Placed.BY_ID] += 1
        self._named[key] = None
        self._named.move_to_end(key)
        if len(self._named) > self._most:
            self._tell(self._named.popitem(last=False)[0])
        return key

    def _begin(self, book: Book, call: LogCall, key: str, first: int | None = None) -> Open:
        """``first``: its first prompt, if that is not this call's."""
        self.stitched += 1
        if first is None:
            first = call.prefixes[-1] if call.prefixes else 0
        episode = Open(key, book, first, _root(call))
        if call.prefixes:
            enter(book.roots, episode.root, episode)
        self._open[episode.key] = episode
        return episode

    def _tick(self, at: float | None) -> None:
        """The clock is the earlier of the last two times: a single wild one closes nothing."""
        if at is not None:
            self._now, self._before = min(at, self._before), at

    def _forget(self) -> None:
        """Close what is idle, the idlest first."""
        while len(self._open) > 1:
            key, episode = next(iter(self._open.items()))
            if not self._is_idle(episode) and len(self._open) <= self._most:
                return
            del self._open[key]
            for hashed in episode.hashes:
                leave(episode.book.owners, hashed, episode)
            leave(episode.book.roots, episode.root, episode)
            silence(episode)
            if not episode.book.owners and not episode.book.roots:
                self._books.pop(episode.book.run, None)
            self._tell(key)

    def _is_idle(self, episode: Open) -> bool:
        """By the clock that the call itself carried and by the stitcher's: each alone may lag or be wild."""
        own = episode.seen if episode.last_at is None else episode.last_at
        return abs(self._now - episode.seen) > self._idle_s and abs(self._now - own) > self._idle_s

    def _tell(self, key: str) -> None:
        if self.on_drop is not None:
            self.on_drop(key)


# --- placing one call -------------------------------------------------------------------------------------------------


def _place(book: Book, call: LogCall, retry_s: float) -> tuple[Open | None, Placed]:
    prefixes = call.prefixes
    if not prefixes:
        return None, Placed.ALONE
    hits = _hits(book, prefixes)
    found = next(hits, None)
    if found is None:
        episode = _by_root(book, call)
        return episode, Placed.NEW if episode is None else Placed.BY_ROOT
    at, owners = found
    waiting = [episode for episode in owners if prefixes[at] in episode.tips]
    if waiting:
        return _first_come(waiting, call), Placed.BY_ANSWER
    if at == len(prefixes) - 1:
        return _again(owners, hits, call, retry_s)
    return _changed(owners, at, hits, call)


def _alone_there(book: Book, call: LogCall) -> Open | None:
    """The one episode that stands where this prompt goes on with an answer, if that answer was not read yet.

    Read or not, returned unchanged or not, it leads there: the answer itself need not be known.
    """
    found = next(_hits(book, call.prefixes), None)
    if found is None or len(found[1]) != 1:
        return None
    at, (episode,) = found[0], found[1]
    beginning = call.prefixes[at]
    if episode.prompt != beginning or call.roles[at + 1 : at + 2] != "a":
        return None
    if not any(prompt == beginning for prompt, _ in episode.unheard):
        return None
    silence(episode, (beginning,))
    rest = call.roles[at + 1 :]
    remember(episode, (call.prefixes[at + len(rest) - len(rest.lstrip("a"))],))
    return episode


def _hits(book: Book, prefixes: tuple[int, ...]) -> Iterator[tuple[int, list[Open]]]:
    """The known beginnings of a prompt, the longest first: index of the last message, and the episodes that have it."""
    owners = book.owners
    for at in range(len(prefixes) - 1, -1, -1):
        known = owners.get(prefixes[at])
        if known:
            yield at, known


def _again(
    owners: list[Open], hits: Iterator[tuple[int, list[Open]]], call: LogCall, retry_s: float
) -> tuple[Open | None, Placed]:
    """The whole prompt was sent before: by an episode that is equal so far, or by this call's own."""
    prompt = call.prefixes[-1]
    other, placed = _unclaimed(hits, call, call.roles.count("a"), 1)
    if other is not None:
        return other, placed
    middle = [episode for episode in owners if episode.first != prompt and _within(episode, call, _ACTIVE_S)]
    if middle:
        return max(middle, key=lambda episode: (episode.prompt == prompt, _time(episode.last_at))), Placed.REPEAT
    failed = [episode for episode in owners if episode.failed and _within(episode, call, retry_s)]
    if failed:
        return failed[-1], Placed.REPEAT
    return None, Placed.NEW


def _changed(
    owners: list[Open], at: int, hits: Iterator[tuple[int, list[Open]]], call: LogCall
) -> tuple[Open | None, Placed]:
    """The prompt goes on from an earlier one, but not with an answer that was given to it."""
    beginning, roles = call.prefixes[at], call.roles
    placed = Placed.BY_PREFIX if "a" in roles[: at + 1] else Placed.BY_ROOT
    standing = [episode for episode in owners if episode.prompt == beginning]
    if standing:
        return _most_alike(standing, at, call), placed
    other, claimed = _unclaimed(hits, call, roles.count("a", 0, at + 1), _STEPS_BACK)
    if other is not None:
        return other, claimed
    if placed is Placed.BY_ROOT:
        episode = _by_root(owners[0].book, call)
        return episode, Placed.NEW if episode is None else placed
    return max(owners, key=lambda e: (_shared(e, call), -abs(e.length - len(roles)), _time(e.last_at))), placed


def _unclaimed(
    hits: Iterator[tuple[int, list[Open]]], call: LogCall, answers: int, steps: int
) -> tuple[Open | None, Placed]:
    """An active episode whose last answer stands at most ``steps`` answers further up and was not continued yet."""
    for at, owners in hits:
        if answers - call.roles.count("a", 0, at + 1) > steps:
            break
        active = [episode for episode in owners if _within(episode, call, _ACTIVE_S)]
        waiting = [episode for episode in active if call.prefixes[at] in episode.tips]
        if waiting:
            return _first_come(waiting, call), Placed.BY_ANSWER
        alike = [e for e in active if e.prompt == call.prefixes[at] and _unlikeness(e, at, call) <= _ALIKE]
        if alike:
            return _most_alike(alike, at, call), Placed.BY_PREFIX
    return None, Placed.NEW


def _first_come(waiting: list[Open], call: LogCall) -> Open:
    """Of episodes that are equal so far: the one that waits longest, but not one that was given up long ago."""
    if len(waiting) == 1 or call.started_at is None:
        return waiting[0]
    answered = [e for e in waiting if e.ended_at is None or e.ended_at <= call.started_at] or waiting
    active = [episode for episode in answered if _within(episode, call, _ACTIVE_S)]
    return min(active, key=lambda e: _time(e.ended_at)) if active else max(answered, key=lambda e: _time(e.ended_at))


def _most_alike(standing: list[Open], at: int, call: LogCall) -> Open:
    """Of episodes that asked the same: the one whose answer is most like the changed one in the prompt."""
    return min(standing, key=lambda episode: _unlikeness(episode, at, call)) if len(standing) > 1 else standing[0]


def _unlikeness(episode: Open, at: int, call: LogCall) -> float:
    """How far the episode's last answer is from message ``at + 1`` in length; infinite with other calls of tools."""
    if call.roles[at + 1 : at + 2] != "a":
        return float("inf")
    rest = call.roles[at + 2 :]
    if episode.tools != len(rest) - len(rest.lstrip("t")):
        return float("inf")
    return abs(episode.said - call.sizes[at + 1]) / (call.sizes[at + 1] + 10)


def _shared(episode: Open, call: LogCall) -> int:
    """How many of the last messages of the episode's last prompt are still in this one."""
    return sum(content in call.contents for content in episode.latest)


def _by_root(book: Book, call: LogCall) -> Open | None:
    """The open episode that this call's shortened context comes from."""
    start = call.roles.find("u")
    if start < 0 or "a" not in call.roles[start:]:
        return None
    open_ones = book.roots.get(call.prefixes[start], ())
    kept = [episode for episode in open_ones if _shared(episode, call)]
    if kept:
        return max(kept, key=lambda episode: (_shared(episode, call), _time(episode.last_at)))
    longer = [episode for episode in open_ones if episode.length >= len(call.roles)]
    return max(longer, key=lambda episode: _time(episode.last_at), default=None)


def _asked_first(call: LogCall) -> int | None:
    """The prompt of the first answer that the call goes on from: with that, another episode may begin any time."""
    at = call.roles.find("a")
    return call.prefixes[at - 1] if at > 0 else None


def _root(call: LogCall) -> int:
    start = call.roles.find("u")
    return call.prefixes[start] if start >= 0 and call.prefixes else 0


def _within(episode: Open, call: LogCall, seconds: float) -> bool:
    """True also where a time is not known."""
    return call.started_at is None or episode.last_at is None or call.started_at - episode.last_at <= seconds


def _time(at: float | None) -> float:
    return float("-inf") if at is None else at
