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
6. ``NEW``; ``ALONE`` where the log holds no prompt. Sub-agents with instructions of their own are episodes.

Memory: what is idle is forgotten, so an agent that sleeps longer becomes two episodes. Open episodes that were put
together close after ``idle_s`` without a call; these and the named ones also when more than ``max_episodes`` of a kind
are open (the idlest first). Each keeps at most ``_HASHES`` hashes, about 100 bytes each.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from potstill.logs.records import LogCall

_HASHES = 48
_OWNERS = 256
"""Episodes that one hash leads to: thousands may begin alike, the newest of them can still go on."""
_TIPS = 16
_LATEST = 3
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


class _Book:
    """The hashes that the open episodes of one run have left, and those episodes."""

    __slots__ = ("owners", "roots")

    def __init__(self) -> None:
        self.owners: dict[int, list[_Open]] = {}
        self.roots: dict[int, list[_Open]] = {}


class _Open:
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
    )

    def __init__(self, key: str, book: _Book, first: int, root: int) -> None:
        self.key, self.book, self.first, self.root = key, book, first, root
        self.hashes = array("Q")
        self.tips: dict[int, int] = {}
        """Answers that no call has continued yet: hash of the conversation with the answer -> hash of its prompt."""
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


class Stitcher:
    """Finds the episode of each call. Calls come in the order of the log, which is nearly that of time.

    ``idle_s``: seconds without a call after which an episode is closed. ``max_episodes``: open at the same time.
    ``retry_s``: seconds within which a first prompt that failed may be tried again.
    ``ignore_ids``: by prompts only, whatever the log says. ``on_drop`` is told the key of each
    episode that is closed. ``placed`` counts how calls were placed, ``stitched`` the episodes put together.
    """

    def __init__(
        self,
        *,
        idle_s: float = 6 * 3600.0,
        max_episodes: int = 20_000,
        retry_s: float = 60.0,
        ignore_ids: bool = False,
        on_drop: Callable[[str], None] | None = None,
    ) -> None:
        self._idle_s, self._most, self._retry_s = idle_s, max_episodes, retry_s
        self._ignore_ids = ignore_ids
        self.on_drop = on_drop
        self.placed: Counter[Placed] = Counter()
        self.stitched = 0
        self._named: OrderedDict[str, None] = OrderedDict()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._books: dict[str, _Book] = {}
        self._now = self._before = float("inf")

    def episode_of(self, call: LogCall) -> str:
        """The key of the call's episode: ``RUN/ID`` where the log names one (``ID`` without a run), else made up.

        >>> asked = LogCall(model="m", roles="u", sizes=(2,), prefixes=(1,), after=2)
        >>> then = LogCall(model="m", roles="uau", sizes=(2, 2, 2), prefixes=(1, 2, 3), after=4)
        >>> stitcher = Stitcher()
        >>> [stitcher.episode_of(call) for call in (asked, then, asked)]
        ['stitched-1', 'stitched-1', 'stitched-2']
        """
        self._tick(call.started_at)
        if call.episode_id is not None and not self._ignore_ids:
            return self._by_id(call.run, call.episode_id)
        book = self._books.get(call.run)
        if book is None:
            book = self._books[call.run] = _Book()
        episode, placed = _place(book, call, self._retry_s)
        if episode is None:
            episode = self._begin(book, call)
        else:
            self._open.move_to_end(episode.key)
        self.placed[placed] += 1
        if call.prefixes:
            _advance(episode, call)
        episode.seen = self._now
        episode.last_at = call.started_at if call.started_at is not None else episode.last_at
        self._forget()
        return episode.key

    def _by_id(self, run: str, episode_id: str) -> str:
        key = f"{run.replace('%', '%25').replace('/', '%2F')}/{episode_id}" if run else episode_id
        self.placed[Placed.BY_ID] += 1
        self._named[key] = None
        self._named.move_to_end(key)
        if len(self._named) > self._most:
            self._tell(self._named.popitem(last=False)[0])
        return key

    def _begin(self, book: _Book, call: LogCall) -> _Open:
        self.stitched += 1
        first = call.prefixes[-1] if call.prefixes else 0
        episode = _Open(f"stitched-{self.stitched}", book, first, _root(call))
        if call.prefixes:
            _enter(book.roots, episode.root, episode)
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
                _leave(episode.book.owners, hashed, episode)
            _leave(episode.book.roots, episode.root, episode)
            self._tell(key)

    def _is_idle(self, episode: _Open) -> bool:
        """By the clock that the call itself carried and by the stitcher's: each alone may lag or be wild."""
        own = episode.seen if episode.last_at is None else episode.last_at
        return abs(self._now - episode.seen) > self._idle_s and abs(self._now - own) > self._idle_s

    def _tell(self, key: str) -> None:
        if self.on_drop is not None:
            self.on_drop(key)


# --- placing one call -------------------------------------------------------------------------------------------------


