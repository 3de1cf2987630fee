"""All episodes of an audit: open ones call by call, closed ones as sums and a few examples to look at.

What it knows: how the figures of episodes add up to ``Spend``, ``CacheUse`` and ``Waste``, and which episodes show them
best. What it does not do: put calls into episodes (``record.stitch``), price them (it is given functions), find waste
within one episode (``waste.py``), read files.

Memory: about 2.5 kB for each open episode, and previews of at most ``WATCHED_CALLS`` calls: those of the episodes that
were active last. An episode that is no longer watched when it closes counts everywhere, but cannot be an example. Names
of step types beyond ``_NAMES`` are one, ``other tools``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from potstill.logs.records import Attempt, LogCall, Source
from potstill.measure.audit.result import CacheUse, Example, ExampleCall, Spend, Waste
from potstill.measure.audit.spending import Slices
from potstill.measure.audit.tops import Tops
from potstill.measure.audit.waste import BLOATED, KINDS, CacheRates, Cost, OpenEpisode

Price = Callable[[LogCall], Cost]
Rates = Callable[[str, int], CacheRates | None]
"""Rates of a model for a call of so many input tokens; None where its price is not known."""

WATCHED_CALLS = 20_000
_CALLS_SHOWN = 120
_NAMES = 500
_PRUNE = 500
_OTHER = "other tools"


class _Running:
    """An episode that is open, and what names it."""

    __slots__ = ("error", "file", "line", "models", "run", "started_at", "state", "success", "task_id")

    def __init__(self, call: LogCall, bloated: int) -> None:
        self.state = OpenEpisode(bloated)
        self.run, self.task_id, self.started_at = call.run, call.task_id, call.started_at
        self.file, self.line = call.source
        self.models: tuple[str, ...] = ()
        self.success: bool | None = None
        self.error: str | None = None


class Closed(NamedTuple):
    """What is told of an episode when it closes. Sums are ``None`` where a part is unknown."""

    key: str
    run: str
    task_id: str | None
    models: tuple[str, ...]
    source: Source
    error: str | None
    """Of an episode in which every call failed: what the last one said."""
    calls: int
    usd: float | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    started_at: float | None


class Episodes:
    """Takes calls with the key of their episode (``add``), or whole attempts (``attempt``); ``finish``, then read.

    ``price`` gives the dollars of a call, ``rates`` what its input would cost from a cache. ``bloated``: characters
    above which an observation counts as bloated.
    """

    def __init__(self, price: Price, rates: Rates, *, bloated: int = 8000, watched_calls: int = WATCHED_CALLS) -> None:
        self._price, self._rates, self._bloated = price, rates, bloated
        self._open: dict[str, _Running] = {}
        self._watched: OrderedDict[str, list[ExampleCall]] = OrderedDict()
        self._watched_calls, self._most_watched = 0, watched_calls
        self._types: dict[str, int] = {}
        self._type_names: list[str] = []
        self._examples: dict[str, Example] = {}
        self._prune_at = _PRUNE
        self._slices = {"model": Slices(), "step_type": Slices(), "outcome": Slices()}
        self._cache = _CacheSums()
        self._waste = {mark: _WasteSums() for mark in KINDS}
        self.calls = self.episodes = 0
        self.input_tokens = 0.0

    # --- taking -------------------------------------------------------------------------------------------------------

    def add(self, key: str, call: LogCall) -> Cost:
        """Take the next call of episode ``key``; what it cost is given back."""
        running = self._open.get(key)
        if running is None:
            running = self._open[key] = _Running(call, self._bloated)
            self._watched[key] = []
        if call.model not in running.models:
            running.models += (call.model,)
        cost = self._price(call)
        tokens = call.usage.input_tokens if call.usage is not None else 0
        rates = self._rates(call.model, tokens) if call.usage is not None else None
        number, step_type = min(running.models.index(call.model), 0xFF), self._type(step_type_of(call))
        running.state.add(call, cost, rates, step_type << 8 | number)
        self._watch(key, call, running.models[number], self._type_names[step_type], cost)
        self.calls += 1
        self.input_tokens += tokens
        return cost

    def settle(self, key: str, success: bool | None, error: str | None = None) -> None:
        """Say how an open episode ended; unknown otherwise."""
        running = self._open.get(key)
        if running is not None:
            running.success, running.error = success, error

    def attempt(self, key: str, attempt: Attempt) -> None:
        """Take a whole episode with its calls. One without calls adds nothing: its sums are told elsewhere."""
        for call in attempt.calls:
            self.add(key, call)
        running = self._open.get(key)
        if running is not None:
            running.task_id, running.run = attempt.task_id, attempt.run
            running.file, running.line = attempt.source
            self.settle(key, attempt.success, attempt.error)
            self.close(key)

    def open_keys(self) -> list[str]:
        return list(self._open)

    def close(self, key: str) -> Closed | None:
        """No call of this episode follows (give this to ``Stitcher.on_drop``); ``None`` if it was not open."""
        running = self._open.pop(key, None)
        if running is None:
            return None
        running.state.finish()
        calls = self._watched.pop(key, None)
        self._watched_calls -= len(calls or ())
        self.episodes += 1
        shown = key if calls else None
        usd = self._spend(running, shown)
        self._count(running, shown)
        if calls:
            self._examples[key] = _example(key, running, calls, usd)
            if len(self._examples) > self._prune_at:
                self._prune()
        return self._closed(key, running, usd)

    def finish(self) -> None:
        """Close all that is open."""
        for key in list(self._open):
            self.close(key)
        self._prune()

    # --- giving -------------------------------------------------------------------------------------------------------

    def by_model(self) -> tuple[Spend, ...]:
        return self._slices["model"].spends()

    def by_step_type(self) -> tuple[Spend, ...]:
        """By the first tool that an answer calls, else ``answer``; ``error`` for calls that failed."""
        return self._slices["step_type"].spends()

    def by_outcome(self) -> tuple[Spend, ...]:
        """``success``, ``failure``, ``error`` or ``unknown``; episodes with calls only."""
        return self._slices["outcome"].spends()

    def cache(self) -> CacheUse | None:
        """None if no call told its tokens."""
        return self._cache.use(int(self.input_tokens)) if self.input_tokens else None

    def waste(self) -> tuple[Waste, ...]:
        """Every kind, found or not; ``possibly_redundant_calls`` only where found."""
        found = []
        for mark, sums in self._waste.items():
            kind = KINDS[mark]
            if sums.times or not kind.startswith("possibly"):
                of = self.input_tokens if mark == BLOATED else self.calls
                part = (sums.tokens or 0.0) if mark == BLOATED else sums.times
                found.append(sums.waste(kind, part / of if of else None))
        return tuple(found)

    def examples(self) -> tuple[Example, ...]:
        """The episodes that the figures name, the dearest first."""
        return tuple(sorted(self._examples.values(), key=lambda example: (-(example.usd or 0.0), example.id)))

    # --- within -------------------------------------------------------------------------------------------------------

    def _closed(self, key: str, running: _Running, usd: float | None) -> Closed:
        figures, kinds = running.state.figures, running.state.kinds
        failed = self._types.get("error")
        broke = failed is not None and all(kind >> 8 == failed for kind in kinds)
        return Closed(
            key=key,
            run=running.run,
            task_id=running.task_id,
            models=running.models,
            source=Source(running.file, running.line),
            error="every call failed" if broke else None,
            calls=len(kinds),
            usd=usd,
            input_tokens=_whole(sum(figures[1::4])),
            cached_tokens=_whole(sum(figures[2::4])),
            output_tokens=_whole(sum(figures[3::4])),
            started_at=running.started_at,
        )

    def _type(self, name: str) -> int:
        number = self._types.get(name)
        if number is None and len(self._types) >= _NAMES:
            name = _OTHER
            number = self._types.get(name)
        if number is None:
            number = self._types[name] = len(self._types)
            self._type_names.append(name)
        return number

    def _watch(self, key: str, call: LogCall, model: str, step_type: str, cost: Cost) -> None:
        """Keep a call's previews while its episode may become an example; forget those of the idlest episodes."""
        calls = self._watched.get(key)
        if calls is None:
            return
        self._watched.move_to_end(key)
        if len(calls) < _CALLS_SHOWN:
            calls.append(_shown(len(calls) + 1, call, model, step_type, cost.usd))
            self._watched_calls += 1
        while self._watched_calls > self._most_watched and len(self._watched) > 1:
            self._watched_calls -= len(self._watched.popitem(last=False)[1])

    def _spend(self, running: _Running, shown: str | None) -> float | None:
        """Add an episode to the slices; its dollars."""
        state = running.state
        names, models = self._type_names, running.models
        kinds = [kind >> 8 for kind in state.kinds]
        whole = _whole_sums(state)
        one_model = len(running.models) == 1
        parts: dict[str, Mapping[str, Sequence[float]]] = {
            "model": {running.models[0]: whole} if one_model else _sums(state, (models[kind & 0xFF] for kind in kinds)),
            "step_type": _sums(state, (names[kind >> 8] for kind in kinds)),
            "outcome": {_outcome(running): whole},
        }
        for slices, sums in parts.items():
            for name, (calls, usd, *tokens) in sums.items():
                self._slices[slices].add(
                    name,
                    usd=_known(usd),
                    calls=int(calls),
                    input_tokens=_whole(tokens[0]),
                    cached_tokens=_whole(tokens[1]),
                    output_tokens=_whole(tokens[2]),
                    example=shown,
                )
        return _known(whole[1])

    def _count(self, running: _Running, shown: str | None) -> None:
        """Add an episode to the sums of cache and waste."""
        self._cache.add(running.state, shown)
        for mark, wasted in running.state.wasted().items():
            self._waste[mark].add(wasted.times, wasted.tokens, wasted.usd, shown)

    def _referred(self) -> set[str]:
        named = {example for slices in self._slices.values() for spend in slices.spends() for example in spend.examples}
        return named.union(self._cache.tops.names(), *(sums.tops.names() for sums in self._waste.values()))

    def _prune(self) -> None:
        """Forget the examples that no figure names (any more)."""
        named = self._referred()
        self._examples = {key: example for key, example in self._examples.items() if key in named}
        self._prune_at = len(self._examples) + _PRUNE


