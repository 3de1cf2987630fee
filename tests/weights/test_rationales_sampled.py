"""Rationales by sampling: what led to the teacher's action is kept, a hint is marked, a killed making goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from data_episodes import house_episodes
from rationale_models import PACK, obedient, thoughtful

from command_line import Here, expert_store
from potstill.distill.weights.data.decisions import labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.lm.chats import views
from potstill.distill.weights.rationales.learning import joined, with_reasoning
from potstill.distill.weights.rationales.lines import (
    FORMAT,
    Origin,
    Rationale,
    Read,
    Source,
    decision_of,
    growing,
    read_rationales,
)
from potstill.distill.weights.rationales.sampling import Asked, Sampling, is_right, sampled
from potstill.errors import ConfigError
from potstill.models.tuned_file import Voice
from potstill.protocols import Model
from potstill.run.prompt import View
from potstill.run.voice import agent_of
from potstill.types import Reply

HERE = Path(__file__).parent
ORIGIN = Origin(format=FORMAT, namespace="default", environment="house-rules", split="train", source="sampled")
AGENT = agent_of(Voice(reasoning="with-action", history_turns=0))


def asked_of(action: str) -> tuple[Labelled, View]:
    """A decision of the expert's, whose action begins so, and what its prompt is made of."""
    for episode in house_episodes(4):
        decisions = {one.step_index: one for one in labelled([episode])}
        for step, view in views(episode, AGENT, "Answer with one action."):
            if step.action.text.startswith(action):
                return decisions[step.index], view
    raise AssertionError(action)


async def ask(action: str, model: Model, **fields: object) -> Asked:
    return await sampled(*asked_of(action), model, Sampling(**fields))  # type: ignore[arg-type]


async def test_the_first_right_answers_reasoning_is_kept() -> None:
    model = thoughtful("", action=asked_of("pack")[0].action)
    found = await ask("pack", model, samples=3)
    ((request, n),) = model.requests
    assert n == 3
    assert found.rationale.text == f"{request.seed} says so"
    assert (found.rationale.samples, found.rationale.right, found.rationale.source) == (3, 3, Source.SAMPLED)
    assert found.rationale.decision == decision_of(asked_of("pack")[0])
    assert len(found.calls) == 1
    other = await ask("pack", thoughtful("", action="ship by rail"), samples=3)
    assert (other.rationale.text, other.rationale.samples, other.rationale.right) == ("", 3, 0)


async def test_a_hint_is_in_the_second_prompt_alone_and_is_marked() -> None:
    model = obedient("")
    without = await ask("ship", model, samples=2)
    assert without.rationale.text == ""
    found = await ask("ship", model, samples=2, hint=True)
    assert (found.rationale.source, found.rationale.text) == (Source.HINTED, "it was said")
    assert (found.rationale.samples, found.rationale.right) == (4, 2)
    first, second = [request.messages[0].content for request, _ in model.requests[1:]]
    assert "right next action" not in first
    assert "The right next action is: ship" in second


def test_what_is_right() -> None:
    decision = asked_of("pack")[0]
    other = next(one for one in decision.admissible if one != decision.action)
    said = Reply(text=f" {decision.action.upper()}. ", reasoning="so")
    assert is_right(said, decision)
    assert not is_right(msgspec.structs.replace(said, reasoning=" "), decision)
    assert not is_right(msgspec.structs.replace(said, text=other), decision)
    drawn = Reply(text=decision.action, reasoning="so", candidates=((other, -0.1), (decision.action, -2.0)))
    assert not is_right(drawn, decision)  # drawn by luck: another action is likelier behind this reasoning


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"samples": 0}, "--samples is 0"),
        ({"temperature": 0.0}, "all be the same at 0"),
        ({"temperature": -1}, "is -1"),
    ],
)
def test_samples_that_mean_nothing_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Sampling(**fields)  # type: ignore[arg-type]


# --- learning -------------------------------------------------------------------------------------------------------


def rationale(decision: Labelled, text: str, **fields: object) -> Rationale:
    made = Rationale(
        trajectory_id=decision.trajectory_id,
        step_index=decision.step_index,
        decision=decision_of(decision),
        source=Source.SAMPLED,
        text=text,
    )
    return msgspec.structs.replace(made, **fields)


