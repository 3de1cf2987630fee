"""ALFWorld's folders, files and cache: what needs no game engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.envs.alfworld.cache import TextCache, default_directory
from potstill.envs.alfworld.game import Fact
from potstill.envs.alfworld.gamefile import TASK_TYPES, goal_of, parse_folder, read_game
from potstill.envs.alfworld.replan import next_command
from potstill.envs.alfworld.tasks import AlfworldTasks, game_path
from potstill.errors import BadTask, TaskNotFound
from potstill.types import Task

GRAMMAR = 'grammar :: """{"task": [{"rhs": "Your task is to: put a mug in sidetable."}]}""";'


def make_game(root: Path, split: str, folder: str, trial: str = "trial_1") -> Path:
    path = root / split / folder / trial / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pddl_domain": "", "pddl_problem": "", "grammar": GRAMMAR, "solvable": True}))
    return path


@pytest.fixture
def games(tmp_path: Path) -> Path:
    make_game(tmp_path, "train", "pick_two_obj_and_place-CD-None-Safe-308")
    make_game(tmp_path, "train", "look_at_obj_in_light-CD-None-DeskLamp-308")
    make_game(tmp_path, "train", "pick_and_place_simple-AppleSliced-None-Fridge-2")
    make_game(tmp_path, "valid_seen", "pick_and_place_simple-Mug-None-SideTable-301")
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_tasks_are_listed_in_order_with_kind_and_goal_and_without_sliced_objects(games: Path) -> None:
    source = AlfworldTasks(games)
    assert source.splits() == ("train", "valid_seen")
    first, second = source.tasks("train")
    assert first.id == "train/look_at_obj_in_light-CD-None-DeskLamp-308/trial_1"
    assert (first.kind, second.kind) == ("look_at_obj_in_light", "pick_two_obj_and_place")
    assert first.goal == "put a mug in sidetable."
    assert game_path(games, first).is_file()


def test_a_split_may_be_passed_as_the_directory(games: Path) -> None:
    source = AlfworldTasks(games / "valid_seen")
    assert source.splits() == ("valid_seen",)
    assert source.tasks("valid_seen") == AlfworldTasks(games).tasks("valid_seen")


def test_missing_folders_and_splits_say_what_to_type(games: Path) -> None:
    with pytest.raises(TaskNotFound, match="pass --tasks DIR"):
        AlfworldTasks(games / "nowhere")
    with pytest.raises(TaskNotFound, match="No ALFWorld games"):
        AlfworldTasks(games / "logs")
    with pytest.raises(TaskNotFound, match="Available: train, valid_seen"):
        AlfworldTasks(games).tasks("valid_unseen")


@pytest.mark.parametrize("content", ["", "[]", '{"grammar": 3}', "\x00\x01", '{"pddl_domain": ""}'])
def test_a_corrupt_game_is_a_bad_task(tmp_path: Path, content: str) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(content)
    with pytest.raises(BadTask, match="not an ALFWorld game"):
        read_game(path)


def test_a_missing_game_is_a_bad_task(tmp_path: Path) -> None:
    with pytest.raises(BadTask, match="cannot be read"):
        read_game(tmp_path / "game.tw-pddl")


@pytest.mark.parametrize("data", [{}, {"game": 3}, {"game": "../../etc/passwd"}, {"game": "/etc/passwd"}])
def test_a_task_cannot_point_out_of_the_folder(games: Path, data: dict[str, object]) -> None:
    with pytest.raises(BadTask):
        game_path(games, Task(id="t", environment="alfworld", data=data))


def test_folder_names_give_the_parameters() -> None:
    parameters = parse_folder("pick_and_place_simple-Mug-None-SideTable-301")
    assert parameters is not None
    assert (parameters.object, parameters.receptacle, parameters.movable_receptacle) == ("Mug", "SideTable", "")
    assert parse_folder("pick_and_place_simple-Mug-301") is None
    assert parse_folder("juggle-Mug-None-SideTable-301") is None


def test_goal_is_read_from_files_and_observations() -> None:
    assert (
        goal_of(GRAMMAR) == goal_of("A room.\n\nYour task is to: put a mug in sidetable.") == "put a mug in sidetable."
    )
    assert goal_of("Nothing happens.") == ""


# --- the cache ------------------------------------------------------------------------------------------------------


@given(text=st.text(), key=st.text())
def test_cache_gives_back_what_was_put(tmp_path_factory: pytest.TempPathFactory, key: str, text: str) -> None:
    cache = TextCache(tmp_path_factory.getbasetemp() / "texts")
    assert cache.put(key, text)
    assert cache.get(key) == text


def test_a_damaged_entry_counts_as_absent_and_is_replaced(tmp_path: Path) -> None:
    cache = TextCache(tmp_path)
    cache.put("key", "text " * 1000)
    (entry,) = tmp_path.rglob("*.z")
    for damage in (b"", b"no zlib", entry.read_bytes()[:-9]):
        entry.write_bytes(damage)
        assert cache.get("key") is None
    cache.put("key", "new")
    assert cache.get("key") == "new"
    assert [path.name for path in tmp_path.rglob(".new-*")] == []


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TextCache(tmp_path / "file")
    assert not cache.put("key", "text")
    assert cache.get("key") is None


def test_the_cache_folder_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", os.fspath(tmp_path))
    assert default_directory() == tmp_path


# --- replanning: hand-made rooms ------------------------------------------------------------------------------------

ROOM = [
    Fact("receptacletype", ("fridge 1", "fridgetype")),
    Fact("receptacletype", ("sidetable 1", "sidetabletype")),
    Fact("objecttype", ("mug 1", "mugtype")),
    Fact("cancontain", ("fridgetype", "mugtype")),
    Fact("cancontain", ("sidetabletype", "mugtype")),
]


def command(kind: str, facts: list[Fact], *admissible: str) -> str | None:
    parameters = parse_folder(f"{kind}-Mug-None-SideTable-1")
    assert parameters is not None
    return next_command(parameters, [*ROOM, *facts], admissible)


def test_replanning_fetches_cools_and_delivers() -> None:
    kind = "pick_cool_then_place_in_recep"
    inside = [Fact("inreceptacle", ("mug 1", "fridge 1"))]
    held = [Fact("holds", ("agent1 ", "mug 1"))]
    cold = [*held, Fact("iscool", ("mug 1",))]
    assert command(kind, inside, "go to fridge 1", "look") == "go to fridge 1"
    assert command(kind, inside, "open fridge 1", "look") == "open fridge 1"
    assert command(kind, inside, "take mug 1 from fridge 1") == "take mug 1 from fridge 1"
    assert command(kind, held, "cool mug 1 with fridge 1", "move mug 1 to fridge 1") == "cool mug 1 with fridge 1"
    assert command(kind, cold, "go to sidetable 1", "move mug 1 to fridge 1") == "go to sidetable 1"
    assert command(kind, cold, "move mug 1 to sidetable 1") == "move mug 1 to sidetable 1"


def test_replanning_takes_back_what_was_placed_untreated() -> None:
    placed = [Fact("inreceptacle", ("mug 1", "sidetable 1"))]
    take = "take mug 1 from sidetable 1"
    assert command("pick_cool_then_place_in_recep", placed, take) == take
    assert command("pick_and_place_simple", placed, take) is None


def test_replanning_puts_down_what_is_not_wanted_where_there_is_room() -> None:
    facts = [
        Fact("holds", ("agent1 ", "egg 1")),
        Fact("objecttype", ("egg 1", "eggtype")),
        Fact("cancontain", ("fridgetype", "eggtype")),
    ]
    assert command("pick_and_place_simple", facts, "go to fridge 1", "go to sidetable 1") == "go to fridge 1"
    full = [*facts, Fact("full", ("fridge 1",))]
    assert command("pick_and_place_simple", full, "go to fridge 1", "go to sidetable 1") is None


def test_all_six_kinds_are_known() -> None:
    assert len(TASK_TYPES) == 6
    assert all(parse_folder(f"{kind}-A-None-B-1") is not None for kind in TASK_TYPES)