def _place(book: _Book, call: LogCall, retry_s: float) -> tuple[_Open | None, Placed]:
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


def _hits(book: _Book, prefixes: tuple[int, ...]) -> Iterator[tuple[int, list[_Open]]]:
    """The known beginnings of a prompt, the longest first: index of the last message, and the episodes that have it."""
    owners = book.owners
    for at in range(len(prefixes) - 1, -1, -1):
        known = owners.get(prefixes[at])
        if known:
            yield at, known


def _again(
    owners: list[_Open], hits: Iterator[tuple[int, list[_Open]]], call: LogCall, retry_s: float
) -> tuple[_Open | None, Placed]:
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
    owners: list[_Open], at: int, hits: Iterator[tuple[int, list[_Open]]], call: LogCall
) -> tuple[_Open | None, Placed]:
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
    hits: Iterator[tuple[int, list[_Open]]], call: LogCall, answers: int, steps: int
) -> tuple[_Open | None, Placed]:
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


def _first_come(waiting: list[_Open], call: LogCall) -> _Open:
    """Of episodes that are equal so far: the one that waits longest, but not one that was given up long ago."""
    if len(waiting) == 1 or call.started_at is None:
        return waiting[0]
    answered = [e for e in waiting if e.ended_at is None or e.ended_at <= call.started_at] or waiting
    active = [episode for episode in answered if _within(episode, call, _ACTIVE_S)]
    return min(active, key=lambda e: _time(e.ended_at)) if active else max(answered, key=lambda e: _time(e.ended_at))


def _most_alike(standing: list[_Open], at: int, call: LogCall) -> _Open:
    """Of episodes that asked the same: the one whose answer is most like the changed one in the prompt."""
    return min(standing, key=lambda episode: _unlikeness(episode, at, call)) if len(standing) > 1 else standing[0]


def _unlikeness(episode: _Open, at: int, call: LogCall) -> float:
    """How far the episode's last answer is from message ``at + 1`` in length; infinite with other calls of tools."""
    if call.roles[at + 1 : at + 2] != "a":
        return float("inf")
    rest = call.roles[at + 2 :]
    if episode.tools != len(rest) - len(rest.lstrip("t")):
        return float("inf")
    return abs(episode.said - call.sizes[at + 1]) / (call.sizes[at + 1] + 10)


def _shared(episode: _Open, call: LogCall) -> int:
    """How many of the last messages of the episode's last prompt are still in this one."""
    return sum(content in call.contents for content in episode.latest)


def _by_root(book: _Book, call: LogCall) -> _Open | None:
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


def _root(call: LogCall) -> int:
    start = call.roles.find("u")
    return call.prefixes[start] if start >= 0 and call.prefixes else 0


def _within(episode: _Open, call: LogCall, seconds: float) -> bool:
    """True also where a time is not known."""
    return call.started_at is None or episode.last_at is None or call.started_at - episode.last_at <= seconds


def _time(at: float | None) -> float:
    return float("-inf") if at is None else at


# --- what a call leaves behind ----------------------------------------------------------------------------------------


def _advance(episode: _Open, call: LogCall) -> None:
    """Note what the episode's next call may start with."""
    prompt = call.prefixes[-1]
    _claim(episode, call)
    if prompt != episode.prompt:
        _remember(episode, (prompt,))
    if call.after is not None:
        episode.tips[call.after] = prompt
        _remember(episode, (call.after,))
        if len(episode.tips) > _TIPS:
            del episode.tips[next(iter(episode.tips))]
    episode.prompt = prompt
    episode.length = len(call.prefixes)
    episode.latest = call.contents[-_LATEST:]
    episode.said, episode.tools = call.answer_characters, len(call.tool_calls)
    episode.failed = call.error is not None
    at = call.started_at
    episode.ended_at = at if at is None or call.latency_s is None else at + call.latency_s


def _claim(episode: _Open, call: LogCall) -> None:
    """The answers to the step that this call goes on from are continued: samples that were not taken among them."""
    tips = episode.tips
    if tips:
        continued = {tips[hashed] for hashed in call.prefixes if hashed in tips}
        if continued:
            episode.tips = {tip: prompt for tip, prompt in tips.items() if prompt not in continued}


def _remember(episode: _Open, hashes: Iterable[int]) -> None:
    for hashed in hashes:
        if _enter(episode.book.owners, hashed, episode):
            episode.hashes.append(hashed)
    if len(episode.hashes) > _HASHES:
        _leave(episode.book.owners, episode.hashes.pop(0), episode)


def _enter(book: dict[int, list[_Open]], hashed: int, episode: _Open) -> bool:
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


def _leave(book: dict[int, list[_Open]], hashed: int, episode: _Open) -> None:
    owners = book.get(hashed)
    if owners is not None and episode in owners:
        owners.remove(episode)
        if not owners:
            del book[hashed]
