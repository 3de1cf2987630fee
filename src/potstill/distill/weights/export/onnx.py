"""A policy's file becomes an ONNX file that answers alike, or nothing is written.

Three passes of the gate stand behind a file: training wrote the policy only if numpy decides as PyTorch did; fewer
bits, where they are asked for, must decide almost as the policy; and ONNX Runtime, reading back what is on the disk,
must compute the same as numpy. Where episodes are played, it must do as many tasks. Knows files and the gate. Does not
know graphs (``networks``), nor play episodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.distill.weights.compress.cost import Cost, cost, memory_bytes, resident_bytes
from potstill.distill.weights.compress.quantize import in_bits
from potstill.distill.weights.export.networks import graph_of
from potstill.distill.weights.export.runtime import load_runtime, onnx_side, session
from potstill.distill.weights.gate import COMPRESSED, EXACT, Floor, GateFailed, Parity, Side, compare, edge_side
from potstill.distill.weights.gate_success import Outcomes, success
from potstill.distill.weights.lineage import Manifest, parent, read, write_beside
from potstill.durable import partial_of, sync_folder, telling
from potstill.edge.policy import Policy, network
from potstill.errors import ConfigError
from potstill.types import Struct

Play = Callable[[Side, Policy], tuple[Outcomes, Outcomes]]
"""The ONNX file as the gate asks it, and the policy that was written -> outcomes of the policy as it was given, and of
the file, on the same episodes."""


class Exported(Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    size_bytes: int
    lineage: str
    """Where its manifest lies."""
    bits: int
    """8 where the weights are kept as int8, else 32."""
    parity: Parity
    """ONNX Runtime against numpy with the same weights; where episodes were played, against the policy as given."""
    policy_cost: Cost
    """Of the policy as it was given, in numpy."""
    cost: Cost
    """Of the file in ONNX Runtime, with one thread; its memory is what the process grew by."""
    quantized: Parity | None = None
    """Fewer bits against the policy as it was given; None: they were not asked for."""


def export(
    source: Path,
    policy: Policy,
    out: Path,
    questions: Sequence[Any],
    *,
    bits: int | None = None,
    floor: Floor = COMPRESSED,
    play: Play | None = None,
    success_margin: float = EXACT.success_margin,
    key: Path | None = None,
    created: str = "",
) -> Exported:
    """Write the policy that was opened from ``source`` as ONNX: one file, sizes of batches and texts free, equal bytes
    for equal policies, and its manifest beside it.

    ``bits``: 8 rounds float weights first, and the result must reach ``floor``. ``play`` is asked only where the logits
    pass; the share of successes may be ``success_margin`` lower. Raises ``GateFailed`` (nothing is
    written), ``MissingExtra``, ``ConfigError``, ``StoreError``.
    """
    load_runtime()
    if bits not in (None, 8):
        raise ConfigError(f"{bits} bits a weight are not known for ONNX. Allowed: 8, or as the policy has them.")
    if out.resolve() == source.resolve():
        raise ConfigError(f"{out} is the policy itself. Give another name, such as {source.with_suffix('.onnx').name}.")
    quantized, written = None, policy
    if bits is not None:
        arrays = in_bits(policy.arrays, bits)
        written = Policy(network(arrays, policy.config), policy.config, policy.manifest, arrays, policy.temperature)
        quantized = _passed(compare(edge_side(policy), edge_side(written), questions, floor=floor))
    partial = partial_of(out)
    try:
        data = graph_of(written)
        with telling(out), partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        before = resident_bytes()
        side = onnx_side(session(partial), written.config)
        exact = msgspec.structs.replace(EXACT, success_margin=success_margin)
        side(questions[:1])
        opened = resident_bytes()
        parity = _passed(compare(edge_side(written), side, questions, floor=exact))
        if play is not None:
            told = success(*play(side, written), margin=success_margin)
            parity = _passed(msgspec.structs.replace(parity, success=told))
        with telling(out):
            os.replace(partial, out)
            sync_folder(out.parent)
    finally:
        partial.unlink(missing_ok=True)
    few = any(name.endswith(".weight.scale") for name in written.arrays)
    manifest = _manifest(source, written, {"parity": parity.summary(), "quantized": _summary(quantized)}, created)
    beside = write_beside(out, manifest, key)
    return Exported(
        path=str(out),
        size_bytes=len(data),
        lineage=str(beside),
        bits=8 if few else 32,
        parity=parity,
        quantized=quantized,
        policy_cost=cost(edge_side(policy), questions, memory_bytes(policy.arrays, policy.config, questions[0])),
        cost=cost(side, questions, None if before is None or opened is None else max(0, opened - before)),
    )


def _manifest(source: Path, policy: Policy, metrics: dict[str, Any], created: str) -> Manifest:
    past = read(source).manifest
    return msgspec.structs.replace(
        past,
        kind=f"{policy.kind}-onnx",
        created=created,
        configuration={"export": "onnx"},
        metrics=metrics,
        parents=(parent(source),),
        signer="",
        arrays_sha256="",
        config_sha256="",
    )


def _passed(parity: Parity) -> Parity:
    if not parity.passed:
        raise GateFailed(parity)
    return parity


def _summary(parity: Parity | None) -> dict[str, Any] | None:
    return None if parity is None else parity.summary()
