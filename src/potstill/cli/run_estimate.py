"""What a plan will cost, as ``--dry-run`` prints it: tokens and dollars of each arm, and what was assumed.

It opens nothing, records nothing and spends nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.cli.output import emit_table, note
from potstill.cli.run_plan import Plan
from potstill.distill.playbook.budget import Budget
from potstill.envs.registry import describe
from potstill.run.arms import Agent, Arm, Reasoning
from potstill.run.estimate import Assumptions, estimate_arm, expected_steps
from potstill.run.runner import RunConfig


def print_estimate(plan: Plan, json_mode: bool) -> None:
    """Episodes, tokens and dollars of each arm, uncached."""
    config = plan.config
    given = _assumptions(config)
    student = token_price(plan, config.price_student_as or config.student)
    teacher = token_price(plan, config.price_teacher_as or config.teacher)
    rows = []
    for arm in config.arms:
        estimate = estimate_arm(arm, len(plan.tasks) * config.seeds, given)
        rows.append((*msgspec.structs.astuple(estimate), estimate.cost_usd(student, teacher)))
    unpriced = {config.student: student, config.teacher: teacher, None: (0.0, 0.0)}
    for model in (model for model, price in unpriced.items() if price is None):
        note(f"No price for '{model}': its cost is left out. Add it to potstill-prices.toml, or price it as another.")
    columns = (*(field.name for field in msgspec.structs.fields(estimate)), "uncached_cost_usd")
    emit_table(columns, rows, json_mode=json_mode, title=f"{config.run_id}: an estimate, nothing was recorded")
    note(_assumed(config, given))


def steps_of(config: RunConfig) -> int:
    """Steps to expect of an episode: half of what it may take, or all where ``--max-steps`` cuts it short."""
    return expected_steps(config.max_steps, describe(config.environment, **config.environment_options).max_steps)


def token_price(plan: Plan, model: str | None) -> tuple[float, float] | None:
    """Dollars of an input and of an output token; None where the model has no price."""
    if model is None or not plan.prices.has(model):
        return None
    rates, _ = plan.prices.price(model).rates_for(0)
    return (rates.input or 0.0) / 1e6, (rates.output or 0.0) / 1e6


def _assumptions(config: RunConfig) -> Assumptions:
    budget: Any = config.playbook_config.get("budget", {})
    usual, share = Assumptions(), config.escalation_share
    return Assumptions(
        steps=steps_of(config),
        playbook_tokens=min(budget.get("tokens", Budget().tokens), usual.playbook_tokens),
        escalation=usual.escalation if share is None else share,
    )


def _assumed(config: RunConfig, given: Assumptions) -> str:
    """One line; of texts that are written freely, the lengths of those that some arm's agents write."""
    agents = [agent for arm in config.arms for agent in _asked(arm)]
    lengths = (
        ("reasoning", given.reasoning_tokens, any(agent.reasoning is not Reasoning.NONE for agent in agents)),
        ("plan", given.plan_tokens, any(arm.plans for arm in config.arms)),
        ("first thought", given.first_thought_tokens, any(agent.first_thought for agent in agents)),
    )
    written = ", ".join(f"{tokens} tokens a {what}" for what, tokens, there in lengths if there)
    told = f"{written} (to be expected; the limits are higher), " if written else ""
    steps = "1 step" if given.steps == 1 else f"{given.steps} steps"
    source = "" if config.escalation_share is None else " (as the calibration saw)"
    return f"Assumed: {steps} an episode, {given.escalation:.1%} escalation{source}, {told}nothing cached."


def _asked(arm: Arm) -> list[Agent]:
    sides = ((arm.student_agent, arm.needs_student), (arm.teacher_agent, arm.needs_teacher))
    return [agent for agent, needed in sides if needed]
