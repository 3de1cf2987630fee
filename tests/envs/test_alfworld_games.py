"""ALFWorld played for real: the same bytes as the stock classes, the contract, the experts."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from potstill.envs.alfworld import libraries
from potstill.envs.alfworld.environment import AlfworldEnvironment
from potstill.envs.alfworld.game import FastGame, StockGame, open_game
from potstill.envs.alfworld.gamefile import TASK_TYPES, GameFile, goal_of, read_game
from potstill.envs.alfworld.grammar import compile_grammar
from potstill.envs.alfworld.tasks import AlfworldTasks, game_path
from potstill.envs.alfworld.translation import Translator
from potstill.envs.check import Status, check_environment
from potstill.errors import BadTask, ConfigError, EnvError, MissingExtra
from potstill.types import Action, Observation, Task

INSTALL = (
    "ALFWorld is not installed (needs a C compiler). Type: apt-get install gcc g++ make && pip install -e '.[alfworld]'"
)
pytestmark = [
    pytest.mark.alfworld,
    pytest.mark.skipif(find_spec("alfworld") is None or find_spec("fast_downward") is None, reason=INSTALL),
]


@pytest.fixture(scope="module")
def directory(alfworld_games: Callable[[str], Path]) -> Path:
    return alfworld_games("valid_seen")


@pytest.fixture(scope="module")
def one_of_each(directory: Path) -> list[Task]:
    """The first game of each of the six kinds."""
    tasks = AlfworldTasks(directory).tasks("valid_seen")
    return [next(task for task in tasks if task.kind == kind) for kind in TASK_TYPES]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def load(directory: Path, task: Task) -> GameFile:
    return read_game(game_path(directory, task))


def random_commands(game: FastGame, count: int, seed: str) -> list[str]:
    """A random walk that also says nonsense."""
    generator = random.Random(seed)
    frame, commands = game.reset(), []
    for _ in range(count):
        commands.append(generator.choice([*frame.admissible, "eat the desk"]))
        frame = game.step(commands[-1])
    return commands


def assert_same(fast: FastGame, stock: StockGame, commands: Sequence[str]) -> bool:
    """Play both; True if the game was won. The command ' look ' checks that both strip."""
    assert fast.reset() == stock.reset()
    won = False
    for command in commands:
        assert fast.facts() == stock.facts()
        frame = fast.step(command)
        assert frame == stock.step(command), command
        won = frame.won
    return won


def test_the_fast_game_shows_the_same_bytes_as_the_stock_game(
    directory: Path, one_of_each: list[Task], cache: Path
) -> None:
    fast, stock = FastGame(cache), StockGame()
    for task in one_of_each:
        game = load(directory, task)
        fast.load(game)
        stock.load(game)
        assert_same(fast, stock, [*random_commands(fast, 15, task.id), " look "])
        assert assert_same(fast, stock, game.walkthrough), "the walkthrough wins"
    fast.close()
    stock.close()


def test_loading_from_the_disk_cache_changes_nothing(directory: Path, one_of_each: list[Task], cache: Path) -> None:
    game = load(directory, one_of_each[0])
    cold = Translator(cache / "new").translate(game.pddl_domain, game.pddl_problem)
    argv = list(sys.argv)
    warm = Translator(cache / "new").translate(game.pddl_domain, game.pddl_problem)
    assert warm == cold
    assert sys.argv == argv


def test_other_releases_play_through_the_stock_classes_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libraries.COMPARED_WITH, "textworld", "0.0.0")
    libraries.fast_path_allowed.cache_clear()
    with pytest.warns(RuntimeWarning, match="stock classes"):
        game = open_game()
    assert isinstance(game, StockGame)
    monkeypatch.undo()
    libraries.fast_path_allowed.cache_clear()


def test_absent_packages_name_the_extra_and_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libraries.COMPARED_WITH, "no-such-package", "1")
    libraries.installed_versions.cache_clear()
    with pytest.raises(MissingExtra, match=r"C compiler.*potstill\[alfworld\]"):
        libraries.installed_versions()
    monkeypatch.undo()
    libraries.installed_versions.cache_clear()


def test_expressions_of_a_grammar_are_not_run() -> None:
    document = 'grammar :: """{"intro": [{"rhs": "{__import__(\'os\').getcwd()}"}]}""";'
    with pytest.raises(BadTask, match="expression"):
        compile_grammar(document)


def test_a_broken_grammar_or_problem_is_a_bad_task(directory: Path, one_of_each: list[Task], cache: Path) -> None:
    game, fast = load(directory, one_of_each[0]), FastGame(cache)
    for broken in ({"grammar": "action {"}, {"pddl_problem": "(define (problem"}, {"pddl_domain": "nothing"}):
        with pytest.raises(BadTask):
            fast.load(GameFile(**{**_fields(game), **broken}))
    fast.load(game)
    assert "Your task is to" in fast.reset().feedback


def _fields(game: GameFile) -> dict[str, object]:
    return {name: getattr(game, name) for name in game.__struct_fields__}


# --- the environment ------------------------------------------------------------------------------------------------


def play(environment: AlfworldEnvironment, task: Task, strays: int, limit: int = 50) -> Observation:
    """Some random steps, then the expert."""
    generator = random.Random(task.id)
    observation = environment.reset(task, 0)
    for index in range(limit):
        if observation.done:
            break
        action = environment.expert_action()
        if index < strays:
            action = Action(text=generator.choice(observation.admissible or ()))
        assert action is not None
        observation = environment.step(action)
    return observation


def test_the_contract_is_kept(directory: Path, one_of_each: list[Task], cache: Path) -> None:
    findings = check_environment(
        lambda: AlfworldEnvironment(directory, cache_directory=cache), one_of_each[:3], max_steps=40
    )
    assert [finding for finding in findings if finding.status is Status.FAILED] == []


def test_goals_of_the_task_list_are_the_goals_of_the_games(
    directory: Path, one_of_each: list[Task], cache: Path
) -> None:
    environment = AlfworldEnvironment(directory, cache_directory=cache)
    for task in one_of_each:
        observation = environment.reset(task, 0)
        assert goal_of(observation.text) == task.goal != ""
        assert observation.admissible == tuple(sorted(set(observation.admissible or ())))


@pytest.mark.parametrize("expert", ["handcoded", "walkthrough"])
@pytest.mark.parametrize("strays", [0, 5])
def test_both_experts_win_also_after_steps_that_they_did_not_choose(
    directory: Path, one_of_each: list[Task], cache: Path, expert: str, strays: int
) -> None:
    environment = AlfworldEnvironment(directory, expert=expert, cache_directory=cache)
    won = [task.kind for task in one_of_each if play(environment, task, strays).done]
    assert won == list(TASK_TYPES)
    assert environment.outcome().success is True
    assert environment.expert_action() is None


def test_an_expert_that_nobody_follows_is_not_lost(directory: Path, one_of_each: list[Task], cache: Path) -> None:
    """Labels for a student that acts itself stay those of a player, not of rules that know where everything is."""
    environment = AlfworldEnvironment(directory, cache_directory=cache)
    for task in one_of_each[:2]:
        environment.reset(task, 0)
        for _ in range(4):
            assert environment.expert_action() is not None
            assert environment.advice == "handcoded"
            environment.step(Action(text="inventory"))


def test_the_expert_repeats_itself_under_the_same_seed_and_leaves_the_global_generator_alone(
    directory: Path, one_of_each: list[Task], cache: Path
) -> None:
    def run() -> list[str]:
        environment = AlfworldEnvironment(directory, cache_directory=cache)
        observation, said = environment.reset(one_of_each[-1], 7), []
        while not observation.done and len(said) < 50:
            action = environment.expert_action()
            assert action is not None
            assert environment.expert_action() == action, "asking twice is asking once"
            said.append(action.text)
            observation = environment.step(action)
        return said

    random.seed(1)
    first = run()
    state = random.getstate()
    random.seed(2)
    assert run() == first
    random.seed(1)
    assert random.getstate() == state


def test_a_step_after_the_end_or_before_the_start_is_an_error(
    directory: Path, one_of_each: list[Task], cache: Path
) -> None:
    environment = AlfworldEnvironment(directory, expert="walkthrough", cache_directory=cache)
    with pytest.raises(EnvError, match="call reset first"):
        environment.step(Action(text="look"))
    play(environment, one_of_each[1], 0)
    with pytest.raises(EnvError, match="over"):
        environment.step(Action(text="look"))


def test_opening_and_closing_many_games_does_not_crash_the_process(directory: Path, cache: Path) -> None:
    program = f"""
from pathlib import Path
from potstill.envs.alfworld.environment import AlfworldEnvironment
from potstill.envs.alfworld.tasks import AlfworldTasks
for task in AlfworldTasks({str(directory)!r}).tasks("valid_seen")[:2] * 4:
    environment = AlfworldEnvironment({str(directory)!r}, cache_directory={str(cache)!r})
    environment.reset(task, 0)
    environment.close()
    environment.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_expert_names_those_that_exist(directory: Path) -> None:
    with pytest.raises(ConfigError, match="handcoded, walkthrough"):
        AlfworldEnvironment(directory, expert="planner")


def test_memory_of_texts_and_translations_is_bounded(directory: Path, cache: Path) -> None:
    translator = Translator(cache)
    games = [load(directory, task) for task in AlfworldTasks(directory).tasks("valid_seen")[:3]]
    translator.memory_entries = 2
    for game in games:
        translator.translate(game.pddl_domain, game.pddl_problem)
    assert len(translator) == 2