def step_type_of(call: LogCall) -> str:
    """The first tool that the answer calls, else ``answer``; ``error`` for a call that failed."""
    if call.error is not None:
        return "error"
    return call.tool_calls[0][0] or "tool" if call.tool_calls else "answer"


class _WasteSums:
    """Sums of one kind of waste."""

    def __init__(self) -> None:
        self.times = self.episodes = 0
        self.tokens = self.usd = 0.0
        self.tops = Tops()

    def add(self, times: int, tokens: float, usd: float, shown: str | None) -> None:
        self.times += times
        self.episodes += 1
        self.tokens += tokens
        self.usd += usd
        if shown is not None:
            self.tops.offer(usd if usd == usd else 0.0, shown)

    def waste(self, kind: str, share: float | None) -> Waste:
        return Waste(
            kind=kind,
            count=self.times,
            episodes=self.episodes,
            share=share,
            tokens=_whole(self.tokens),
            usd=_known(self.usd),
            examples=self.tops.names(),
        )


class _CacheSums:
    """Sums of what was and could have been read from caches."""

    def __init__(self) -> None:
        self.reporting = self.cached = self.prompts = 0.0
        self.repeated = self.elsewhere = self.saved = self.laid_out = 0.0
        self.told = False
        self.tops = Tops()

    def add(self, state: OpenEpisode, shown: str | None) -> None:
        figures = state.figures
        for tokens, cached in zip(figures[1::4], figures[2::4], strict=True):
            if cached == cached:
                self.told = True
                self.cached += cached
                self.reporting += tokens
        self.prompts += state.prompts
        self.repeated += state.repeated
        self.elsewhere += state.elsewhere
        self.saved += state.saved_cached
        self.laid_out += state.saved_laid_out
        if shown is not None and state.saved_laid_out > 0:
            self.tops.offer(state.saved_laid_out, shown)

    def use(self, input_tokens: int) -> CacheUse:
        known = self.prompts > 0
        return CacheUse(
            input_tokens=input_tokens,
            cached_tokens=int(self.cached) if self.told else None,
            hit_rate=self.cached / self.reporting if self.reporting else None,
            repeated_prefix_tokens=round(self.repeated) if known else None,
            repeated_prefix_share=self.repeated / self.prompts if known else None,
            repeated_elsewhere_tokens=round(self.elsewhere) if known else None,
            saving_if_cached_usd=self.saved if known else None,
            saving_if_laid_out_usd=self.laid_out if known else None,
            examples=self.tops.names(),
        )


