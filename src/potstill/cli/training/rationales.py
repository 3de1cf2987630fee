"""Makes rationales: decisions out of the store, templates or a model, a file that grows.

What it knows: where the parts lie. What it does not do: parse or print (``distill_rationales``), judge a rationale.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from potstill.cli.output import progress
from potstill.cli.training.rationales_plan import RationalesPlan
from potstill.distill.weights.data.checks import refuse_empty
from potstill.distill.weights.data.decisions import Counting, labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.lm.chats import Thoughts, views
from potstill.distill.weights.rationales import hindsight
from potstill.distill.weights.rationales.lines import (
    Growing,
    Key,
    growing,
    read_rationales,
)
from potstill.distill.weights.rationales.sampling import reasoning_model, sampled
from potstill.envs.registry import describe
from potstill.errors import ConfigError, UnknownPrice
from potstill.measure.ledger import cost_of
from potstill.measure.prices import PriceTable
from potstill.models.registry import open_model
from potstill.models.tuned_file import ALLOW, tuned_of
from potstill.protocols import Model
from potstill.run.prompt import View
from potstill.trajectories.opening import read_store
from potstill.types import Call


class Made(NamedTuple):
    """What the file holds now."""

    file: str
    decisions: int
    """Of a teacher that gave no reasoning there."""
    asked: int
    """Decisions of the file: with a rationale, or asked in vain."""
    kept: int
    by_source: dict[str, int]
    kept_share: float | None
    cost_usd: float | None
    """Of this sitting; None where a call has no price."""
    left: int = 0
    """Decisions that nobody was asked about, because ``--max-cost`` was reached."""


def estimate(plan: RationalesPlan) -> dict[str, Any]:
    """What would be asked. Leaves nothing behind."""
    known = read_rationales(plan.out).rationales if plan.resume and plan.out.exists() else {}
    left = sum((one.trajectory_id, one.step_index) not in known for one in _wanted(plan))
    return {
        "environment": plan.filters["environment"],
        "source": plan.origin.source,
        "model": plan.origin.model or None,
        "decisions": left,
        "answers": left * plan.how.samples * (2 if plan.how.hint else 1) if plan.model else 0,
    }


def make(plan: RationalesPlan) -> Made:
    """Write the rationales that are not in the file. Raises ``ConfigError``, ``StoreError``, and as the model."""
    wanted = _wanted(plan)
    with growing(plan.out, plan.origin, resume=plan.resume) as file:
        spent: float | None = 0.0
        try:
            spent = _fill(plan, wanted, file)
        except KeyboardInterrupt:
            raise click.Abort from InterruptedError(
                f"{plan.out} keeps what is there. To go on, type the same command with --resume"
            )
        kept = [one for one in file.known.values() if one.text]
        asked = len(file.known)
    return Made(
        file=str(plan.out),
        decisions=len(wanted),
        asked=asked,
        kept=len(kept),
        by_source=dict(sorted(Counter(one.source.value for one in kept).items())),
        kept_share=len(kept) / asked if asked else None,
        cost_usd=spent if plan.model else 0.0,
        left=sum((one.trajectory_id, one.step_index) not in file.known for one in wanted),
    )


def _wanted(plan: RationalesPlan) -> list[Labelled]:
    """Decisions of the teacher without reasoning, in the order of the store."""
    counting = Counting()
    with read_store(plan.db) as store:
        found = list(labelled(store.select(**plan.filters), counting=counting))
    refuse_empty(counting.report)
    silent = [one for one in found if not one.reasoning.strip()]
    if not silent:
        raise ConfigError(
            "The teacher reasoned in all of its decisions, so no rationale is missing. Type: potstill distill weights "
            "--student lm --reasoning with-action"
        )
    return silent[: plan.limit]


def _fill(plan: RationalesPlan, wanted: list[Labelled], file: Growing) -> float | None:
    """Dollars that were spent; None where a call has no price."""
    missing = {(one.trajectory_id, one.step_index): one for one in wanted}
    for key in file.known:
        missing.pop(key, None)
    if plan.model is None:
        _templated(plan, missing, file)
        return 0.0
    return asyncio.run(_asked(plan, missing, file))


def _templated(plan: RationalesPlan, missing: dict[Key, Labelled], file: Growing) -> None:
    with read_store(plan.db) as store:
        plain = hindsight.plain_words(labelled(store.select(**plan.filters)))
        for one in hindsight.rationales(store.select(**plan.filters), plain):
            if one.key in missing:
                file.add(one)


async def _asked(plan: RationalesPlan, missing: dict[Key, Labelled], file: Growing) -> float | None:
    assert plan.model is not None
    allowed = {ALLOW: True} if plan.how.hint and tuned_of(plan.model) else {}
    model = reasoning_model(open_model(plan.model, **plan.model_options, **allowed))
    spent: float | None = 0.0
    try:
        if plan.max_cost_usd is not None:
            _must_have_price(plan.prices, model)
        with progress(plan.out.name, len(missing), unit="decisions") as bar:
            for decision, view in _views(plan, missing, file.texts):
                if plan.max_cost_usd is not None and _known(spent, model) >= plan.max_cost_usd:
                    break
                asked = await sampled(decision, view, model, plan.how)
                costs = [_price(plan.prices, call) for call in asked.calls]
                spent = None if spent is None or None in costs else spent + sum(cost or 0.0 for cost in costs)
                file.add(asked.rationale)
                kept = sum(bool(one.text) for one in file.known.values())
                bar.update(1, kept=f"{kept}/{len(file.known)}")
    finally:
        await model.aclose()
    return spent


def _views(plan: RationalesPlan, missing: dict[Key, Labelled], texts: Thoughts) -> Iterator[tuple[Labelled, View]]:
    """The decisions that are missing, with their prompts, in which past turns hold the rationales so far."""
    instructions = describe(plan.filters["environment"]).instructions
    episodes = {key[0] for key in missing}
    with read_store(plan.db) as store:
        for episode in store.select(**plan.filters):
            if episode.id in episodes:
                for step, view in views(episode, plan.agent, instructions, thoughts=texts):
                    if (episode.id, step.index) in missing:
                        yield missing[episode.id, step.index], view


def _price(table: PriceTable, call: Call) -> float | None:
    try:
        return cost_of(call, table).total_usd
    except UnknownPrice:
        return None


def _must_have_price(table: PriceTable, model: Model) -> None:
    """Before anything is paid for."""
    if not table.has(model.name) and table.cpu_hour_usd is None:
        _known(None, model)


def _known(spent: float | None, model: Model) -> float:
    """Raises ``ConfigError`` where a call had no price, or did not say what it used."""
    if spent is None:
        raise ConfigError(
            f"{model.name} has no price, so --max-cost cannot be kept. Add it to potstill-prices.toml, price a local "
            "model by --cpu-hour-usd, or leave --max-cost away."
        )
    return spent
