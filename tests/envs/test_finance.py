"""FiNER and Formula from files of the user's: how lines divide, what an episode shows, what a bad file is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.envs.check import Status, check_environment
from potstill.envs.finance import FinanceEnvironment, FinanceTasks
from potstill.envs.finance.tasks import PLAIN_NUMBER, divide_finer, divide_formula
from potstill.envs.registry import factory, open_source
from potstill.errors import BadTask, ConfigError, EnvError, TaskNotFound, UnknownName
from potstill.types import Action, Task

MARGIN = (
    "Use formula Operating Margin = Operating Income / Revenue to answer the question. Answer with 2 decimal places. "
    'Question: "What is the operating margin in percent of a firm with income of 30 and revenue of 200?". Answer:'
)
TAGS = (
    "You are XBRL expert.  Here is a list of US GAAP tags options: ,InterestExpense,Goodwill,Revenues. "
    "Answer the following 2 independent questions by providing only  2 US GAAP tags answers in the order of the "
    "questions. Each answer must be saperated by a comma (,).  Provide nothing else. \n"
    '1. What is best tag for entity "12" in sentence: "Interest was $ 12 , as in 1. quarter .?"\n'
    '2. What is best tag for entity "7" in sentence: "Goodwill of 7 .?"\nOutput US GAAP tags:'
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder as the paper's release names its files, with lines of our own."""
    write(tmp_path / "formula_train_subset_500.jsonl", [{"context": MARGIN, "target": "15.0"}] * 3)
    write(tmp_path / "formula_val_subset_300.jsonl", [{"context": MARGIN, "target": "15.0"}])
    write(tmp_path / "formula_test.jsonl", [{"context": MARGIN, "target": 15.0}, {"context": "2 + 2?", "target": "4"}])
    write(
        tmp_path / "finer_train_batched_1000_samples.jsonl", [{"context": TAGS, "target": "InterestExpense,Goodwill"}]
    )
    write(
        tmp_path / "finer_test_subset_006_seed42.jsonl", [{"context": TAGS, "target": ["InterestExpense", "Goodwill"]}]
    )
    (tmp_path / "sample_config.json").write_text("{}")
    return tmp_path


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def only(source: FinanceTasks, split: str = "test") -> Task:
    return source.tasks(split)[0]


def test_a_formula_question_hides_its_formula_as_the_release_does(files: Path) -> None:
    source = FinanceTasks(str(files))
    assert source.splits() == ("train", "valid", "test")
    task = only(source)
    assert task.goal == "What is the operating margin in percent of a firm with income of 30 and revenue of 200?"
    assert task.data == {"dataset": "formula", "material": PLAIN_NUMBER, "label": "15.0"}
    assert (task.kind, task.id) == ("Operating Margin", "formula-test-00000")


def test_the_formula_is_shown_where_it_is_asked_for(files: Path) -> None:
    task = only(FinanceTasks(str(files), show_formula=True))
    assert task.data["material"].startswith("Use formula Operating Margin = Operating Income / Revenue")
    assert task.data["material"].endswith(PLAIN_NUMBER)


def test_tags_divide_into_questions_and_the_list_that_all_share(files: Path) -> None:
    source = FinanceTasks(str(files), dataset="finer")
    assert source.splits() == ("train", "test")
    task = only(source)
    assert task.goal.startswith('1. What is best tag for entity "12"')
    assert task.goal.endswith("Output US GAAP tags:")
    assert task.data["material"].startswith("You are XBRL expert.")
    assert "InterestExpense,Goodwill,Revenues" in task.data["material"]
    assert task.data["label"] == "InterestExpense,Goodwill"


def test_contexts_of_other_shapes_are_kept_whole() -> None:
    assert divide_formula("2 + 2?").question == "2 + 2?"
    assert divide_finer("Which tag?").question == "Which tag?"
    parts = divide_finer("Instruction: Choose.\nInput: It rose.\nAnswer: ")
    assert (parts.question, parts.material.strip()) == ("It rose.", "Choose.")


def test_one_file_alone(files: Path) -> None:
    assert FinanceTasks(str(files / "formula_test.jsonl")).splits() == ("test",)
    (files / "formula_test.jsonl").rename(files / "mine.jsonl")
    assert FinanceTasks(str(files / "mine.jsonl")).splits() == ("all",)


