"""TextWorld games: made once, the same everywhere, won by their policy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from potstill.envs.check import Status, check_environment
from potstill.envs.textworld import LEVELS, TextworldEnvironment, TextworldTasks
from potstill.errors import BadTask, ConfigError, MissingExtra, TaskNotFound
from potstill.types import Action, Task

pytestmark = pytest.mark.extra

INSTALL = (
    "TextWorld is not installed (needs a C compiler). Type: apt-get install gcc make && pip install -e '.[textworld]'"
)
needs_textworld = pytest.mark.skipif(find_spec("textworld") is None, reason=INSTALL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("games")


def test_tasks_are_listed_without_making_a_game_and_splits_do_not_overlap() -> None:
    source = TextworldTasks(kinds="simple,cooking", level=2, train=2, test=1)
    assert source.splits() == ("train", "test")
    assert [task.id for task in source.tasks("train")] == ["simple/2/0", "simple/2/1", "cooking/2/0", "cooking/2/1"]
    assert [task.data["seed"] for task in source.tasks("test")] == [1_000_000, 1_000_000]


def test_unknown_names_say_what_exists() -> None:
    with pytest.raises(ConfigError, match="coin_collector, cooking, simple, treasure_hunter"):
        TextworldTasks(kinds="chess")
    with pytest.raises(ConfigError, match="levels 1 to 30, not 31"):
        TextworldTasks(kinds="treasure_hunter", level=31)
    with pytest.raises(TaskNotFound, match="train, test"):
        TextworldTasks().tasks("valid")


def test_an_absent_package_names_the_extra_and_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(MissingExtra, match=r"C compiler.*potstill\[textworld\]"):
        TextworldEnvironment()


@needs_textworld
@pytest.mark.parametrize(
    "data", [{}, {"kind": "chess", "level": 1, "seed": 1}, {"kind": "simple", "level": 9, "seed": 1}]
)
def test_a_task_without_a_known_game_is_a_bad_task(cache: Path, data: dict[str, object]) -> None:
    with pytest.raises(BadTask, match="names no kind"):
        TextworldEnvironment(cache_directory=cache).reset(Task(id="t", environment="textworld", data=data), 0)


@needs_textworld
@pytest.mark.slow
def test_the_contract_is_kept(cache: Path) -> None:
    tasks = TextworldTasks(level=2, train=2).tasks("train")
    findings = check_environment(lambda: TextworldEnvironment(cache_directory=cache), tasks, max_steps=15)
    assert [finding for finding in findings if finding.status is Status.FAILED] == []


@needs_textworld
@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_the_policy_wins_each_kind_also_after_other_steps(cache: Path, kind: str) -> None:
    environment = TextworldEnvironment(cache_directory=cache)
    (task,) = TextworldTasks(kinds=kind, level=2, train=1).tasks("train")
    observation = environment.reset(task, 0)
    assert "$$" not in observation.text, "the banner is cut"
    assert environment.outcome().success is False
    for words in ("look", "xyzzy", next(a for a in observation.admissible or () if a.startswith(("go", "open")))):
        observation = environment.step(Action(text=words))
        assert not observation.text.endswith("=-0/1")
    for _ in range(50):
        action = environment.expert_action()
        if action is None:
            break
        assert action.text in (observation.admissible or ())
        observation = environment.step(action)
    assert observation.done
    assert observation.score == 1.0
    assert environment.outcome().success is True
    assert len(list((cache / "textworld-games").glob(".new-*"))) == 0
