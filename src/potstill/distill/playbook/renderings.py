"""Pages in recorded prompts, without what was forgotten: in episodes, and in exchanges that are not one yet.

What it knows: how a bullet's line stands in a prompt, and in the JSON of a request. What it does not do: SQL
(``trajectories.renderings``), find words in other places (``traces``): what a model, a user or an environment said of a
bullet is theirs, stays, and is to be scanned for.

A line goes where its bullet is gone from the book that the episode was given, and where it says what an erased text
said. ``[b-7] (forgotten)`` stands in its place: ids are not given again, so this says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator

import msgspec

from potstill.distill.playbook.apply import Entry
from potstill.distill.playbook.neutral import content
from potstill.distill.playbook.traces import Trace, fold, traces
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange
from potstill.types import Call, Message, PlaybookUse, Struct, Trajectory

INSTEAD = "(forgotten)"
"""What stands behind the id of a line that was erased."""
_LINE = re.compile(r"^\[(b-[1-9][0-9]{0,17})\] (.*(?:\n {4}.*)*)", re.MULTILINE)
_MAY = "[b-"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class StillThere(Struct, frozen=True, kw_only=True):
    """An episode that holds words of an erased text after the pages in its prompts lost them."""

    episode: str
    open: bool
    """It is not a trajectory yet."""
    trace: Trace


def gone(entries: Iterable[Entry], bullets: Collection[str]) -> frozenset[str]:
    """Bullets that a book once had and nobody is left to have taught, whenever that was forgotten."""
    return frozenset(id for entry in entries for id in entry.ids) - frozenset(bullets)


class Pages:
    """Takes lines of one book out of prompts. ``texts``: erased ones; ``gone``: ids of bullets that are no more."""

    def __init__(self, book: str, texts: Iterable[str], gone: Collection[str]) -> None:
        self._book = book
        self._said = frozenset(_same(form) for text in texts for form in (text, content(text)))
        self._gone = frozenset(gone)

    def __bool__(self) -> bool:
        return bool(self._said or self._gone)

    def may_hold(self, message: Message) -> bool:
        """Whether it would lose a line in an episode that was given this book."""
        return self.text(message.content, given=True) != message.content

    def text(self, text: str, *, given: bool) -> str:
        """A prompt's text. ``given``: the episode was given this book, so that its ids mean these bullets."""
        if _MAY not in text:
            return text
        return _LINE.sub(lambda line: self._instead(line, given), text)

    def _instead(self, line: re.Match[str], given: bool) -> str:
        if (given and line[1] in self._gone) or (line[2] != INSTEAD and _same(line[2]) in self._said):
            return f"[{line[1]}] {INSTEAD}"
        return line[0]

    # --- of an episode ----------------------------------------------------------------------------------------------

    def episode(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with other prompts; the same object where nothing goes."""
        given = self._given(trajectory.playbook)
        known: dict[Message, Message] = {}

        def call_without(call: Call) -> Call:
            prompt = tuple(known[one] if one in known else self._keep(known, one, given) for one in call.prompt)
            return call if prompt == call.prompt else msgspec.structs.replace(call, prompt=prompt)

        steps = tuple(
            msgspec.structs.replace(step, calls=tuple(map(call_without, step.calls))) for step in trajectory.steps
        )
        return trajectory if steps == trajectory.steps else msgspec.structs.replace(trajectory, steps=steps)

    def _keep(self, known: dict[Message, Message], message: Message, given: bool) -> Message:
        text = self.text(message.content, given=given)
        known[message] = message if text == message.content else msgspec.structs.replace(message, content=text)
        return known[message]

    def _given(self, use: PlaybookUse | None) -> bool:
        return use is not None and use.name == self._book

    # --- of an exchange ---------------------------------------------------------------------------------------------

    def exchange(self, exchange: Exchange) -> Exchange:
        """The exchange with other requests; the same object where nothing goes."""
        given = self._given(exchange.playbook)
        calls = tuple(
            call if call.request is None else msgspec.structs.replace(call, request=self.body(call.request, given))
            for call in exchange.calls
        )
        request = self.body(exchange.request, given)
        if calls == exchange.calls and request == exchange.request:
            return exchange
        return msgspec.structs.replace(exchange, request=request, calls=calls)

    def body(self, body: bytes, given: bool) -> bytes:
        """A request's JSON: all bytes but those of texts that lose a line stay."""

        def one(string: re.Match[bytes]) -> bytes:
            spelt = string[0]
            if _MAY.encode() not in spelt:
                return spelt
            try:
                text = json.loads(spelt, strict=False)
            except ValueError:
                return spelt
            without = self.text(text, given=given)
            return spelt if without == text else json.dumps(without, ensure_ascii=spelt.isascii()).encode()

        return _STRING.sub(one, body) if _MAY.encode() in body else body


def _same(text: str) -> str:
    """What makes two lines say the same."""
    return fold(text) or text.strip()


def erase(store: Store, namespace: str, pages: Pages) -> tuple[str, ...]:
    """Rewrite a tenant's prompts, recorded and not yet folded; ids of the episodes that changed, each once."""
    if not pages:
        return ()
    changed = store.rewrite_prompts(namespace, pages.may_hold, pages.episode)
    return tuple(dict.fromkeys((*changed, *store.rewrite_journal(namespace, pages.exchange))))


def would_erase(store: Store, namespace: str, pages: Pages) -> tuple[str, ...]:
    """Episodes that ``erase`` would change."""
    if not pages:
        return ()
    ids = [id for id in store.prompted(namespace, pages.may_hold) if _changes(store, namespace, id, pages)]
    for one in store.open_episodes(namespace):
        found = store.episode(namespace, one.episode_id).exchanges
        if any(pages.exchange(row.exchange) is not row.exchange for row in found):
            ids.append(one.episode_id)
    return tuple(dict.fromkeys(ids))


def _changes(store: Store, namespace: str, id: str, pages: Pages) -> bool:
    trajectory = store.get(id, namespace=namespace)
    return pages.episode(trajectory) is not trajectory


def still_there(store: Store, namespace: str, texts: Collection[str]) -> tuple[StillThere, ...]:
    """Episodes of a tenant in whose prompts, answers or observations words of erased texts stand."""
    if not texts:
        return ()
    hits: dict[tuple[str, bool], Trace] = {}
    for trace in traces(texts, "", store.recorded_texts(namespace)):
        for episode in store.episodes_at(namespace, trace.place):
            hits.setdefault((episode, False), trace)
    for trace in traces(texts, "", _open_texts(store, namespace)):
        hits.setdefault((trace.place, True), trace)
    return tuple(StillThere(episode=id, open=open_, trace=trace) for (id, open_), trace in hits.items())


def _open_texts(store: Store, namespace: str) -> Iterator[tuple[str, str]]:
    for one in store.open_episodes(namespace):
        for row in store.episode(namespace, one.episode_id).exchanges:
            exchange = row.exchange
            bodies = [exchange.request, exchange.response]
            bodies += [body for call in exchange.calls for body in (call.request, call.response) if body]
            yield from ((one.episode_id, body.decode(errors="replace")) for body in dict.fromkeys(bodies))
