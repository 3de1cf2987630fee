"""BabyAI as a grid of symbols: what the text says is what the package shows, and what it cannot be is told."""

from __future__ import annotations

import json

import pytest

from potstill.edge.grids import GridForm
from potstill.envs.registry import describe, factory
from potstill.errors import ConfigError
from potstill.types import Action

pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")

from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

from potstill.envs.minigrid import MinigridEnvironment, MinigridTasks

FORM = GridForm(7, (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX)))


def test_an_episode_is_grids_that_a_policy_reads_and_what_is_carried_lies_in_the_agent_s_cell() -> None:
    """The same world in words beside it: both list the same actions, and both say when something is carried."""
    (task,) = MinigridTasks(level="PutNextLocal", action_space="primitive", train=1).tasks("train")
    grids = MinigridEnvironment(action_space="primitive", view="grid")
    words = MinigridEnvironment(action_space="primitive")
    grid, told = grids.reset(task, 0), words.reset(task, 0)
    carried = set()
    while not told.done:
        assert grid.admissible == told.admissible
        read, world = FORM.read(grid.text), grids._world
        assert world is not None
        assert read.direction == world.direction
        own = json.loads(grid.text)["grid"][3][6][0]
        carried.add(own)
        assert (own == OBJECT_TO_IDX["empty"]) == ("You carry nothing." in told.text)
        action = words.expert_action()
        assert action == grids.expert_action()
        assert action is not None
        grid, told = grids.step(action), words.step(action)
    assert grid.done
    assert grids.outcome().success
    assert len(carried) == 2


def test_what_is_ahead_lies_in_the_column_of_the_agent() -> None:
    """Where the words say that a thing is so many steps ahead and to a side, the grid has it there."""
    (task,) = MinigridTasks(level="GoToLocal", action_space="primitive", train=1).tasks("train")
    grids, words = (
        MinigridEnvironment(action_space="primitive", view="grid"),
        MinigridEnvironment(action_space="primitive"),
    )
    told = 0
    for action in (None, "turn left", "turn left", "turn left"):
        step = None if action is None else Action(text=action)
        seen = [e.reset(task, 0) if step is None else e.step(step) for e in (grids, words)]
        grid = json.loads(seen[0].text)["grid"]
        for name, ahead, aside in _things(seen[1].text):
            told += 1
            colour, kind = name.split()
            assert grid[3 + aside][6 - ahead][:2] == [OBJECT_TO_IDX[kind], COLOR_TO_IDX[colour]]
    assert told > 3


def _things(text: str) -> list[tuple[str, int, int]]:
    found = []
    said = text.split("You see ")[1].split(".")[0]
    for part in said.split(", ") if said != "no things" else ():
        words = part.replace("second ", "").replace("third ", "").split()
        numbers = {words[at + 1]: int(words[at]) for at in range(3, len(words)) if words[at].isdigit()}
        aside = numbers.get("right", 0) - numbers.get("left", 0)
        found.append((" ".join(words[1:3]), numbers.get("ahead", 0), aside))
    return found


def test_instructions_say_what_the_numbers_mean() -> None:
    about = describe("minigrid", action_space="primitive", view="grid")
    for name in ("wall", "door", "key", "ball", "box"):
        assert f"{OBJECT_TO_IDX[name]} {name}" in about.instructions
    for table in (COLOR_TO_IDX, STATE_TO_IDX):
        for name, number in table.items():
            assert f"{number} {name}" in about.instructions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"view": "grid"}, "--option action_space=primitive"),
        ({"view": "pixels", "action_space": "primitive"}, "No view 'pixels'. Available: words, grid"),
    ],
)
def test_what_cannot_be_shown_is_one_line(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        factory("minigrid", **options)()
