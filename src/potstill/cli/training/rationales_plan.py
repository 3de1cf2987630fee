"""Which rationales are to be made, from the words of a command: what can be refused before an episode is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.run_plan import pairs
from potstill.cli.training.plan import environment_of, filters_of
from potstill.distill.weights.lineage import in_full
from potstill.distill.weights.rationales.lines import FORMAT, Origin, Source
from potstill.distill.weights.rationales.sampling import Sampling
from potstill.errors import ConfigError, one_of
from potstill.measure.prices import PriceTable
from potstill.models.reasoned import WITH_ACTION
from potstill.models.tuned_file import Voice, tuned_of
from potstill.run.arms import Agent
from potstill.run.voice import agent_of

SUBGOALS, SAMPLED = "subgoals", Source.SAMPLED.value


class RationalesPlan(NamedTuple):
    out: Path
    db: str
    filters: dict[str, Any]
    origin: Origin
    resume: bool
    limit: int | None
    how: Sampling
    model: str | None
    model_options: dict[str, Any]
    agent: Agent
    prices: PriceTable
    max_cost_usd: float | None


def planned(options: dict[str, Any], typed: dict[str, str]) -> RationalesPlan:
    """Everything that can be refused before an episode is read. Raises ``ConfigError``."""
    one_of("source of rationales", options["source"], (SUBGOALS, SAMPLED))
    asks = options["source"] == SAMPLED
    _refuse_stray(options, typed, asks=asks)
    out = options["out"]
    if out is None:
        raise ConfigError("Nothing says where the rationales go. Type for example: --out rationales.jsonl")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    if out.exists() and not options["resume"]:
        raise ConfigError(f"{out} is there already. To go on with it, type --resume; else name another file.")
    how = Sampling(
        samples=options["samples"], temperature=options["temperature"], hint=options["hint"], seed=options["seed"]
    )
    filters = filters_of(options)
    filters["environment"] = environment_of(options["db"], filters, options["environment"])
    voice = _voice(options, typed) if asks else Voice(reasoning=WITH_ACTION)
    told = {**in_full(how), **in_full(voice), "reasoning_tokens": options["reasoning_tokens"]}
    return RationalesPlan(
        out=out,
        db=options["db"],
        filters=filters,
        origin=Origin(
            format=FORMAT,
            **{name: filters[name] for name in ("namespace", "environment", "split")},
            source=SAMPLED if asks else Source.TEMPLATED.value,
            model=options["model"] if asks else "",
            options=told if asks else {},
        ),
        resume=options["resume"],
        limit=options["limit"],
        how=how,
        model=options["model"] if asks else None,
        model_options=pairs(options["model_options"], "--model-option threads=1"),
        agent=msgspec.structs.replace(agent_of(voice), reasoning_tokens=options["reasoning_tokens"]),
        prices=PriceTable.load(cpu_hour_usd=options["cpu_hour_usd"]),
        max_cost_usd=options["max_cost_usd"],
    )


ASKING = (
    "model", "model_options", "samples", "temperature", "hint", "seed", "history_turns", "list_admissible",
    "reasoning_tokens", "cpu_hour_usd", "max_cost_usd",
)  # fmt: skip
"""Options that mean something where a model is asked."""


def _refuse_stray(options: dict[str, Any], typed: dict[str, str], *, asks: bool) -> None:
    stray = [typed[name] for name in ASKING if name in typed]
    if stray and not asks:
        raise ConfigError(f"{stray[0]} is for models that are asked, and templates ask none. Type: --from {SAMPLED}")
    if asks and not options["model"]:
        raise ConfigError("Nothing says who is asked. Type for example: --model torch:smollm2-135m")
    if asks and options["model"].partition(":")[0] in ("expert", "policy", "rules"):
        raise ConfigError(
            f"'{options['model']}' writes no texts. Name a language model, such as --model torch:smollm2-135m, or type "
            f"--from {SUBGOALS}"
        )


def _voice(options: dict[str, Any], typed: dict[str, str]) -> Voice:
    """How the model is spoken to, which is how the student will be."""
    tuned = tuned_of(options["model"])
    if tuned is None:
        return Voice(
            reasoning=WITH_ACTION, history_turns=options["history_turns"], list_admissible=options["list_admissible"]
        )
    if tuned.voice.reasoning != WITH_ACTION or tuned.demonstrations:
        how = "with demonstrations" if tuned.demonstrations else f"with --reasoning {tuned.voice.reasoning}"
        raise ConfigError(
            f"{options['model']} was tuned {how}, and rationales are asked with reasoning and without demonstrations. "
            "Name its base, or a student that was tuned with --reasoning with-action"
        )
    named = [typed[name] for name in ("history_turns", "list_admissible") if name in typed]
    if named:
        raise ConfigError(f"{options['model']} is spoken to as it was tuned. Leave {named[0]} away.")
    return tuned.voice
