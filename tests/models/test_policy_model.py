"""A policy out of a file, as a model: the contract, its draws, its usage, and what it refuses."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import policy_files as files
from potstill.edge.act import decide
from potstill.edge.mlp import Mlp
from potstill.edge.policy import open_policy as open_file
from potstill.errors import BadModelFile, ConfigError, ModelError, UnknownName
from potstill.measure.ledger import cost_of
from potstill.measure.prices import PriceTable
from potstill.models.check import Status, check_model
from potstill.models.policy import COUNTED_BY, open_policy
from potstill.models.registry import list_models, open_model
from potstill.protocols import CandidateScorer, Model
from potstill.types import Answerer, Message, Past, Purpose, Request, Situation, ToolSpec

SITUATION = Situation(
    goal=files.SITUATION["goal"],
    observation=files.SITUATION["observation"],
    past=tuple(Past(**turn) for turn in files.SITUATION["past"]),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return files.write_policy(tmp_path / "student.safetensors")


def request(**changed: Any) -> Request:
    asked = Request(
        messages=(Message(role="user", content="what now?"),), admissible=tuple(files.ACTIONS), situation=SITUATION
    )
    return msgspec.structs.replace(asked, **changed)


async def test_it_keeps_the_contract_of_a_model(path: Path) -> None:
    report = await check_model(open_model(f"policy:{path}"))
    assert report.passed, report
    found = {finding.check: finding.status for finding in report.findings}
    assert {check for check, status in found.items() if status is not Status.OK} == {"log-probabilities", "tools"}


async def test_it_is_a_model_and_scores_candidates(path: Path) -> None:
    model = open_model(f"policy:{path}")
    assert isinstance(model, Model)
    assert isinstance(model, CandidateScorer)
    assert model.name == f"policy:{path}"
    assert model.capabilities.actions_only


async def test_its_candidates_are_what_the_runtime_decides(path: Path) -> None:
    expected = decide(open_file(path), {**files.SITUATION, "admissible": files.ACTIONS})
    reply = (await open_policy(path).score(request(temperature=1.0))).replies[0]
    assert reply.text == expected["action"] == reply.candidates[0][0]
    assert reply.logprob == reply.candidates[0][1]
    assert {name: math.exp(score) for name, score in reply.candidates} == pytest.approx(
        dict(zip(files.ACTIONS, expected["probabilities"], strict=True))
    )
    scores = [score for _, score in reply.candidates]
    assert scores == sorted(scores, reverse=True)


async def test_draws_follow_the_temperature_and_the_seed(path: Path) -> None:
    model = open_policy(path)
    best = (await model.score(request())).replies[0]
    greedy = await model.sample(request(), 5)
    assert {reply.text for reply in greedy.replies} == {best.text}
    drawn = await model.sample(request(temperature=2.0, seed=3), 2000)
    assert [bool(reply.candidates) for reply in drawn.replies] == [True] + [False] * 1999
    again = await model.sample(request(temperature=2.0, seed=3), 2000)
    assert [one.text for one in drawn.replies] == [one.text for one in again.replies]
    weights = {name: math.exp(score / 2.0) for name, score in best.candidates}
    counts = Counter(reply.text for reply in drawn.replies)
    for name, weight in weights.items():
        assert counts[name] / 2000 == pytest.approx(weight / sum(weights.values()), abs=0.05)


async def test_without_a_seed_of_the_request_the_models_own_decides(path: Path) -> None:
    asked = request(temperature=5.0)
    drawn = [await open_policy(path, seed=seed).sample(asked, 40) for seed in (1, 1, 2)]
    texts = [[reply.text for reply in completion.replies] for completion in drawn]
    assert texts[0] == texts[1] != texts[2]


async def test_an_action_that_is_listed_twice_is_one(path: Path) -> None:
    reply = (await open_policy(path).score(request(admissible=("look", "look", "go to shelf 1")))).replies[0]
    assert sorted(name for name, _ in reply.candidates) == ["go to shelf 1", "look"]


async def test_one_call_is_billed_by_its_cpu_time(path: Path) -> None:
    completion = await open_policy(path).sample(request(purpose=Purpose.ACT), 3)
    (call,) = completion.calls
    assert call.replies == completion.replies
    assert call.answerer is Answerer.NOBODY
    assert call.usage is not None
    assert call.usage.estimated
    assert call.usage.counted_by == COUNTED_BY
    # Goal 6 words, observation 8, turns 5 + 4 and 3 + 4, actions 3 + 4 + 4 + 1.
    assert call.usage.input_tokens == 6 + 8 + (5 + 4) + (3 + 4) + (3 + 4 + 4 + 1)
    assert call.usage.output_tokens == 3 * len(completion.replies[0].text.split())
    assert call.cpu_s is not None
    assert call.cpu_s > 0
    row = cost_of(call, PriceTable.load(cpu_hour_usd=0.05))
    assert row.priced_as == "cpu"
    assert row.total_usd == pytest.approx(call.cpu_s / 3600 * 0.05)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"situation": None}, "no situation"),
        ({"admissible": ()}, "has none"),
        ({"admissible": (), "purpose": Purpose.PLAN}, "this request to plan has none"),
        ({"tools": (ToolSpec(name="open"),)}, "no tools"),
    ],
)
async def test_what_it_cannot_answer_is_one_clear_line(path: Path, changed: dict[str, Any], says: str) -> None:
    model = open_policy(path)
    with pytest.raises(ModelError, match=says):
        await model.sample(request(**changed))
    assert len((await model.sample(request())).replies) == 1


async def test_no_sample_is_a_mistake(path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        await open_policy(path).sample(request(), 0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        open_model(f"policy:{tmp_path / 'none'}")
    with pytest.raises(ConfigError, match="directory"):
        open_model(f"policy:{tmp_path}")
    with pytest.raises(ConfigError, match=r"policy:student\.policy"):
        open_model("policy:")


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\x03" * 60)
    with pytest.raises(BadModelFile, match=r"x\.gguf is not a safetensors file"):
        open_model(f"policy:{tmp_path / 'x.gguf'}")


async def test_a_network_of_vectors_reads_the_observation_s_text(tmp_path: Path) -> None:
    file = files.write_policy(tmp_path / "v", config=files.MLP)
    policy = open_file(file)
    assert isinstance(policy.network, Mlp)
    seen = [0.5, -1.0, 2.0, 0.25]
    logits = policy.log_probabilities(policy.network.logits(seen))
    model = open_model(f"policy:{file}")
    asked = request(situation=Situation(goal="any", observation="[0.5, -1, 2, 0.25]"), admissible=("2", "0"))
    found = dict((await model.sample(asked)).replies[0].candidates)
    assert found["2"] - found["0"] == pytest.approx(logits[2] - logits[0], abs=1e-6)
    assert math.fsum(map(math.exp, found.values())) == pytest.approx(1.0)  # over what is admissible
    for situation, actions, said in (
        (Situation(observation="You see a mug."), ("0", "1"), "no JSON list of numbers: 'You see a mug.'"),
        (Situation(observation="[1, 2]"), ("0", "1"), "takes 4 numbers"),
        (Situation(observation="[1, 2, 3, 4]"), ("0", "jump"), "no action 'jump'; it has: 0, 1, 2"),
    ):
        with pytest.raises(ModelError, match=said):
            await model.sample(request(situation=situation, admissible=actions))


def test_a_file_that_was_changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadModelFile, match="changed after it was written"):
        open_model(f"policy:{path}")


async def test_weights_that_overflow_are_told(tmp_path: Path) -> None:
    arrays = files.ranker_arrays()
    arrays["hidden.weight"] = np.full_like(arrays["hidden.weight"], 3e38)
    model = open_policy(files.write_policy(tmp_path / "p", arrays))
    with pytest.raises(BadModelFile, match="not finite"):
        await model.sample(request())


def test_an_option_that_it_does_not_take(path: Path) -> None:
    with pytest.raises(UnknownName, match="seed"):
        open_model(f"policy:{path}", sed=1)


def test_it_is_listed() -> None:
    assert "policy:FILE" in [kind.spec for kind in list_models()]