@pytest.mark.parametrize(("dataset", "grader"), [("formula", "tolerant"), ("finer", "tolerant"), ("finer", "exact")])
def test_the_contract_of_environments_is_kept(files: Path, dataset: str, grader: str) -> None:
    options = {"directory": str(files), "dataset": dataset, "grader": grader}
    tasks = open_source("finance", directory=str(files), dataset=dataset).tasks("test")
    findings = check_environment(factory("finance", **options), tasks, max_steps=1)
    assert [finding for finding in findings if finding.status is Status.FAILED] == []
    assert {f.point: f.status for f in findings}["the expert succeeds"] is Status.PASSED


def played(task: Task, answer: str, **options: Any) -> FinanceEnvironment:
    environment = FinanceEnvironment(**options)
    assert environment.reset(task, 0).text == task.data["material"]
    assert environment.step(Action(text=answer)).done
    return environment


def test_an_episode_is_one_answer(files: Path) -> None:
    task = only(FinanceTasks(str(files)))
    environment = played(task, "30 / 200 is 0.15.\nAnswer: 15.00%")
    assert environment.outcome().success is True
    assert environment.outcome().detail == "right; graded exact: wrong"
    with pytest.raises(EnvError, match="over"):
        environment.step(Action(text="15"))
    assert played(task, "30").outcome().detail == "wrong; graded exact: wrong"
    assert played(task, "15.00%", grader="exact").outcome().success is False
    assert played(task, "15.00%", grader="exact").outcome().detail == "wrong; graded tolerant: right"
    assert played(task, "14.5", tolerance=0.05).outcome().success is True


def test_a_list_says_which_parts_were_wrong_and_never_the_label(files: Path) -> None:
    outcome = played(only(FinanceTasks(str(files), dataset="finer")), "InterestExpense,Revenues").outcome()
    assert (outcome.success, outcome.score) == (False, 0.5)
    assert outcome.detail == "1 of 2 right, wrong: 2; graded exact: 1 of 2 right, wrong: 2"
    assert "Goodwill" not in outcome.detail
    more = played(only(FinanceTasks(str(files), dataset="finer")), "InterestExpense,Goodwill,Revenues").outcome()
    assert more.detail == "2 of 2 right, 1 more than asked for; graded exact: 2 of 2 right"


def test_no_words_are_no_answer(files: Path) -> None:
    environment = played(only(FinanceTasks(str(files))), " ")
    assert environment.outcome().success is False


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 2: not a JSON object"),
        ("[" * 100_000, "line 2: not a JSON object"),
        ("[1]", "line 2: a JSON object is expected, not list"),
        ('{"context": "x"}', "'target' are expected"),
        ('{"context": "", "target": "1"}', "'target' are expected"),
        ('{"context": "x", "target": {"a": 1}}', r"the line has \['context', 'target'\]"),
    ],
)
def test_a_bad_line_is_named(files: Path, line: str, words: str) -> None:
    with (files / "formula_test.jsonl").open("w") as out:
        out.write(json.dumps({"context": MARGIN, "target": "15.0"}) + "\n" + line + "\n")
    with pytest.raises(BadTask, match=words):
        FinanceTasks(str(files)).tasks("test")


def test_wrong_places_and_names_say_what_to_type(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tasks DIR"):
        FinanceTasks(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"such as finer_test\.jsonl"):
        FinanceTasks(str(tmp_path / "empty"), dataset="finer")
    with pytest.raises(UnknownName, match="Did you mean 'finer'"):
        FinanceTasks(str(files), dataset="fine")
    with pytest.raises(TaskNotFound, match="train, valid, test"):
        FinanceTasks(str(files)).tasks("dev")
    with pytest.raises(UnknownName, match="grader"):
        FinanceEnvironment(grader="exakt")
    with pytest.raises(ConfigError, match=r"0 to 0\.1"):
        FinanceEnvironment(tolerance=2)
    with pytest.raises(BadTask, match="no label"):
        FinanceEnvironment().reset(Task(id="x", environment="finance"), 0)
    (files / "formula_test_2.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="two files for the split 'test'"):
        FinanceTasks(str(files))
    (files / "mine.jsonl").write_text("\n")
    with pytest.raises(TaskNotFound, match="holds no questions"):
        FinanceTasks(str(files / "mine.jsonl")).tasks("all")


def test_the_needed_folder_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--tasks DIR"):
        open_source("finance")
