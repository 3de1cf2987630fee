"""Exchanged colours and turned worlds: alike in grid, mission and past, where it is true, and the same after a kill."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402
from grid_examples import ACTIONS, BABYAI, decisions  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import policy_files as files  # noqa: E402
from potstill.cli.main import cli  # noqa: E402
from potstill.distill.weights.data.labelled import Labelled  # noqa: E402
from potstill.distill.weights.policies.grids import GridExamples  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.policies.symmetries import COLOURS, Drawn, Symmetries  # noqa: E402
from potstill.distill.weights.train import students  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import Keeping, agreement_of  # noqa: E402
from potstill.distill.weights.train.progress import Progress  # noqa: E402
from potstill.distill.weights.train.recipe import Augment, FilmRecipe  # noqa: E402
from potstill.distill.weights.train.teaching import Prepared, teach  # noqa: E402
from potstill.edge.grids import GridForm  # noqa: E402
from potstill.edge.words import Words  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.types import Past  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)

FORM = GridForm(7, (11, 6, 3))
DOOR, KEY, BALL, BOX = 4, 5, 6, 7


def symmetries(words: Words, actions: Sequence[str] = ACTIONS, *, seed: int = 0, **which: bool) -> Symmetries:
    return Symmetries(words, FORM, actions, **{"colours": True, "rotations": True, **which}, seed=seed)


def painted(text: str, new: dict[str, str], quarters: int) -> str:
    """A mission or a grid's text in other colours, its world turned, by the texts alone."""
    if not text.startswith("{"):
        return re.sub("|".join(COLOURS), lambda found: new.get(found[0], found[0]), text)
    told = json.loads(text)
    for thing in itertools.chain.from_iterable(told["grid"]):
        if thing[0] in (DOOR, KEY, BALL, BOX):
            thing[1] = COLOURS.index(new.get(COLOURS[thing[1]], COLOURS[thing[1]]))
    return json.dumps({**told, "direction": (told["direction"] + quarters) % 4})


def repainted(one: Labelled, new: dict[str, str], quarters: int) -> Labelled:
    past = tuple(
        Past(observation=painted(turn.observation, new, quarters), action=turn.action) for turn in one.situation.past
    )
    goal, seen = painted(one.situation.goal, new, quarters), painted(one.situation.observation, new, quarters)
    return msgspec.structs.replace(
        one, situation=msgspec.structs.replace(one.situation, goal=goal, observation=seen, past=past)
    )


def wild(seed: int) -> list[Labelled]:
    """Missions about two things, and grids that hold everything there is."""
    rng, made = random.Random(seed), []
    for one in decisions(8, seed=seed):
        goal = f"put the {rng.choice(COLOURS)} ball next to the {rng.choice(COLOURS)} box"
        seen = files.grid_text(rng, BABYAI)
        made.append(
            msgspec.structs.replace(one, situation=msgspec.structs.replace(one.situation, goal=goal, observation=seen))
        )
    return made


