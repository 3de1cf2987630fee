"""Weights for the parts of a text that a language model learns: reasoning, a tool's name, its arguments.

``span_weights`` makes one weight a token and needs no PyTorch, so exporters write the same column; ``span_mean``
applies them. Reasoning and acting are weighted apart as in arXiv 2505.13820, section 3. It does not find the spans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from potstill.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class SpanKind(StrEnum):
    REASONING = "reasoning"
    TOOL_NAME = "tool-name"
    ARGUMENTS = "arguments"
    TEXT = "text"
    """An action in words, or what is said beside a call."""


class Span(NamedTuple):
    """Tokens ``start`` (inclusive) to ``stop`` (exclusive) of one kind."""

    start: int
    stop: int
    kind: SpanKind


class Per(StrEnum):
    TOKEN = "token"
    """Each token of a kind has the kind's weight: long reasoning outweighs a tool's name of two tokens."""
    KIND = "kind"
    """The tokens of a kind share the kind's weight: its weight is its say in the row, however long it is."""


def span_weights(
    length: int, spans: Sequence[Span], weights: Mapping[SpanKind, float], *, per: Per = Per.TOKEN
) -> tuple[float, ...]:
    """One weight for each of ``length`` tokens; a token outside all spans, or of a kind not named, has 0.

    Raises ``ConfigError`` for spans that overlap or leave the text, and for weights below 0 or not finite.

    >>> span_weights(5, [Span(0, 3, SpanKind.REASONING), Span(3, 4, SpanKind.TOOL_NAME)],
    ...              {SpanKind.REASONING: 0.5, SpanKind.TOOL_NAME: 2.0})
    (0.5, 0.5, 0.5, 2.0, 0.0)
    """
    for kind, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"The weight {weight} of '{kind}' is not possible. Give 0 or more.")
    _check(length, spans)
    sizes: dict[SpanKind, int] = {}
    for span in spans:
        sizes[span.kind] = sizes.get(span.kind, 0) + span.stop - span.start
    made = [0.0] * length
    for start, stop, kind in spans:
        shared = sizes[kind] if per == Per.KIND else 1
        made[start:stop] = [weights.get(kind, 0.0) / shared] * (stop - start)
    return tuple(made)


def _check(length: int, spans: Sequence[Span]) -> None:
    end = 0
    for span in sorted(spans):
        if not 0 <= span.start < span.stop <= length:
            raise ConfigError(f"The span {tuple(span)} is empty or leaves the text of {length} tokens.")
        if span.start < end:
            raise ConfigError(f"The span {tuple(span)} overlaps another: a token belongs to one span.")
        end = span.stop


def span_mean(losses_BT: Tensor, weights_BT: Tensor, total: float | Tensor | None = None) -> Tensor:
    """``sum(w * loss) / sum(w)`` over all tokens, as ``rows.weighted_mean``; tokens of weight 0 are not looked at."""
    from potstill.distill.weights.losses.rows import weighted_mean

    if losses_BT.shape != weights_BT.shape:
        raise ConfigError(
            f"There are losses for {tuple(losses_BT.shape)} tokens and weights for {tuple(weights_BT.shape)}."
        )
    return weighted_mean(losses_BT, weights_BT, total)