def test_the_teachers_own_reasoning_comes_first_then_the_first_file_with_a_text() -> None:
    first, second, third, fourth = list(labelled(house_episodes(1)))[:4]
    first = msgspec.structs.replace(first, reasoning="the teacher's own")
    sampled_ones = [rationale(first, "a"), rationale(second, "", model="m"), rationale(third, "c", model="m")]
    templates = [rationale(one, "t", source=Source.TEMPLATED) for one in (second, third)]
    reads = [Read(ORIGIN, {one.key: one for one in some}, "") for some in (sampled_ones, templates)]
    kept, told = with_reasoning([first, second, third, fourth], joined(reads), {"a.jsonl": "0"})
    assert kept == [first, second, third]
    assert told.decisions == {"none": 1, "sampled": 1, "teacher": 1, "templated": 1}
    assert told.models == ("m",)
    with pytest.raises(ConfigError, match="None of the 1 decisions"):
        with_reasoning([fourth], joined(reads), {})
    strange = {rationale(second, "x").key: msgspec.structs.replace(rationale(third, "x"), step_index=second.step_index)}
    with pytest.raises(ConfigError, match="is about another decision"):
        with_reasoning([second], strange, {})


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    one, two = [rationale(decision, "so") for decision in list(labelled(house_episodes(1)))[:2]]
    with growing(path, ORIGIN, resume=False) as file:
        file.add(one)
        file.add(two)
    whole = path.read_bytes()
    for length in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
        path.write_bytes(whole[:length])
        with growing(path, ORIGIN, resume=True) as file:
            assert all(file.known[key] in (one, two) for key in file.known)
            for missing in (each for each in (one, two) if each.key not in file.known):
                file.add(missing)
        assert path.read_bytes() == whole
    path.write_bytes(whole[: len(whole) - 9])
    with pytest.raises(ConfigError, match=r"Line 3 of .* is no rationale: .*--resume"):
        read_rationales(path)


def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(ConfigError, match="Cannot read the rationales"):
        read_rationales(path)
    path.write_text('{"id": "d1"}\n')
    with pytest.raises(ConfigError, match="holds no rationales: its first line"):
        read_rationales(path)
    path.write_bytes(msgspec.json.encode(ORIGIN) + b"\n")
    with pytest.raises(ConfigError, match="is there already"), growing(path, ORIGIN, resume=False):
        pass
    other = msgspec.structs.replace(ORIGIN, model="other")
    with pytest.raises(ConfigError, match="made with model '', and this is 'other'"), growing(path, other, resume=True):
        pass
    line = msgspec.json.encode(rationale(next(iter(labelled(house_episodes(1)))), "so"))
    path.write_bytes(b"\n".join([msgspec.json.encode(ORIGIN), line, line]))
    with pytest.raises(ConfigError, match=r"Line 3 of .* another line is about"):
        read_rationales(path)


@pytest.mark.parametrize(("by", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_a_stopped_making_keeps_what_it_asked_and_goes_on_to_the_same_file(
    by: str, code: int, tmp_path: Path, here: Here
) -> None:
    db, killed, whole = expert_store(tmp_path / "a.db", 3), tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    words = ["distill", "rationales", "--db", str(db), "--from", "sampled", "--history", "1"]
    words += ["--model", "python:rationale_models:thoughtful", "--model-option", f"action={PACK}", "--samples", "2"]
    stopping = ["--model-option", "kill_at=6", "--model-option", f"by={by}"]
    command = [sys.executable, "-m", "potstill", *words, *stopping, "--out", str(killed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert by == "SIGKILL" or "To go on, type the same command with --resume" in done.stderr
    kept = read_rationales(killed).rationales
    assert len(kept) == 5
    assert here(*words, "--out", killed).code == 2
    done_here = here(*words, "--out", killed, "--resume", "--json")
    assert done_here.code == 0, done_here.err
    told = json.loads(done_here.out)
    assert here(*words, "--out", whole).code == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert told["asked"] == told["decisions"] == len(read_rationales(whole).rationales)
    assert 0 < told["kept"] < told["asked"]
    assert told["kept_share"] == told["kept"] / told["asked"]
    assert told["by_source"] == {"sampled": told["kept"]}
    assert told["cost_usd"] is None
    few = here(*words, "--out", tmp_path / "few.jsonl", "--limit", "2", "--dry-run", "--json")
    assert (json.loads(few.out)[0]["decisions"], json.loads(few.out)[0]["answers"]) == (2, 4)
    assert not (tmp_path / "few.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "samples"), "Did you mean 'sampled'"),
        (("--from", "sampled"), "Nothing says who is asked"),
        (("--from", "sampled", "--model", "expert"), "'expert' writes no texts"),
        (("--from", "sampled", "--model", "x:y", "--samples", "0"), "--samples is 0"),
        (("--samples", "2"), "--samples is for models that are asked"),
        (("--from", "sampled", "--model", "tuned:none"), "holds no tuned student"),
        (
            ("--from", "sampled", "--model", "python:rationale_models:obedient", "--max-cost", "1"),
            "obedient has no price, so --max-cost cannot be kept",
        ),
    ],
)
def test_what_cannot_be_made_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, here: Here, small_store: Path
) -> None:
    out = tmp_path / "r.jsonl"
    done = here("distill", "rationales", "--db", small_store, "--out", out, *words)
    assert done.code == 2, done.err
    assert said in done.err
    assert done.err.count("\n") <= 2
    assert not out.exists(), "nothing was asked, nor paid for"


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return expert_store(tmp_path_factory.mktemp("small") / "small.db", 2)
