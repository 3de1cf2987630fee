"""What was recorded as spans of OpenTelemetry's GenAI conventions, free of any SDK: pure functions.

What it knows: the conventions' names (package 0.66b2, read 2026-11), our own ``potstill.*`` beside them, W3C's
``traceparent``. What it does not do: messages (``content``), queues, sockets (``export``).

An episode is the span ``invoke_agent``, every upstream call a span ``chat`` below it. Both know their ids without each
other, so that a call is told at once and its episode when it is over, by whichever process. A call whose client said
where it belongs (``traceparent``) is a child of that span instead, and is linked to its episode.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from potstill.errors import NOT_JSON
from potstill.record.identity import TRACE_HEADER
from potstill.record.reading import FAILED_STATUS, read_answer, read_prompt
from potstill.serve.telemetry.content import input_attributes, output_attributes
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Call, Decision, ErrorRecord, Trajectory, Usage
from potstill.wire.neutral import Answer
from potstill.wire.usage import normalise_usage

Attributes = dict[str, Any]
Cost = Callable[[Usage, str], float | None]
"""Dollars of a usage, by the name of a price row; None where there is none."""
_TRACEPARENT = re.compile(r"\A(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|\Z)")
_SAMPLED = 1
_PROVIDERS = {"anthropic": "anthropic"}
"""By dialect; the others speak OpenAI's."""


class Place(NamedTuple):
    """Where a span is: its trace, and its own id there."""

    trace_id: int
    span_id: int


class Span(NamedTuple):
    name: str
    place: Place
    parent: Place | None
    is_call: bool
    start_s: float
    end_s: float
    attributes: Attributes
    error: ErrorRecord | None = None
    links: tuple[Place, ...] = ()


class Peer(NamedTuple):
    """An upstream as spans name it."""

    provider: str
    address: str
    port: int


class Teller:
    """How spans are told: ``cost`` prices them, ``peers`` are the upstreams by name, ``content`` adds what was said."""

    def __init__(self, cost: Cost, peers: Mapping[str, Peer], *, content: bool) -> None:
        self._cost = cost
        self._peers = peers
        self._content = content

    def calls(self, exchange: Exchange) -> list[Span]:
        """A span for each upstream call of an exchange; none where the client's trace is not sampled."""
        root = episode_place(exchange.namespace, exchange.episode_id)
        parent = parent_of(exchange.metadata)
        if parent is not None and not parent[1]:
            return []
        above = root if parent is None else parent[0]
        links = () if parent is None else (root,)
        shared = _of_exchange(exchange, self._content)
        calls = exchange.calls or (_alone(exchange),)
        return [self._call(exchange, call, shared, above, links) for call in calls]

    def episode(self, trajectory: Trajectory, *, again: bool = False) -> Span | None:
        """The span of an episode that is over. ``again``: it was told before and went on; then that is above it."""
        episode_id = str(trajectory.metadata.get("episode_id", trajectory.id))
        root, parent = episode_place(trajectory.namespace, episode_id), None
        said = parent_of(trajectory.metadata)
        if said is not None and not said[1]:
            return None
        if again:
            root, parent = Place(root.trace_id, _random_id()), root
        calls = [call for step in trajectory.steps for call in step.calls]
        dialects = trajectory.metadata.get("dialects") or [""]
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": _PROVIDERS.get(dialects[0], "openai"),
            "gen_ai.conversation.id": episode_id,
            "gen_ai.request.model": trajectory.teacher or trajectory.student,
            **_usage_attributes(_sum(calls)),
            "potstill.cost_usd": self._total(calls),
            **_of_trajectory(trajectory),
        }
        if self._content:
            attributes["potstill.goal"] = trajectory.goal or None
        return Span(
            name="invoke_agent",
            place=root,
            parent=parent,
            is_call=False,
            start_s=trajectory.started_at,
            end_s=trajectory.started_at + trajectory.duration_s,
            attributes=self._said(attributes, trajectory.error),
            error=self._shown(trajectory.error),
            links=() if said is None else (said[0],),
        )

    # --- one call -----------------------------------------------------------------------------------------------------

    def _call(
        self, exchange: Exchange, call: Upstream, shared: Attributes, above: Place, links: tuple[Place, ...]
    ) -> Span:
        answer, problem = _answer(exchange, call)
        peer = self._peers.get(call.upstream, Peer(_PROVIDERS.get(call.dialect, "openai"), "", 0))
        usage = normalise_usage(call.raw_usage) or (answer.usage if answer is not None else None)
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": peer.provider,
            "gen_ai.request.model": call.model,
            "server.address": peer.address or None,
            "server.port": peer.port or None,
            "http.response.status_code": call.status or None,
            **_asked(exchange.request if call.request is None else call.request, call.n),
            **_answered(answer),
            "gen_ai.response.time_to_first_chunk": call.first_byte_s if exchange.streamed else None,
            **_usage_attributes(usage),
            "potstill.answerer": call.answerer.value,
            "potstill.cost_usd": None if usage is None else self._cost(usage, call.price_as or call.model),
            "potstill.shadow": call.shadow or None,
            **shared,
        }
        if self._content:
            attributes |= _content(exchange, call, answer)
        start = call.started_at or exchange.started_at
        return Span(
            name=f"chat {call.model}",
            place=Place(above.trace_id, _random_id()),
            parent=above,
            is_call=True,
            start_s=start,
            end_s=start + call.latency_s,
            attributes=self._said(attributes, problem),
            error=self._shown(problem),
            links=links,
        )

    def _said(self, attributes: Attributes, problem: ErrorRecord | None) -> Attributes:
        """Without what is not known."""
        told = {name: value for name, value in attributes.items() if value is not None}
        return told if problem is None else {**told, "error.type": problem.kind}

    def _shown(self, problem: ErrorRecord | None) -> ErrorRecord | None:
        """An error's words may repeat what was asked: they are content."""
        if problem is None or self._content:
            return problem
        return ErrorRecord(kind=problem.kind, message="")

    def _total(self, calls: Iterable[Call]) -> float | None:
        """Dollars of all calls; None where those of one are not known. Calls that failed unbilled cost nothing."""
        total = 0.0
        for call in calls:
            if call.usage is None and call.error is not None:
                continue
            cost = None if call.usage is None else self._cost(call.usage, call.priced_as or call.model)
            if cost is None:
                return None
            total += cost
        return total


