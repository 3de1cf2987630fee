"""One episode while its calls come in: what it repeats, what it wastes. Pure and streaming; texts are not needed.

What it knows: rules for repeated input and for waste, on hashes and sizes. What it does not do: prices (dollars come
with each call), sums over episodes (``episodes.py``), I/O.

Rules:

* *Repeated prefix*: input that an earlier call of the same model in this episode had sent as the start of its prompt,
  definitions of tools included. Tokens are those of the earlier call times the share of its characters: a prompt that
  is repeated whole counts as it was billed, instructions that the log leaves out included. *Repeated elsewhere*: whole
  messages that the nearest earlier prompt had too, but behind the first message that differs. The last
  ``_BRANCHES`` different prompts are compared.
* A *step* is one prompt with all samples that were asked for it. Which sample was acted on tells the next prompt.
* *Redundant*: every tool call of a step was made before with the same arguments, and what was then observed is the
  same again. Where the observation cannot be seen, the step is *possibly* redundant and counted apart.
* *Loop*: the same cycle of 1 to 4 steps with tool calls at least three times in a row; from the second turn on.
* *Bloated observation*: a tool's message (or a user message behind an answer) with more characters than the threshold;
  its tokens count in every call that carries it, at the cached rate as far as the prompt was read from the cache.
* *After the last useful step*: steps behind the last one that called a tool with new arguments, but for one final
  answer. Answers to a user who wrote again are not counted, and episodes without tools have none.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from potstill.logs.records import LogCall
from potstill.measure.cache import MESSAGE_CHARACTERS
from potstill.measure.ledger import Parts

REDUNDANT, POSSIBLY, LOOP, TRAILING, BLOATED = 1, 2, 4, 8, 16
KINDS = {
    REDUNDANT: "redundant_calls",
    POSSIBLY: "possibly_redundant_calls",
    LOOP: "loops",
    BLOATED: "bloated_observations",
    TRAILING: "calls_after_last_useful_step",
}
UNKNOWN = float("nan")
_BRANCHES = 4
_LONGEST_CYCLE = 4
_TURNS = 3
_MASK = (1 << 32) - 1
"""Hashes are kept as 32 bits: within one episode that is enough, and half the memory."""
_UNSEEN = _MASK
"""Stands for an observation that no prompt shows."""
_FIELDS = 4


class Cost(NamedTuple):
    """What a call cost: as the log says or computed, and the computed parts where its tokens and price are known."""

    usd: float | None
    parts: Parts | None = None


class CacheRates(NamedTuple):
    """Dollars for one token of input at the length of a call, and the shortest prefix that is cached."""

    uncached: float
    read: float
    write: float
    minimum_tokens: int


class Wasted(NamedTuple):
    """One kind of waste in one episode: how often, and its tokens and dollars, NaN where unknown."""

    times: int
    tokens: float
    usd: float


class _Branch:
    """A prompt that was sent to a model, as hashes."""

    __slots__ = ("characters", "contents", "model", "prefixes", "repeated", "tokens", "tools")

    def __init__(self, call: LogCall, total: int) -> None:
        self.sent(call, total)
        self.model, self.tools = call.model, call.tools[0]
        self.prefixes = array("I", [prefix & _MASK for prefix in call.prefixes])
        self.contents = array("I", call.contents)
        self.repeated = 0.0

    def sent(self, call: LogCall, total: int) -> None:
        """Note how long the whole prompt was, as billed: a log may leave out instructions and tools that were sent."""
        self.characters = total
        self.tokens = call.usage.input_tokens if call.usage is not None else 0


class _Sample(NamedTuple):
    after: int | None
    keys: tuple[int, ...]


class OpenEpisode:
    """State of one episode, about 2.5 kB for ten calls. ``add`` each call in order, then ``finish``, then read it."""

    __slots__ = (
        "_bloated",
        "_branches",
        "_carried",
        "_from_user",
        "_keys",
        "_length",
        "_prompt",
        "_runs",
        "_samples",
        "_start",
        "_steps",
        "_useful",
        "carried_tokens",
        "carried_usd",
        "elsewhere",
        "figures",
        "kinds",
        "prompts",
        "repeated",
        "saved_cached",
        "saved_laid_out",
    )

    def __init__(self, bloated: int = 8000) -> None:
        self.figures = array("d")
        """For each call: dollars, tokens of input, from the cache, of output; NaN where unknown."""
        self.kinds = array("I")
        """For each call: the number that ``add`` was given, times 256, plus marks."""
        self.prompts = 0
        """Input tokens of calls whose prompts are known."""
        self.repeated = self.elsewhere = self.saved_cached = self.saved_laid_out = 0.0
        self.carried_tokens = self.carried_usd = 0.0
        self._bloated = bloated
        self._carried = array("I")
        self._branches: list[_Branch] = []
        self._samples: list[_Sample] = []
        self._prompt: int | None = None
        self._length = self._start = 0
        self._from_user = False
        self._steps = array("I")
        """For each step: its first call, times two, plus one if it did not answer a user; hash of what it called."""
        self._keys = array("I")
        """Tools with arguments, and what was observed when they were called last."""
        self._runs = bytearray(_LONGEST_CYCLE)
        self._useful = -1

    def __len__(self) -> int:
        return len(self.kinds)

    def add(self, call: LogCall, cost: Cost, rates: CacheRates | None, number: int = 0) -> None:
        """Take the next call. ``number`` (below 2**24) comes back in ``kinds``: what the caller groups calls by."""
        self._step(call)
        usage = call.usage
        self.kinds.append(number << 8)
        usd = UNKNOWN if cost.usd is None else cost.usd
        if usage is None:
            self.figures.extend((usd, UNKNOWN, UNKNOWN, UNKNOWN))
        else:
            cached = usage.cache_read_tokens if usage.cache_reported else UNKNOWN
            self.figures.extend((usd, usage.input_tokens, cached, usage.output_tokens))
        if call.sizes:
            total = sum(call.sizes) + MESSAGE_CHARACTERS * len(call.sizes) + call.tools[1]
            self._repeats(call, total, rates)
            if max(call.sizes) > self._bloated:
                self._carry(call, total, cost.parts)

    def finish(self) -> None:
        """No call follows: settle what the last step left open."""
        if self.kinds:
            self._resolve(None)
        if self._useful < 0:
            return
        behind = [step for step in range(self._useful + 1, len(self._steps) // 2) if self._steps[2 * step] & 1]
        for step in behind[:-1]:
            self._mark(step, TRAILING)

    def wasted(self) -> dict[int, Wasted]:
        """What each kind of waste came to, by mark; kinds that were not found are left out."""
        found: dict[int, Wasted] = {}
        for mark in (REDUNDANT, POSSIBLY, LOOP, TRAILING):
            marked = [n for n, kind in enumerate(self.kinds) if kind & mark]
            if marked:
                usd = sum(self.figures[_FIELDS * n] for n in marked)
                tokens = sum(self.figures[_FIELDS * n + 1] + self.figures[_FIELDS * n + 3] for n in marked)
                found[mark] = Wasted(len(marked), tokens, usd)
        if self._carried:
            found[BLOATED] = Wasted(len(self._carried), self.carried_tokens, self.carried_usd)
        return found

    # --- repeated input -----------------------------------------------------------------------------------------------

    def _repeats(self, call: LogCall, total: int, rates: CacheRates | None) -> None:
        branch, common = self._nearest(call)
        if branch is None:
            self._grow(None, 0, call, total)
            self.prompts += call.usage.input_tokens if call.usage is not None else 0
            return
        elsewhere = 0.0
        same_tools = branch.tools == call.tools[0]
        prefix = sum(call.sizes[:common]) + MESSAGE_CHARACTERS * common + (call.tools[1] if same_tools else 0)
        if common < len(branch.prefixes) and common < len(call.prefixes):
            elsewhere = _behind(branch, common, call)
        before_tokens, before_characters = branch.tokens, branch.characters
        branch = self._grow(branch, common, call, total)
        if call.usage is None or not call.usage.input_tokens:
            return
        per_character = call.usage.input_tokens / total
        self.prompts += call.usage.input_tokens
        repeated = prefix * (before_tokens / before_characters if before_tokens else per_character)
        repeated = min(repeated, call.usage.input_tokens)
        elsewhere = min(elsewhere, (call.usage.input_tokens - repeated) / per_character)
        self.repeated += repeated
        self.elsewhere += elsewhere * per_character
        if rates is not None:
            cached = call.usage.cache_read_tokens
            self.saved_cached += _saving(repeated, cached, branch.repeated, rates)
            self.saved_laid_out += _saving(repeated + elsewhere * per_character, cached, branch.repeated, rates)
        branch.repeated = max(repeated, branch.repeated)

    def _nearest(self, call: LogCall) -> tuple[_Branch | None, int]:
        """The earlier prompt of the same model that shares the longest beginning, the newest of equals."""
        best, longest = None, -1
        for branch in reversed(self._branches):
            if branch.model == call.model:
                common = _common(branch.prefixes, call.prefixes) if branch.tools == call.tools[0] else 0
                if common > longest:
                    best, longest = branch, common
        return best, max(longest, 0)

    def _grow(self, branch: _Branch | None, common: int, call: LogCall, total: int) -> _Branch:
        """Note the prompt: at the end of the one that it continues, or as another branch."""
        same = branch is not None and branch.tools == call.tools[0]
        if branch is None or not same or (common < len(branch.prefixes) and common < len(call.prefixes)):
            grown = _Branch(call, total)
            if branch is not None and same:
                grown.repeated = branch.repeated
            self._branches.append(grown)
            if len(self._branches) > _BRANCHES:
                del self._branches[0]
            return grown
        if len(call.prefixes) >= len(branch.prefixes):
            branch.sent(call, total)
        branch.prefixes.extend([prefix & _MASK for prefix in call.prefixes[len(branch.prefixes) :]])
        branch.contents.extend(call.contents[len(branch.contents) :])
        if branch is not self._branches[-1]:
            self._branches.remove(branch)
            self._branches.append(branch)
        return branch

    def _carry(self, call: LogCall, total: int, parts: Parts | None) -> None:
        """Count the long observations that a prompt carries."""
        at = call.tools[1]
        roles = call.roles
        for n, size in enumerate(call.sizes):
            if size > self._bloated and (roles[n] == "t" or (roles[n] == "u" and n > 0 and roles[n - 1] == "a")):
                content = call.contents[n] if call.contents else call.prefixes[n] & 0xFFFFFFFF
                if content not in self._carried:
                    self._carried.append(content)
                    self.kinds[-1] |= BLOATED
                if call.usage is not None:
                    tokens = call.usage.input_tokens / total
                    self.carried_tokens += size * tokens
                    self.carried_usd += _carried_usd(call, parts, at * tokens, size * tokens)
            at += size + MESSAGE_CHARACTERS

    # --- steps --------------------------------------------------------------------------------------------------------

    def _step(self, call: LogCall) -> None:
        """Start a step, or add a sample to the one that is open (the same prompt again)."""
        prompt = call.prefixes[-1] if call.prefixes else None
        if self.kinds and (prompt is None or prompt != self._prompt):
            self._resolve(call)
        if not self.kinds or prompt is None or prompt != self._prompt:
            self._start = len(self.kinds)
            self._prompt, self._length = prompt, len(call.prefixes)
            self._from_user = call.roles.endswith("u")
            self._samples = []
        if call.error is None:
            keys = tuple([hash(tool) & _MASK for tool in call.tool_calls])
            self._samples.append(_Sample(call.after, keys))

    def _resolve(self, following: LogCall | None) -> None:
        """The open step is over: ``following`` shows which sample was acted on and what was observed."""
        keys, seen = self._acted_on(following)
        step = len(self._steps) // 2
        signature = (hash(keys) & _MASK or 1) if keys else 0
        self._steps.extend((2 * self._start + (not self._from_user), signature))
        marks, fresh = self._compare(keys, seen)
        if fresh:
            self._useful = step
        if marks:
            self._mark(step, marks)
        self._loops(step, signature)
        self._samples = []
        self._prompt = None

    def _acted_on(self, following: LogCall | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tool calls of the sample that was acted on, and what each of them brought."""
        samples = self._samples
        if not samples:
            return (), ()
        if following is None or not following.roles.startswith("a", self._length):
            return samples[-1].keys, (_UNSEEN,) * len(samples[-1].keys)
        end = self._length
        while following.roles.startswith("a", end):
            end += 1
        answered = following.prefixes[end - 1] if end <= len(following.prefixes) else None
        taken = next((sample for sample in samples if sample.after == answered), samples[-1])
        seen = tuple(
            following.contents[end + n] if following.contents and following.roles.startswith("t", end + n) else _UNSEEN
            for n in range(len(taken.keys))
        )
        return taken.keys, seen

    def _compare(self, keys: tuple[int, ...], seen: tuple[int, ...]) -> tuple[int, bool]:
        """Marks of a step that repeats earlier ones, and whether it did anything new."""
        known = self._keys
        fresh, same, unseen = False, 0, 0
        for key, observation in zip(keys, seen, strict=True):
            at = _index(known, key)
            if at < 0:
                fresh = True
                known.extend((key, observation))
                continue
            before, known[at + 1] = known[at + 1], observation
            same += observation == before != _UNSEEN
            unseen += _UNSEEN in (observation, before)
        if not keys or fresh:
            return 0, fresh
        if same == len(keys):
            return REDUNDANT, False
        return (POSSIBLY if same + unseen == len(keys) else 0), False

    def _loops(self, step: int, signature: int) -> None:
        for cycle in range(1, _LONGEST_CYCLE + 1):
            before = step - cycle
            again = signature != 0 and before >= 0 and self._steps[2 * before + 1] == signature
            run = self._runs[cycle - 1] = min(self._runs[cycle - 1] + 1, 255) if again else 0
            needed = (_TURNS - 1) * cycle
            if run >= needed:
                for marked in range(step - needed + 1, step + 1) if run == needed else (step,):
                    self._mark(marked, LOOP)

    def _mark(self, step: int, mark: int) -> None:
        """Mark all calls of a step."""
        last = 2 * (step + 1)
        stop = self._steps[last] >> 1 if last < len(self._steps) else len(self.kinds)
        for number in range(self._steps[2 * step] >> 1, stop):
            self.kinds[number] |= mark


