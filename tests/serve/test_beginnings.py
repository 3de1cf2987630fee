"""An episode keeps the arm in which it began, through a restart, a fold, and in another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deciding_builders import FakeAsk, Rig, call, prompt, route, text, turn_call, turn_output, turn_user

from potstill.errors import StoreError
from potstill.record.folding import fold_episode
from potstill.serve.settings import Mode
from potstill.trajectories.store import Store

LONGER = prompt(turn_user("go"), turn_call("look"), turn_output("a door"))


def rig(store: Store, mode: Mode = Mode.CASCADE, **more: Any) -> Rig:
    made = Rig(FakeAsk(call("look")), route(mode), store=store, began=store.episode_stage, **more)
    made.decider.beginnings.patience_s = 60.0
    return made


async def served(store: Store, mode: Mode, asked: Any) -> Any:
    """One request at a gateway that is started for it and stopped after it."""
    one = rig(store, mode)
    decided = await one.decide(asked)
    store.record([one.finish(decided, asked, text("the teacher"))])
    await one.decider.aclose()
    return decided


@pytest.mark.parametrize("folded", [False, True])
async def test_an_episode_that_began_with_the_teacher_stays_there_after_a_restart(tmp_path: Path, folded: bool) -> None:
    with Store.open(tmp_path / "s.db") as store:
        assert (await served(store, Mode.SHADOW, prompt(turn_user("go")))).stage == "shadow/shadow"
        if folded:
            assert fold_episode(store, "default", "e1") is not None
        second = await served(store, Mode.CASCADE, LONGER)
        assert (second.answer, second.stage) == (None, "live/shadow")


async def test_an_episode_that_began_with_the_cascade_goes_on_with_it_after_a_restart(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        assert (await served(store, Mode.CASCADE, prompt(turn_user("go")))).answer is not None
        second = await served(store, Mode.CASCADE, LONGER)
        assert second.answer is not None
        assert second.stage == "live/cascade"


async def test_another_tenants_episode_of_that_name_says_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        await served(store, Mode.SHADOW, prompt(turn_user("go")))
        assert (await rig(store).decide(LONGER, tenant="team-b")).answer is not None


async def test_where_the_beginning_cannot_be_read_the_teacher_answers_and_it_is_asked_again(tmp_path: Path) -> None:
    failing = [True]

    def began(namespace: str, episode_id: str) -> str | None:
        if failing[0]:
            raise StoreError("away")
        return None

    told: list[str] = []
    one = Rig(FakeAsk(call("look")), route(), began=began, failed=told.append)
    one.decider.beginnings.patience_s = 60.0
    first = await one.decide(LONGER)
    assert (first.answer, first.stage, told) == (None, "live/teacher", ["state"])
    assert "could not be read" in first.notes[0]
    failing[0] = False
    assert (await one.decide(LONGER)).answer is not None