# --- where a span belongs ---------------------------------------------------------------------------------------------


def episode_place(namespace: str, episode_id: str) -> Place:
    """The same in every process. Two tenants' episodes of one name are two traces."""
    named = msgspec.json.encode((namespace, episode_id))
    digest = blake2b(named, digest_size=24, person=b"potstill-episode").digest()
    return Place(int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:], "big") or 1)


def parent_of(metadata: Mapping[str, Any]) -> tuple[Place, bool] | None:
    """The span that the client named, and whether its trace is sampled (W3C Trace Context, section 3.2).

    >>> parent_of({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})[1]
    True
    """
    said = metadata.get(TRACE_HEADER)
    found = _TRACEPARENT.match(said) if isinstance(said, str) else None
    if found is None:
        return None
    place = Place(int(found[1], 16), int(found[2], 16))
    return (place, bool(int(found[3], 16) & _SAMPLED)) if all(place) else None


def _random_id() -> int:
    return int.from_bytes(os.urandom(8), "big") or 1


# --- what a span says -------------------------------------------------------------------------------------------------


def _alone(exchange: Exchange) -> Upstream:
    """A request that no upstream was asked for."""
    return Upstream(
        model=exchange.route,
        upstream="",
        answerer=Answerer.NOBODY,
        dialect=exchange.dialect,
        started_at=exchange.started_at,
        latency_s=exchange.latency_s,
        status=exchange.status,
        error=exchange.error,
    )


def _answer(exchange: Exchange, call: Upstream) -> tuple[Answer | None, ErrorRecord | None]:
    """What one upstream answered, and what went wrong; the client's answer where it is the same (``fold`` does so)."""
    if call.response is not None:
        answer, missing = read_answer(call.dialect, call.response, status=call.status or 200, streamed=None, whole=True)
        return answer, call.error or missing
    if call.error is not None or call.answerer is not exchange.answerer:
        return None, call.error
    answer, missing = read_answer(
        exchange.dialect, exchange.response, status=exchange.status, streamed=exchange.streamed, whole=exchange.complete
    )
    return answer, exchange.error or missing or _refused(call)


def _refused(call: Upstream) -> ErrorRecord | None:
    return ErrorRecord(kind=str(call.status), message="") if call.status >= FAILED_STATUS else None


class _Request(msgspec.Struct):
    """What the conventions want to know of a request; the rest of its bytes is skipped."""

    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    seed: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    stop: Any = None
    stop_sequences: Any = None


_decode_request = msgspec.json.Decoder(_Request).decode


