"""What ``potstill export`` says of both sides, whatever was exported: what each takes, and how the file compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from potstill.cli.output import note

if TYPE_CHECKING:
    from potstill.distill.weights.compress.cost import Cost
    from potstill.distill.weights.gate import Parity
    from potstill.distill.weights.gate_success import Success


def sides(
    trained: tuple[str, int, Cost], exported: tuple[str, int, Cost], compared: Parity, success: Success | None
) -> list[dict[str, Any]]:
    """A row of each side, given as name, bytes and cost; ``compared``: the exported one against the other."""
    found = compared.summary()
    shares = (None, None) if success is None else (success.trained, success.exported)
    return [
        _row(*trained, None, None, shares[0]),
        _row(*exported, found["agreement"], found["kl_nats"], shares[1]),
    ]


def _row(
    name: str, size: int, cost: Cost, agreement: float | None, kl_nats: float | None, success: float | None
) -> dict[str, Any]:
    return {
        "student": name,
        "size_bytes": size,
        "latency_ms": round(cost.latency_ms, 3),
        "cpu_ms": round(cost.cpu_ms, 3),
        "memory_bytes": cost.memory_bytes,
        "agreement": agreement,
        "kl_nats": kl_nats,
        "success": success,
    }


def tell_success(success: Success | None) -> None:
    """Say how far the difference of successes is known; nothing where no episode was played."""
    if success is not None:
        low, high = success.interval
        note(
            f"Success: {success.difference:+.1%} (95 %: {low:+.1%} to {high:+.1%}) on {success.episodes} held-out "
            f"tasks that both played; {success.margin:.1%} less is allowed."
        )
