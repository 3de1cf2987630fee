"""What the parts of a gateway count, as families of the metrics page.

What it knows: who keeps which numbers, and that labels come from the settings or from fixed lists, never from clients.
What it does not do: count, or the page's format (``metrics``).
"""

from __future__ import annotations

from collections.abc import Mapping

from potstill.decide.rollout import Stage
from potstill.serve.deciding.decider import GatewayDecider
from potstill.serve.deciding.verdicts import Verdicts
from potstill.serve.recording.checking import Checkers
from potstill.serve.recording.meeting import Meeting
from potstill.serve.telemetry.metrics import Labels, Metrics
from potstill.serve.tenants.gate import TenantGate


def tell_gate(metrics: Metrics, gate: TenantGate) -> None:
    """Refusals, and what went wrong in counting what tenants spend."""
    metrics.tell(
        "potstill_gate_refused_total",
        "Requests that were refused for their key, its limits or budgets.",
        ("kind",),
        lambda: {(kind,): count for kind, count in gate.refused.items()},
    )
    names = ("unpriced", "lost", "store_failures")

    def problems() -> Mapping[Labels, float]:
        counters = gate.counters()
        return {(name,): counters[name] for name in names}

    metrics.tell("potstill_gate_problems_total", "What was charged by estimate, or not at once.", ("what",), problems)


def tell_meeting(metrics: Metrics, meeting: Meeting) -> None:
    metrics.tell(
        "potstill_meeting_failures_total",
        "Questions of episodes to other gateways, and answers to theirs, that the store did not take in time.",
        (),
        lambda: {(): meeting.failures},
    )


def tell_decider(metrics: Metrics, decider: GatewayDecider) -> None:
    """Who answers and why, agreement, stages, and what the state's store did not take."""
    metrics.tell(
        "potstill_decisions_total",
        "Requests of routes with a student, by who answers and why.",
        ("route", "answerer", "reason"),
        lambda: {(*key,): count for key, count in decider.decided.items()},
    )
    metrics.tell(
        "potstill_student_asked_total",
        "Steps at which the student was asked, by who then acted: the teacher's share is the escalation rate.",
        ("route", "acts"),
        lambda: {(*key,): count for key, count in decider.asked.items()},
    )
    metrics.tell(
        "potstill_shadow_total",
        "Shadowed steps: whether the student would have acted, and whether it agreed with the teacher.",
        ("route", "acted", "agreed"),
        lambda: {(*key,): count for key, count in decider.shadowing.seen.items()},
    )
    metrics.tell(
        "potstill_shadow_jobs_total",
        "Exchanges for the student beside the teacher.",
        ("what",),
        lambda: {(what,): count for what, count in decider.shadowing.queue.counts.items()},
    )
    metrics.tell(
        "potstill_policy_loads_total",
        "Newer files of policies: taken up, refused, or to be tried again.",
        ("model", "what"),
        lambda: {(*key,): count for key, count in decider.reloading.counts.items()},
    )
    metrics.tell(
        "potstill_state_failures_total",
        "Times that shared state could not be read or written.",
        ("what",),
        lambda: {("stages",): decider.stages.failures, ("episodes",): decider.kept.failures},
    )
    metrics.tell(
        "potstill_rollout_stage",
        "1 for the stage that a route is in.",
        ("route", "stage"),
        lambda: {
            (name, stage.value): float(
                (decider.stages.placed_by_mode(name) or decider.stages.row(name).rollout.stage) is stage
            )
            for name in decider.stages.staged
            for stage in Stage
        },
        "gauge",
    )
    metrics.gauge("potstill_killed", "1 while everything goes to the teacher.", lambda: decider.stages.switch.killed)


def tell_outcomes(metrics: Metrics, verdicts: Verdicts | None, checkers: Checkers) -> None:
    """What outcomes did for the rollout, and what checkers said."""
    if verdicts is not None:
        metrics.tell(
            "potstill_outcomes_total",
            "Outcomes that were told, by what they did for a rollout.",
            ("what",),
            lambda: {(what,): count for what, count in verdicts.counts.items()},
        )
    metrics.tell(
        "potstill_checks_total",
        "Episodes that a checker plug-in was asked about.",
        ("said",),
        lambda: {(said,): count for said, count in checkers.counts.items()},
    )
