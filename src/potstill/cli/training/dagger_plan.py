"""What ``distill weights --dagger`` will play and ask, from its options. Nothing is opened or spent here."""

from __future__ import annotations

from typing import Any, NamedTuple

from potstill.cli.run_plan import pairs
from potstill.decide.policy import Certainty
from potstill.distill.weights.train.mixing import Dagger, beta_of
from potstill.envs.registry import describe
from potstill.errors import ConfigError, UnknownName
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.run.estimate import Assumptions, expected_steps
from potstill.run.runner import RunConfig


class DaggerPlan(NamedTuple):
    """Rounds of labels that are ready to be asked for."""

    recipe: Dagger
    run: RunConfig
    """Without arms: each round is one."""
    rule: str
    """When two actions are the same, as the environment has it."""
    jobs: int
    prices: PriceTable
    pricing: Pricing


def planned(options: dict[str, Any], environment: str) -> DaggerPlan:
    """Raises ``ConfigError``, ``UnknownName``, ``UnknownPrice``."""
    if options["student"] != "ranker":
        raise ConfigError(f"--dagger teaches a ranker, not '{options['student']}'. Leave one of them away.")
    if options["labels"] is None:
        raise ConfigError("--dagger asks a teacher, and nothing says how often. Type for example: --labels 500")
    if options["teacher"] is None:
        raise ConfigError("--dagger needs somebody to ask. Type for example: --teacher expert")
    if options["certainty"] not in list(Certainty):
        raise UnknownName("certainty", options["certainty"], list(Certainty))
    recipe = Dagger(
        rounds=options["dagger"],
        labels=options["labels"],
        beta=beta_of(options["beta"]),
        certainty=Certainty(options["certainty"]),
        below=options["ask_below"],
        share=options["ask_share"],
        episodes=options["round_episodes"],
    )
    world = pairs(options["environment_options"], "--option level=GoToLocal")
    if options["directory"]:
        world["directory"] = options["directory"]
    about = describe(environment, **world)
    prices = PriceTable.load(cpu_hour_usd=options["cpu_hour_usd"])
    run = RunConfig(
        run_id=options["label_run"] or f"{options['out'].stem}-labels",
        environment=environment,
        environment_options=world,
        split=options["split"],
        arms=(),
        n=0,
        seed=options["seed"],
        max_steps=options["max_steps"] or about.max_steps,
        instructions=about.instructions,
        teacher=options["teacher"],
        teacher_options=pairs(options["teacher_options"], "--teacher-option idle_s=600"),
        student=f"policy:{options['out'].name}",
        price_teacher_as=options["price_teacher_as"],
        prices_date=str(prices.date),
        namespace=options["namespace"],
        max_cost_usd=options["max_cost_usd"],
    )
    if run.price_teacher_as is not None:
        prices.price(run.price_teacher_as)
    return DaggerPlan(recipe, run, about.rule, options["jobs"], prices, Pricing(teacher_as=run.price_teacher_as))


def estimate(plan: DaggerPlan) -> dict[str, Any]:
    """Labels, what the teacher reads for them in the middle of an episode, and dollars where it has a price."""
    usual = describe(plan.run.environment, **plan.run.environment_options).max_steps
    given = Assumptions(steps=expected_steps(plan.run.max_steps, usual))
    read = given.system_tokens + given.tail_tokens + given.turn_tokens * (given.steps + 1) // 2
    labels = plan.recipe.labels
    row = {"rounds": plan.recipe.rounds, "labels": labels, "teacher_input_tokens": labels * read}
    model = plan.run.price_teacher_as or plan.run.teacher or ""
    if not plan.prices.has(model):
        return {**row, "uncached_cost_usd": None}
    rates, _ = plan.prices.price(model).rates_for(0)
    dollars = labels * (read * (rates.input or 0.0) + given.output_tokens * (rates.output or 0.0)) / 1e6
    return {**row, "uncached_cost_usd": dollars}
