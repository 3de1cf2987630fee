"""Function-calling tasks: the outcome is the leaderboard's, and nothing that a model wrote ever runs as code."""

from __future__ import annotations

import json

import pytest

from potstill.errors import BadTask, EnvError, TaskNotFound
from potstill.types import Action, Task, ToolCall

pytest.importorskip("bfcl_eval", reason="needs: pip install mpmath && pip install --no-deps bfcl-eval")
pytest.importorskip("mpmath", reason="needs: pip install mpmath")

from potstill.envs.bfcl import BfclEnvironment, BfclTasks, data
from potstill.envs.bfcl.data import CATEGORIES, Entry, GoldCall, parse_gold
from potstill.envs.bfcl.tasks import is_held_out

SAMPLE = [(category, number) for category in CATEGORIES for number in range(3, 200, 28)]


def task_of(category: str, number: int) -> Task:
    return next(task for task in BfclTasks().tasks(category) if data.number_of(task.id) == number)


def call(name: str, /, **arguments: object) -> Action:
    return Action(tool_calls=(ToolCall(id="1", name=name, arguments=json.dumps(arguments)),))


def source(gold: GoldCall) -> str:
    """A gold call as the package's own checker reads it."""
    parts = [repr(value) for value in gold.positional] + [f"{k}={v!r}" for k, v in gold.arguments.items()]
    return f"{gold.name}({', '.join(parts)})"


def package_says(entry: Entry, calls: list[list[GoldCall]], label: str) -> bool:
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

    row = {"id": entry.id, "initial_config": entry.initial, "involved_classes": list(entry.classes)}
    model = [[[source(gold)] for gold in turn] for turn in calls]
    gold = [[source(call) for call in turn] for turn in entry.gold]
    return bool(multi_turn_checker(model, gold, row, entry.category, label)["valid"])


def we_say(task: Task, entry: Entry, calls: list[list[GoldCall]]) -> bool:
    environment = BfclEnvironment()
    environment.reset(task, 0)
    for turn in calls:
        for gold in turn:
            named = environment._tools.named(gold)
            environment.step(call(gold.name, **named))
        environment.step(Action(text="Done."))
    return environment.outcome().success is True


@pytest.mark.parametrize("expert_calls", ["one", "turn"])
@pytest.mark.parametrize(("category", "number"), SAMPLE)
def test_gold_calls_succeed(category: str, number: int, expert_calls: str) -> None:
    environment = BfclEnvironment(expert_calls=expert_calls)
    observation = environment.reset(task_of(category, number), seed=0)
    while not observation.done:
        action = environment.expert_action()
        assert action is not None
        observation = environment.step(action)
    assert environment.outcome().success is True
    assert environment.outcome().score == 1.0


@pytest.mark.parametrize(("category", "number"), SAMPLE)
@pytest.mark.parametrize("change", ["nothing", "drop first", "drop last", "twice", "reverse"])
def test_outcome_agrees_with_the_packages_checker(category: str, number: int, change: str) -> None:
    task = task_of(category, number)
    entry = data.entries(category)[task.id]
    calls = [list(turn) for turn in entry.gold]
    acting = [turn for turn in calls if turn]
    if change == "drop first":
        acting[0].pop(0)
    elif change == "drop last":
        acting[-1].pop()
    elif change == "twice":
        acting[0].append(acting[0][-1])
    elif change == "reverse":
        acting[0].reverse()
    assert we_say(task, entry, calls) == package_says(entry, calls, f"check_{change.replace(' ', '_')}")


def test_a_model_cannot_run_code_through_names_or_arguments(tmp_path) -> None:
    environment = BfclEnvironment()
    observation = environment.reset(task_of("base", 0), seed=0)
    target = tmp_path / "made"
    names = ["__import__('os').system", "cd.__globals__", "_load_scenario", "__init__", "_load_directory", "eval", ""]
    for name in names:
        observation = environment.step(call(name, scenario={}, command=f"touch {target}"))
        assert observation.tool_results[0].text.startswith("Error during execution: name")
    for arguments in ["__import__('os')", "[1]", '"x"', "{'folder': 'document'}", "[" * 100_000, "null"]:
        action = Action(tool_calls=(ToolCall(id="x", name="cd", arguments=arguments),))
        assert environment.step(action).tool_results[0].text.startswith("Error during execution: the arguments")
    assert not target.exists()


