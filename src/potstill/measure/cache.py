"""Simulate a provider's prompt cache over the calls of one episode, where the endpoint did not report it.

What it knows: which prefix of a prompt an earlier call of the same episode to the same model left in the cache, under
the provider's rule (shortest prefix, lifetime, block size, what is written). What it does not do: prices.

How it counts. Prompts are matched message by message; where the provider matches tokens, the shared start of the first
message that differs counts too. Tokens of a prefix are its share of the prompt's characters times the call's input
tokens: an estimate, since only the whole prompt's tokens are known. Other episodes never warm the cache: a lower bound.
A prompt is readable once the call that wrote it has ended, so samples asked for together do not help each other.
Calls that are priced as another model have clocks that say nothing about that model: for them nothing expires.
``Pricing.cache_ttl`` "1h" writes entries for an hour where the provider lists a rate for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from potstill.measure.ledger import (
    AS_RECORDED,
    CachePolicy,
    LedgerRow,
    Pricing,
    basis_of,
    cost_of,
    requests_of,
    turned_away,
)
from potstill.measure.prices.cache_rules import CacheRule
from potstill.measure.prices.rows import ModelPrice
from potstill.measure.prices.table import PriceTable
from potstill.types import Call, Message, Usage

IMAGE_CHARACTERS = 3000
"""What an image counts beside text when a prompt's tokens are shared out: about 750 tokens."""
MESSAGE_CHARACTERS = 12
"""Role and separators of a message, about three tokens."""
_SIBLINGS = 4


def ledger(
    calls: Iterable[Call], table: PriceTable, *, cache: CachePolicy = "reported", pricing: Pricing = AS_RECORDED
) -> list[LedgerRow]:
    """The ledger rows of one episode's calls, in the order in which they were made. Raises ``UnknownPrice``."""
    simulated = PromptCache() if cache == "simulated" else None
    rows = []
    for call in calls:
        usage = simulated.usage(call, table, pricing) if simulated is not None else None
        rows.append(cost_of(call, table, cache=cache, pricing=pricing, usage=usage))
    return rows


class _Node:
    """A prefix of messages: how long it is, since when it can be read, when it was last used."""

    __slots__ = ("characters", "children", "last_used", "ready_at")

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.ready_at = float("inf")
        self.last_used = float("-inf")
        self.children: dict[Message | bytes, _Node] = {}


class PromptCache:
    """The simulated caches of one episode, one for each price row."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}

    def usage(self, call: Call, table: PriceTable, pricing: Pricing = AS_RECORDED) -> Usage | None:
        """The call's tokens with cache reads and writes filled in; unchanged where the priced model reported them."""
        if call.usage is None or turned_away(call):
            return call.usage
        basis = basis_of(call, table, pricing)
        if basis.price is None or (call.usage.cache_reported and basis.priced_as is None):
            return call.usage
        timed = basis.priced_as is None and call.started_at > 0
        hour = pricing.cache_ttl == "1h" and price_has_an_hour(basis.price)
        held = self._simulate(call, call.usage, basis.price, timed, requests_of(call, basis), hour)
        return held if pricing.cache_reliability == 1 else _partly_found(held, basis.price, pricing, hour)

    def _simulate(self, call: Call, usage: Usage, price: ModelPrice, timed: bool, requests: int, hour: bool) -> Usage:
        """The first of ``requests`` equal requests meets the cache as it is, the others what the first one left."""
        rule = msgspec.structs.replace(price.cache, ttl_s=3600.0) if hour else price.cache
        parts = _parts(call)
        sizes = [_characters(part) for part in parts]
        total = sum(sizes) or 1
        per_character = usage.input_tokens / total
        now = call.started_at if timed else 0.0
        root = self._roots.setdefault(price.row, _Node(0))
        read = _blocks(int(_readable(root, parts, rule, now, timed) * per_character), rule)
        writable = parts[:-1] if rule.explicit else parts
        end = sum(sizes[: len(writable)])
        stored = usage.input_tokens if end == total else int(end * per_character)
        stored = max(read, _blocks(stored, rule))
        if stored:
            _store(root, writable, rule, now, now + (call.latency_s if timed else 0.0))
        written = stored - read if _writes_cost(price) else 0
        return msgspec.structs.replace(
            usage,
            input_tokens=usage.input_tokens * requests,
            cache_read_tokens=read + (requests - 1) * stored,
            cache_write_tokens=written,
            cache_write_1h_tokens=written if hour else 0,
        )


