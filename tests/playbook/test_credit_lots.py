"""From the lots that a context draws to an effect: only what matters is found to matter."""

from __future__ import annotations

import asyncio

import pytest

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.credit.effect import effect
from potstill.distill.playbook.credit.tally import Tally
from potstill.distill.playbook.credit.use import Use
from potstill.distill.playbook.operations import Batch, Stage
from potstill.protocols import ContextQuery
from potstill.trajectories import Store
from potstill.types import Task

EPISODES = 1500


@pytest.fixture(scope="module")
def uses(tmp_path_factory) -> list[Use]:
    """Episodes of ten tasks as a context begins them; one in three is a trial. With b-1 three of four succeed, without
    it one of four."""
    with Store.open(tmp_path_factory.mktemp("lots") / "store.db") as store:
        book = Playbook(store, "default", "book")
        stages = (Stage.LIVE, Stage.LIVE, Stage.LIVE, Stage.CANARY)
        adds = tuple(ops.Add(section="s", content=f"Rule {n}.", stage=stage) for n, stage in enumerate(stages))
        book.apply(Batch(operations=adds, actor="curator"))
        book.apply(Batch(operations=(ops.Pin(id="b-3"),), actor="ana"))
        config = PlaybookConfig(holdout_share=1 / 3, canary_share=0.5)
        return asyncio.run(_begun(PlaybookContext(book, config)))


async def _begun(context: PlaybookContext) -> list[Use]:
    found = []
    for number in range(EPISODES):
        task = Task(id=f"task-{number % 10}", environment="e")
        block = await context.for_task(ContextQuery(task=task, goal="do it", episode=f"t-{number}"))
        found.append(
            Use(
                episode=f"t-{number}",
                seq=number,
                revision=block.revision,
                shown=block.bullets,
                withheld=block.withheld,
                trial=block.trial,
                success=("b-1" in block.bullets) == (number % 4 > 0),
            )
        )
    return found


def test_pinned_bullets_are_shown_to_all(uses: list[Use]) -> None:
    assert all("b-3" in use.shown for use in uses)


def test_a_canary_that_a_task_does_not_draw_is_neither_shown_nor_withheld(uses: list[Use]) -> None:
    tasks = {number % 10 for number, use in enumerate(uses) if "b-4" in use.shown or "b-4" in use.withheld}
    assert 0 < len(tasks) < 10
    strangers = [use for number, use in enumerate(uses) if number % 10 not in tasks]
    assert not any("b-4" in (*use.shown, *use.withheld) for use in strangers)


def test_the_effect_of_the_one_that_matters_is_found_and_of_the_others_none(uses: list[Use]) -> None:
    counts = Tally().add_all(uses).counts()
    found = effect(counts["b-1"].trials)
    assert found.interval[0] <= 0.5 <= found.interval[1]
    assert found.interval[0] > 0.2
    for id in ("b-2", "b-4"):
        other = effect(counts[id].trials)
        assert other.interval[0] <= 0 <= other.interval[1]
        assert not other.uneven