def _asked(body: bytes, n: int) -> Attributes:
    try:
        said = _decode_request(body)
    except NOT_JSON:
        said = _Request()
    stop = said.stop if said.stop is not None else said.stop_sequences
    return {
        "gen_ai.request.choice.count": n if n != 1 else None,
        "gen_ai.request.stream": True if said.stream is True else None,
        "gen_ai.request.max_tokens": _whole(said.max_completion_tokens, said.max_output_tokens, said.max_tokens),
        "gen_ai.request.temperature": _number(said.temperature),
        "gen_ai.request.top_p": _number(said.top_p),
        "gen_ai.request.top_k": _whole(said.top_k),
        "gen_ai.request.seed": _whole(said.seed),
        "gen_ai.request.frequency_penalty": _number(said.frequency_penalty),
        "gen_ai.request.presence_penalty": _number(said.presence_penalty),
        "gen_ai.request.stop_sequences": _texts(stop),
    }


def _answered(answer: Answer | None) -> Attributes:
    if answer is None:
        return {}
    return {
        "gen_ai.response.id": answer.id or None,
        "gen_ai.response.model": answer.model or None,
        "gen_ai.response.finish_reasons": [choice.finish.value for choice in answer.choices] or None,
    }


def _content(exchange: Exchange, call: Upstream, answer: Answer | None) -> Attributes:
    own = call.request is not None
    dialect = call.dialect if own else exchange.dialect
    prompt, _ = read_prompt(dialect, call.request if call.request is not None else exchange.request)
    told = {} if prompt is None else input_attributes(prompt, dialect)
    return told if answer is None else told | output_attributes(answer)


def _of_exchange(exchange: Exchange, content: bool) -> Attributes:
    """What all calls of an exchange have in common."""
    use = exchange.playbook
    return {
        "gen_ai.conversation.id": exchange.episode_id,
        "potstill.tenant": exchange.namespace,
        "potstill.route": exchange.route,
        "potstill.request.id": exchange.request_id or None,
        "potstill.task.id": _text(exchange.metadata.get("task")),
        "potstill.stage": exchange.stage or None,
        "potstill.demonstrations": len(exchange.demonstrations) or None,
        "potstill.playbook": None if use is None else use.name,
        "potstill.bullets": None if use is None else list(use.shown) or None,
        **({} if exchange.decision is None else _of_decision(exchange.decision, content)),
    }


def _of_decision(decision: Decision, content: bool) -> Attributes:
    """``votes``: how many samples wanted each action, the most wanted first; what they said is content."""
    counts = Counter(vote.key for vote in decision.votes if vote.key is not None)
    invalid = sum(vote.key is None for vote in decision.votes)
    return {
        "potstill.decision.answerer": decision.answerer.value,
        "potstill.decision.reason": decision.reason.value,
        "potstill.decision.mode": None if decision.mode is None else decision.mode.value,
        "potstill.decision.agreement": decision.agreement,
        "potstill.decision.samples": decision.samples or None,
        "potstill.decision.votes": [count for _, count in counts.most_common()] or None,
        "potstill.decision.invalid_votes": invalid or None,
        "potstill.decision.vote_texts": [vote.text for vote in decision.votes] or None if content else None,
    }


def _of_trajectory(trajectory: Trajectory) -> Attributes:
    answerers = Counter(step.answerer for step in trajectory.steps)
    outcome = trajectory.outcome
    return {
        "potstill.tenant": trajectory.namespace,
        "potstill.trajectory.id": trajectory.id,
        "potstill.task.id": trajectory.task.id,
        "potstill.kind": trajectory.kind.value,
        "potstill.stage": trajectory.arm or None,
        "potstill.steps": len(trajectory.steps),
        "potstill.steps.student": answerers[Answerer.STUDENT],
        "potstill.steps.teacher": answerers[Answerer.TEACHER],
        "potstill.outcome.success": None if outcome is None else outcome.success,
        "potstill.outcome.score": None if outcome is None else outcome.score,
        "potstill.outcome.source": None if outcome is None else outcome.source.value,
    }


def _usage_attributes(usage: Usage | None) -> Attributes:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens if usage.cache_reported else None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
    }


def _sum(calls: Iterable[Call]) -> Usage | None:
    held = [call.usage for call in calls if call.usage is not None]
    if not held:
        return None
    return Usage(
        input_tokens=sum(one.input_tokens for one in held),
        cache_read_tokens=sum(one.cache_read_tokens for one in held),
        cache_write_tokens=sum(one.cache_write_tokens for one in held),
        output_tokens=sum(one.output_tokens for one in held),
        reasoning_tokens=sum(one.reasoning_tokens for one in held),
        cache_reported=all(one.cache_reported for one in held),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(*values: Any) -> int | None:
    """The first whole number that OTLP can hold."""
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and -(2**63) <= v < 2**63), None)


def _texts(value: Any) -> list[str] | None:
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str)] or None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
