"""Does a shown demonstration help a small model? Per-step agreement with the teacher on recorded teacher states.

Cells differ in what is shown. The control copies the nearest demonstration's action without any language model.
Intervals and paired differences cluster by game.

    potstill distill context --env alfworld --tasks DIR --split train --n 330 --seed 1 --teacher expert --db alf.db
    potstill distill context --env alfworld --tasks DIR --split valid_seen --teacher expert --db alf.db
    python bench/agreement.py --db alf.db --model torch:smollm2-135m --split valid_seen --games 70 --per-game 2

``--seeds 2`` draws the states (and the random demonstrations) twice; no state counts twice.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import _results
from _states import Answer, Bench, Cell, State, agrees, paired, parser, probabilities
from potstill.measure.statistics import wilson_by_task


def figures(cell: Cell, states: Sequence[State], answers: Sequence[Answer]) -> dict[str, Any]:
    """Agreement with its interval, and how well the student's confidence tells right from wrong."""
    right = [agrees(answer, state) for answer, state in zip(answers, states, strict=True)]
    by_game: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for state, good in zip(states, right, strict=True):
        by_game[state.trajectory.task.id][0] += good
        by_game[state.trajectory.task.id][1] += 1
    confidences = [probabilities(answer)[answer["action"]] if "candidates" in answer else None for answer in answers]
    tokens = [answer["input_tokens"] for answer in answers if "input_tokens" in answer]
    return {
        "cell": cell.name,
        "n": len(right),
        "games": len(by_game),
        "agreement": sum(right) / len(right),
        "agreement_ci": wilson_by_task([g[0] for g in by_game.values()], [g[1] for g in by_game.values()]),
        "confidence_auroc": auroc(confidences, right),
        "agreement_confident_half": confident_half(confidences, right),
        "input_tokens_mean": sum(tokens) / len(tokens) if tokens else None,
        "seconds_mean": sum(answer["s"] for answer in answers) / len(answers),
    }


def auroc(confidences: Sequence[float | None], right: Sequence[bool]) -> float | None:
    """Chance that a right answer was more confident than a wrong one (ties count half)."""
    good = [c for c, ok in zip(confidences, right, strict=True) if ok and c is not None]
    bad = [c for c, ok in zip(confidences, right, strict=True) if not ok and c is not None]
    if not good or not bad:
        return None
    return sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))


def confident_half(confidences: Sequence[float | None], right: Sequence[bool]) -> float | None:
    pairs = sorted(((c, ok) for c, ok in zip(confidences, right, strict=True) if c is not None), reverse=True)
    half = pairs[: len(pairs) // 2]
    return sum(ok for _, ok in half) / len(half) if half else None


def differences(states: Sequence[State], results: dict[str, list[Answer]]) -> Iterator[dict[str, Any]]:
    """Retrieved demonstrations against each cell of another kind, paired by state."""
    right = {
        name: [float(agrees(answer, state)) for answer, state in zip(answers, states, strict=True)]
        for name, answers in results.items()
    }
    for of in results:
        for against in results:
            if of.startswith("retrieved") and not against.startswith("retrieved"):
                found = paired(states, right[of], right[against])
                if found is not None:
                    yield {
                        "of": of,
                        "against": against,
                        "difference": found.difference,
                        "difference_ci": found.difference_ci,
                    }


async def main() -> None:
    options = parser(__doc__, "agreement", "copy-nearest,zero-shot,random:k=3+w=1,retrieved:k=3+w=1").parse_args()
    bench = Bench(options)
    results, rows = {}, []
    for cell in map(bench.cell, options.cell.split(",")):
        results[cell.name] = await bench.answers(cell)
        rows.append(figures(cell, bench.states, results[cell.name]))
        print(rows[-1], file=sys.stderr, flush=True)
    await bench.model.aclose()
    extra = {
        "model": options.model,
        "template": options.template,
        "history_turns": options.history,
        "placement": options.placement,
        "split": options.split,
        "demonstration_games": len(bench.library),
        "differences": list(differences(bench.states, results)),
    }
    _results.write(options.name, rows, n=len(bench.states), seeds=bench.seeds, extra=extra)


if __name__ == "__main__":
    asyncio.run(main())