def _whole_sums(state: OpenEpisode) -> Sequence[float]:
    """Calls, dollars and tokens of an episode."""
    return [len(state), *(sum(state.figures[field::4]) for field in range(4))]


def _sums(state: OpenEpisode, names: Iterable[str]) -> Mapping[str, list[float]]:
    """Calls, dollars and tokens of an episode's calls by their names."""
    sums: dict[str, list[float]] = {}
    figures = iter(state.figures)
    for name, usd, sent, cached, written in zip(names, figures, figures, figures, figures, strict=True):
        found = sums.get(name)
        if found is None:
            sums[name] = [1, usd, sent, cached, written]
            continue
        found[0] += 1
        found[1] += usd
        found[2] += sent
        found[3] += cached
        found[4] += written
    return sums


def _outcome(running: _Running) -> str:
    if running.error is not None:
        return "error"
    return {True: "success", False: "failure", None: "unknown"}[running.success]


def _shown(number: int, call: LogCall, model: str, step_type: str, usd: float | None) -> ExampleCall:
    """What is kept of a call; ``model`` and ``step_type`` are texts that all its like share."""
    usage = call.usage
    return ExampleCall(
        number=number,
        model=model,
        step_type=step_type,
        prompt=call.prompt_preview,
        answer=call.answer_preview,
        input_tokens=usage.input_tokens if usage is not None else None,
        cached_input_tokens=usage.cache_read_tokens if usage is not None and usage.cache_reported else None,
        output_tokens=usage.output_tokens if usage is not None else None,
        usd=usd,
        answerer=call.answerer,
        votes=call.votes,
        demonstrations=call.demonstrations,
    )


def _example(key: str, running: _Running, calls: list[ExampleCall], usd: float | None) -> Example:
    kinds = running.state.kinds
    marked = tuple(_marked(call, kinds[call.number - 1]) for call in calls)
    return Example(
        id=key,
        model="+".join(running.models),
        run=running.run,
        task_id=running.task_id,
        success=running.success,
        error=running.error,
        usd=usd,
        file=running.file,
        line=running.line,
        calls=marked,
    )


def _marked(call: ExampleCall, kind: int) -> ExampleCall:
    marks = tuple(name for mark, name in KINDS.items() if kind & mark)
    if not marks:
        return call
    fields = {name: getattr(call, name) for name in call.__struct_fields__}
    return ExampleCall(**(fields | {"marks": marks}))


def _known(value: float) -> float | None:
    return value if value == value else None


def _whole(value: float) -> int | None:
    return round(value) if value == value else None
