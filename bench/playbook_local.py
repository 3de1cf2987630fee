"""What a very small local model can do with a playbook: follow a rule that stands in its prompt, reflect on an episode.

*Generator.* First decisions of orders to which a rule "use only this way" of the first stage applies, in the prompt of
the episode loop, every admissible action scored by its likelihood. The rule stands in a book written by hand: with the
house's other nine rules before everything else, alone right before the observation, or there as a plain order without
its condition. *Right*: the model takes the way that the rule asks for; one action in ten is right by chance. The same
decisions without a book say what it does anyway.

*Reflector.* Episodes of the scripted student that made trouble, through ``roles.reflector``. *Usable*: the border read
a reflection. *Names it*: its insight or approach names an action that a broken rule asks for.

    python bench/playbook_local.py [--models local:smollm2-135m,local:gemma3-270m] [--decisions 10] [--cases 4]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import _results
from _scripted_student import student
from _scripted_world import Player, written_by_hand
from potstill.distill.playbook.roles.evidence import case_of
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.envs.house_rules.house import Asks, House, Rule, draw_house, draw_order
from potstill.envs.registry import open_source
from potstill.errors import ModelError
from potstill.measure.statistics import wilson
from potstill.models.registry import open_model
from potstill.protocols import Model
from potstill.run.arms import Agent, Placement
from potstill.types import Answerer, Task

Row = dict[str, Any]
RULES = 10
TOKENS = 300
"""Of a reflection: a small model that does not stop by itself is stopped here."""


class Decision(NamedTuple):
    """An order whose first stage a rule decides."""

    house: House
    rule: Rule
    task: Task


def decisions(seeds: Sequence[int], wanted: int) -> list[Decision]:
    """One from each house in turn, until there are enough. Orders of the test split."""
    found: list[Decision] = []
    for place in range(200):
        for seed in seeds:
            house = draw_house(seed, RULES)
            task = open_source("house-rules", rules_seed=seed, rules=RULES, test=200).tasks("test")[place]
            order = draw_order(int(task.data["seed"]))
            first = next(iter(house.stages))
            asked = [one for one in house.rules if one.stage == first and one.asks is Asks.ONLY and one.applies(order)]
            if asked and len(found) < wanted:
                found.append(Decision(house, asked[0], task))
    return found


def books(one: Decision) -> Iterator[tuple[str, list[str], Placement]]:
    """What the model is shown, and where."""
    order = [f"To {one.rule.stage}, use only '{one.rule.action}'."]
    yield "no playbook", [], Placement.FIRST
    yield "all ten rules, first", [str(rule) for rule in one.house.rules], Placement.FIRST
    yield "this rule alone, last", [str(one.rule)], Placement.LAST
    yield "a plain order, last", order, Placement.LAST


async def generating(model: Model, chosen: Sequence[Decision]) -> list[Row]:
    right: dict[str, list[bool]] = {}
    kept: dict[str, list[str]] = {}
    begun = time.perf_counter()
    for place, one in enumerate(chosen):
        for name, texts, placement in books(one):
            book = written_by_hand(texts) if texts else None
            player = Player(model, book=book, agent=Agent(placement=placement), max_steps=1)
            played = await player.play(one.task, 0, reflection=None, tag=f"decision/{place}")
            if not played.steps:
                raise SystemExit(f"No decision was taken: {played.error}")
            right.setdefault(name, []).append(played.steps[0].action.text == one.rule.action)
            kept.setdefault(name, []).append(played.steps[0].action.text)
    seconds = time.perf_counter() - begun
    print(f"{model.name}: {sum(map(len, right.values()))} decisions in {seconds:.0f} s", flush=True)
    return [
        {
            "model": model.name,
            "role": "generator",
            "shown": name,
            "n": len(held),
            "right": sum(held) / len(held),
            "right_ci": wilson(sum(held), len(held)),
            "as_without": sum(a == b for a, b in zip(kept[name], kept["no playbook"], strict=True)) / len(held),
        }
        for name, held in right.items()
    ]


# --- the Reflector --------------------------------------------------------------------------------------------------


async def reflecting(model: Model, seeds: Sequence[int], wanted: int) -> Row:
    reflector = ModelReflector(model, max_tokens=TOKENS, repairs=1, answerer=Answerer.STUDENT)
    usable = named = failed = 0
    reasons: dict[str, int] = {}
    asked = 0
    begun = time.perf_counter()
    for house, task in _troubled(seeds):
        if asked == wanted:
            break
        played = await Player(student(house.seed)).play(task, 0, reflection=None, tag=f"case/{task.id}")
        order = draw_order(int(task.data["seed"]))
        remedies = [
            rule.action for rule in house.rules if rule.applies(order) and f": {rule.trouble}." in _seen(played)
        ]
        if not remedies or len(played.steps) > 12:
            continue
        asked += 1
        try:
            found = await reflector.reflect(case_of(played), {})
        except ModelError as error:
            failed += 1
            reasons[type(error).__name__] = reasons.get(type(error).__name__, 0) + 1
            continue
        for refusal in found.refused:
            reasons[refusal.why] = reasons.get(refusal.why, 0) + 1
        if found.reflection is not None:
            usable += 1
            said = f"{found.reflection.key_insight}\n{found.reflection.correct_approach}"
            named += any(action in said for action in remedies)
            print(f"  {model.name}: {said[:300]!r}; the rules ask for {remedies}")
    return {
        "model": model.name,
        "role": "reflector",
        "n": asked,
        "usable": usable,
        "usable_ci": wilson(usable, asked),
        "names_it": named,
        "failed": failed,
        "refused": reasons,
        "seconds": round(time.perf_counter() - begun),
    }


def _troubled(seeds: Sequence[int]) -> Iterator[tuple[House, Task]]:
    for place in range(200):
        for seed in seeds:
            tasks = open_source("house-rules", rules_seed=seed, rules=RULES, train=200).tasks("train")
            yield draw_house(seed, RULES), tasks[place]


def _seen(trajectory: Any) -> str:
    return "\n".join(step.observation.text for step in trajectory.steps)


async def measured(spec: str, options: argparse.Namespace) -> list[Row]:
    scoring = open_model(spec, act_by="likelihood", score_mode="argmax", seed=0)
    rows = await generating(scoring, decisions(options.rules_seeds, options.decisions))
    await scoring.aclose()
    writing = open_model(spec, seed=0)
    if options.cases:
        rows.append(await reflecting(writing, options.rules_seeds, options.cases))
    await writing.aclose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["local:smollm2-135m"])
    parser.add_argument(
        "--rules-seeds", type=lambda text: [int(part) for part in text.split(",")], default=list(range(12))
    )
    parser.add_argument("--decisions", type=int, default=10)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    rows: list[Row] = []
    for spec in options.models:
        rows += asyncio.run(measured(spec, options))
        for row in rows:
            print(row, flush=True)
        if not options.dry_run:  # after each model: what is measured is not lost when the next one takes too long
            _results.write("playbook_local", rows, n=options.decisions, seeds=options.rules_seeds)


if __name__ == "__main__":
    main()