def _common(known: array[int], prompt: tuple[int, ...]) -> int:
    """How many messages two prompts share at their beginnings: each hash stands for all before it."""
    low, high = 0, min(len(known), len(prompt))
    if high and known[high - 1] == prompt[high - 1] & _MASK:
        return high
    while low < high:
        middle = (low + high) // 2
        if known[middle] == prompt[middle] & _MASK:
            low = middle + 1
        else:
            high = middle
    return low


def _behind(branch: _Branch, common: int, call: LogCall) -> int:
    """Characters of messages behind the common beginning that the earlier prompt had there too."""
    left = Counter(branch.contents[common:])
    characters = 0
    for n in range(common, len(call.contents)):
        if left[call.contents[n]] > 0:
            left[call.contents[n]] -= 1
            characters += call.sizes[n] + MESSAGE_CHARACTERS
    return characters


def _saving(repeated: float, cached: int, before: float, rates: CacheRates) -> float:
    """Dollars saved if ``repeated`` tokens were read, of which ``cached`` were; what none had read is written."""
    if repeated < rates.minimum_tokens:
        return 0.0
    written = max(0.0, repeated - max(cached, before))
    read = max(0.0, repeated - cached)
    return read * (rates.uncached - rates.read) - written * max(0.0, rates.write - rates.uncached)


def _carried_usd(call: LogCall, parts: Parts | None, start: float, tokens: float) -> float:
    """What ``tokens`` of the input cost that stand ``start`` tokens behind its beginning."""
    if parts is None or call.usage is None:
        return UNKNOWN
    cached = call.usage.cache_read_tokens
    rest = call.usage.input_tokens - cached
    read = min(max(cached - start, 0.0), tokens)
    usd = parts.read_usd * read / cached if cached else 0.0
    return usd + ((parts.uncached_usd + parts.write_usd) * (tokens - read) / rest if rest else 0.0)


def _index(known: array[int], key: int) -> int:
    """Where ``key`` stands among the even places; -1 if nowhere."""
    at = -1
    while True:
        try:
            at = known.index(key, at + 1)
        except ValueError:
            return -1
        if at % 2 == 0:
            return at