def test_a_wrong_argument_is_answered_like_in_the_package() -> None:
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils import execute_multi_turn_func_call

    task = task_of("base", 0)
    entry = data.entries("base")[task.id]
    environment = BfclEnvironment()
    environment.reset(task, seed=0)
    ours = environment.step(call("cd", nowhere="x")).tool_results[0].text
    theirs, _ = execute_multi_turn_func_call(["cd(nowhere='x')"], entry.initial, list(entry.classes), "m", entry.id)
    assert ours == theirs[0]
    assert "unexpected keyword" in ours


def test_text_ends_the_turn_and_brings_the_users_next_words() -> None:
    environment = BfclEnvironment()
    task = task_of("base", 0)
    first = environment.reset(task, seed=0)
    assert first.text == task.goal
    assert {"cd", "mv"} <= {tool.name for tool in first.tools}
    assert first.tools[0].parameters["type"] == "object"
    second = environment.step(Action(text="I am done"))
    assert "grep" in second.text
    assert not second.done
    assert environment.outcome().success is False


def test_silence_is_a_failure() -> None:
    environment = BfclEnvironment()
    observation = environment.reset(task_of("base", 0), seed=0)
    while not observation.done:
        observation = environment.step(Action(text="Done."))
    assert environment.outcome().success is False
    assert "turn 0: no tool was called" in environment.outcome().detail
    with pytest.raises(EnvError, match="call reset"):
        environment.step(Action(text="more"))


def test_a_turn_of_too_many_steps_fails_the_task() -> None:
    environment = BfclEnvironment()
    observation = environment.reset(task_of("base", 0), seed=0)
    for _ in range(21):
        observation = environment.step(call("pwd"))
    assert observation.done
    assert "more than 20 steps" in environment.outcome().detail


def test_a_missing_tool_appears_in_its_turn() -> None:
    environment = BfclEnvironment()
    observation = environment.reset(task_of("miss_func", 0), seed=0)
    assert "sort" not in {tool.name for tool in observation.tools}
    while "updated some more functions" not in observation.text:
        action = environment.expert_action()
        assert action is not None
        observation = environment.step(action)
    assert "sort" in {tool.name for tool in observation.tools}


def test_the_expert_gives_only_what_is_left_of_the_turn() -> None:
    environment = BfclEnvironment(expert_calls="turn")
    environment.reset(task_of("base", 0), seed=0)
    environment.step(call("cd", folder="document"))
    action = environment.expert_action()
    assert action is not None
    assert [made.name for made in action.tool_calls] == ["mkdir", "mv"]


def test_train_and_test_share_no_story() -> None:
    tasks = BfclTasks(category=",".join(CATEGORIES))
    train = {data.number_of(task.id) for task in tasks.tasks("train")}
    test = {data.number_of(task.id) for task in tasks.tasks("test")}
    assert train
    assert test
    assert not train & test
    assert len(tasks.tasks("train")) + len(tasks.tasks("test")) == 800


def test_the_held_out_part_never_moves() -> None:
    assert sum(is_held_out(f"multi_turn_base_{number}") for number in range(200)) == 56
    assert is_held_out("multi_turn_base_7") == is_held_out("multi_turn_long_context_7")


def test_gold_is_parsed_as_data() -> None:
    assert parse_gold("sort('a.txt', reverse=True)") == GoldCall(
        name="sort", positional=("a.txt",), arguments={"reverse": True}
    )
    for bad in ["os.system('x')", "f(g())", "1+1"]:
        with pytest.raises((BadTask, ValueError)):
            parse_gold(bad)


def test_unknown_splits_and_tasks_are_named() -> None:
    with pytest.raises(TaskNotFound, match="train, test, base"):
        BfclTasks().tasks("validation")
    with pytest.raises(BadTask, match="names no task"):
        BfclEnvironment().reset(Task(id="x", environment="bfcl", data={"category": "base", "id": "nope"}), 0)