WORDS = Words(["put", "the", "next", *COLOURS, "ball", "box", "to"], 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_a_batch_is_that_of_decisions_whose_texts_were_repainted(seed: int, rows: list[int]) -> None:
    some = wild(seed)
    given = symmetries(WORDS, seed=seed)
    changed = GridExamples(some, WORDS, FORM, ACTIONS, given).batch(np.array(rows))
    orders = list(itertools.permutations(COLOURS))
    drawn = given.drawn(np.array(rows))
    by_hand = [
        repainted(some[row], dict(zip(COLOURS, orders[number], strict=True)), quarters)
        for row, number, quarters in zip(rows, *(numbers.tolist() for numbers in drawn), strict=True)
    ]
    expected = GridExamples(by_hand, WORDS, FORM, ACTIONS).batch(np.arange(len(rows)))
    for name in ("cell_BS", "direction_B", "past_cell_PS", "past_direction_P", "past_action_P", "past_BT", "turns_B"):
        assert torch.equal(getattr(changed.inputs, name), getattr(expected.inputs, name)), name
    for batch_row in range(len(rows)):
        found, wanted = (
            one.inputs.word_UW[one.inputs.goal_B[batch_row]][: one.inputs.worded_U[one.inputs.goal_B[batch_row]]]
            for one in (changed, expected)
        )
        assert torch.equal(found, wanted)
    assert torch.equal(changed.target_B, expected.target_B)
    assert torch.equal(changed.mask_BA, expected.mask_BA)


def test_by_hand_red_and_green_change_places() -> None:
    """Two colours, so two permutations: as they are, and exchanged.

    A red ball is code 6 * 18 + 0 * 3 = 108, a green one 111; red floor (3 * 18 = 54) is no thing, and no mission names
    the colour of a blue key (5 * 18 + 2 * 3 = 96).
    """
    given, both = symmetries(Words(["the", "red", "green"], 4)), Drawn(np.array([0, 1]), np.array([0, 3]))
    cells = [[108, 111, 54, 96]] * 2
    assert given.codes(both, np.array(cells)).tolist() == [[108, 111, 54, 96], [111, 108, 54, 96]]
    assert given.words(both, np.array([[0, 1, 2, 5]] * 2)).tolist() == [[0, 1, 2, 5], [0, 2, 1, 5]]
    assert given.directions(both, np.array([2, 2])).tolist() == [2, 1]


def test_what_is_drawn_hangs_on_the_seed_and_the_batch_alone() -> None:
    one, same, other = (symmetries(WORDS, seed=seed) for seed in (1, 1, 2))
    rows = np.arange(200)
    for mine, again, different, turned in zip(
        one.drawn(rows), same.drawn(rows), other.drawn(rows), one.drawn(rows[::-1]), strict=True
    ):
        assert np.array_equal(mine, again)
        assert not np.array_equal(mine, different)
        assert not np.array_equal(mine, turned)
    permutations, quarters = (set(numbers.tolist()) for numbers in one.drawn(rows))
    assert len(permutations) > 100  # of 720
    assert quarters == {0, 1, 2, 3}


def test_what_is_not_asked_for_stays_as_it_is() -> None:
    rows = np.arange(50)
    turned, recoloured = symmetries(WORDS, colours=False), symmetries(WORDS, rotations=False)
    assert set(turned.drawn(rows).permutation_N.tolist()) == {0}
    everything = np.arange(FORM.codes)[None]
    assert np.array_equal(turned.codes(turned.drawn(rows[:1]), everything), everything)
    assert set(recoloured.drawn(rows).quarters_N.tolist()) == {0}


def recipe(augment: tuple[Augment, ...], **train: Any) -> FilmRecipe:
    given = TrainConfig(batch=32, patience=0, **train)
    return FilmRecipe(width=16, dropout=0.05, augment=augment, train=given)


def test_a_colour_of_which_hardly_anything_was_shown_is_learnt_from_the_others() -> None:
    """Learnt are missions about red, and one decision about green, so that its word is known."""
    found, every = [], decisions(600, past=0)
    red = [one for one in every if "red" in one.situation.goal]
    green = next(one for one in every if "green" in one.situation.goal)
    held = [one for one in decisions(150, seed=1, past=0) if "green" in one.situation.goal and one.action != "pick up"]
    for augment in ((), (Augment.COLOURS,)):
        given = recipe(augment, steps=150, evaluate_every=150, schedule="constant")
        prepared = students.prepare([*red, green], held, given)
        teach(prepared, given)
        found.append(agreement_of(prepared.network, prepared.held_out))
    without, augmented = found
    assert augmented > without + 0.2


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(progress: Progress, total: int) -> None:
        if progress.step == 7:
            raise Killed

    given, found = recipe(tuple(Augment), steps=12, evaluate_every=4), []

    def prepared() -> Prepared:
        return students.prepare(decisions(40), decisions(8, seed=1), given)

    for stopped in (False, True):
        keeping = Keeping(tmp_path / str(stopped), every_steps=3)
        if stopped:
            with pytest.raises(Killed):
                teach(prepared(), given, keeping=keeping, watch=stop)
            keeping = keeping._replace(resume=True)
        last = prepared()
        teach(last, given, keeping=keeping)
        found.append(arrays_of(last.network))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_batches_of_one_would_look_alike_in_every_epoch() -> None:
    given = msgspec.structs.replace(recipe((Augment.COLOURS,)), train=TrainConfig(batch=1))
    with pytest.raises(ConfigError, match="--batch 2 or more"):
        students.prepare(decisions(40), decisions(8, seed=1), given)


def test_a_checkpoint_of_plain_data_is_not_gone_on_with(tmp_path: Path) -> None:
    kept = Keeping(tmp_path / "checkpoint", every_steps=2)
    for augment, keeping in (((), kept), ((Augment.ROTATIONS,), kept._replace(resume=True))):
        given = recipe(augment, steps=4)
        prepared = students.prepare(decisions(40), decisions(8, seed=1), given)
        if not augment:
            teach(prepared, given, keeping=keeping)
        else:
            with pytest.raises(ConfigError, match="data"):
                teach(prepared, given, keeping=keeping)


def test_what_cannot_be_exchanged_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'go to the red ball' names a colour.*Leave --augment colours away"):
        symmetries(WORDS, [*ACTIONS, "go to the red ball"])
    with pytest.raises(ConfigError, match=r"name 1 of these colours: red, green.*2 or more"):
        symmetries(Words(["the", "red"], 4))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--augment", "colours"], "--augment changes grids, for a film student"),
        (["--student", "mlp", "--augment", "colours"], "--augment changes grids, for a film student"),
        (["--student", "lm", "--augment", "colours"], "--augment changes grids, for a film student"),
        (["--student", "film", "--augment", "colors"], "'colors'.*Available: colours, rotations"),
    ],
)
def test_the_command_refuses_what_means_nothing(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["distill", "weights", "--out", "student.policy", *words])
    assert done.exit_code != 0
    assert re.search(said, str(done.output) + str(done.exception)), done.output