def _writes_cost(price: ModelPrice) -> bool:
    return price.cache.explicit or price.rates.cache_write is not None


def _partly_found(held: Usage, price: ModelPrice, pricing: Pricing, hour: bool) -> Usage:
    """The same tokens where only a share of the reads finds its entry; what is not found is written again."""
    lost = held.cache_read_tokens - int(held.cache_read_tokens * pricing.cache_reliability)
    written = held.cache_write_tokens + (lost if _writes_cost(price) else 0)
    return msgspec.structs.replace(
        held,
        cache_read_tokens=held.cache_read_tokens - lost,
        cache_write_tokens=written,
        cache_write_1h_tokens=written if hour else 0,
    )


def price_has_an_hour(price: ModelPrice) -> bool:
    """Whether clients of this model may ask for entries that live an hour, at a write rate of their own."""
    return price.cache.explicit and price.rates.cache_write_1h is not None


def _parts(call: Call) -> list[Message | bytes]:
    tools: list[Message | bytes] = [msgspec.json.encode(call.tools)] if call.tools else []
    return [*tools, *call.prompt]


def _characters(part: Message | bytes) -> int:
    if isinstance(part, bytes):
        return len(part)
    if not part.tool_calls and not part.images:
        return len(part.content) + MESSAGE_CHARACTERS
    calls = sum(len(call.name) + len(call.arguments) for call in part.tool_calls)
    return len(part.content) + calls + IMAGE_CHARACTERS * len(part.images) + MESSAGE_CHARACTERS


def _blocks(tokens: int, rule: CacheRule) -> int:
    """``tokens`` cut down to whole blocks; zero below the provider's minimum."""
    whole = tokens - tokens % rule.block_tokens
    return whole if whole >= max(rule.minimum_tokens, 1) else 0


def _readable(root: _Node, parts: list[Message | bytes], rule: CacheRule, now: float, timed: bool) -> float:
    """Characters of the longest prefix of ``parts`` that is in the cache; marks what was used."""
    node = root
    for part in parts:
        child = node.children.get(part)
        if child is None or not _alive(child, rule, now, timed):
            return node.characters + (0 if rule.explicit else _shared_start(node, part, rule, now, timed))
        child.last_used = now
        node = child
    return node.characters


def _alive(node: _Node, rule: CacheRule, now: float, timed: bool) -> bool:
    return not timed or (node.ready_at <= now and now - node.last_used <= rule.ttl_s)


def _shared_start(node: _Node, part: Message | bytes, rule: CacheRule, now: float, timed: bool) -> int:
    """Characters at the start of ``part`` that a cached sibling has too (text only, newest siblings)."""
    if not isinstance(part, Message):
        return 0
    newest = list(node.children.items())[-_SIBLINGS:]
    texts = [
        sibling.content
        for sibling, child in newest
        if isinstance(sibling, Message) and sibling.role == part.role and _alive(child, rule, now, timed)
    ]
    return max((_common_start(part.content, text) for text in texts), default=0)


def _common_start(a: str, b: str) -> int:
    """Length of the longest common prefix, by bisection (slices compare at C speed)."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _store(root: _Node, parts: list[Message | bytes], rule: CacheRule, now: float, ready_at: float) -> None:
    node = root
    for part in parts:
        child = node.children.pop(part, None)
        if child is None:
            child = _Node(node.characters + _characters(part))
        node.children[part] = child
        expired = now - child.last_used > rule.ttl_s
        child.ready_at = ready_at if expired else min(child.ready_at, ready_at)
        child.last_used = max(child.last_used, now)
        node = child
