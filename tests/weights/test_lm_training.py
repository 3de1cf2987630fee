"""Tuning a language model: the loss is the one of plain passes, a killed training goes on, bad input is refused."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from lm_examples import Made, made, run  # noqa: E402

from potstill.distill.weights.lm.chats import Chat  # noqa: E402
from potstill.distill.weights.lm.student import prepare, teach  # noqa: E402
from potstill.distill.weights.lm.tokens import LmExamples, row_of  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss  # noqa: E402
from potstill.distill.weights.losses.objective import loss_of  # noqa: E402
from potstill.distill.weights.losses.spans import SpanKind  # noqa: E402
from potstill.distill.weights.train.loop import Keeping, agreement_of  # noqa: E402
from potstill.errors import BadModelFile, ConfigError  # noqa: E402
from potstill.models.lm_texts import LmTexts  # noqa: E402
from potstill.types import Message  # noqa: E402
from tiny_lm import tiny_checkpoint, tiny_tokenizer  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent
WEIGHTS = {SpanKind.TEXT: 1.0, SpanKind.REASONING: 0.25}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tiny(base: Path) -> Made:
    return made(base)


def plain_logprobs(model: Any, ids: list[int]) -> Any:
    """Log-probabilities of what comes after each token of one text, without padding or cache."""
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)


def test_the_loss_is_the_weighted_mean_over_the_answers_tokens(base: Path, tiny: Made) -> None:
    thoughts = [msgspec.structs.replace(chat, reasoning="it is heavy", weight=2.0) for chat in tiny.learn[:2]]
    prepared = tiny.prepared()
    network, texts = prepared.network.eval(), prepared.texts
    some = [*tiny.learn[2:5], *thoughts]
    data = LmExamples(some, texts, WEIGHTS, 10**6)
    batch = LmExamples(some, texts, WEIGHTS, len(texts.tokenizer)).batch(np.arange(5))
    with torch.no_grad():
        logits_NV = network(batch.inputs)
    loss = loss_of(Loss(kind=Kind.HARD))(logits_NV, mask=batch.mask_BA, labels=batch.target_B, weights=batch.weight_B)
    summed, weighed = 0.0, 0.0
    for row, chat in zip(data.rows, some, strict=True):
        logprobs = plain_logprobs(network.engine.model, [*row.prompt, *row.answer])
        for place, (token, weight) in enumerate(zip(row.answer, row.weights, strict=True)):
            summed -= weight * chat.weight * float(logprobs[len(row.prompt) + place - 1, token])
            weighed += weight * chat.weight
    assert float(loss) == pytest.approx(summed / weighed, rel=1e-4)
    assert len(batch.inputs.keep_K) == max(len(row.answer) for row in data.rows) < len(data.rows[0].prompt)


def test_candidates_are_scored_as_plain_passes_do(tiny: Made) -> None:
    prepared = tiny.prepared()
    batch = prepared.held_out.batch(np.arange(2))
    prepared.network.eval()
    scores_BA = prepared.network(batch.inputs)
    for at, (prompt, candidates) in enumerate(zip(batch.inputs.prompts, batch.inputs.candidates, strict=True)):
        for place, tokens in enumerate(candidates):
            logprobs = plain_logprobs(prepared.network.engine.model, [*prompt, *tokens])
            plain = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens))
            assert float(scores_BA[at, place]) == pytest.approx(plain, abs=1e-3)
        assert bool(torch.isinf(scores_BA[at, len(candidates) :]).all())


def test_a_row_by_hand(base: Path) -> None:
    """Prompts have no weight; reasoning has its own; the end of the answer belongs to the action."""
    texts = LmTexts(base)
    chat = Chat(messages=(Message(role="user", content="?"),), admissible=("weigh it", "pack"), action="weigh it")
    row = row_of(chat, texts, WEIGHTS)
    assert texts.tokenizer.decode(row.prompt) == "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"
    assert texts.tokenizer.decode(row.answer) == "weigh it<|im_end|>"
    assert row.weights == [1.0] * len(row.answer)
    thinking = row_of(msgspec.structs.replace(chat, reasoning="so"), texts, WEIGHTS)
    assert texts.tokenizer.decode(thinking.answer) == "reasoning: so\naction: weigh it<|im_end|>"
    said = len(texts.answer_ids(" weigh it")) + 1
    assert thinking.weights == [0.25] * (len(thinking.answer) - said) + [1.0] * said


def test_a_transcript_ends_with_the_line(tmp_path: Path) -> None:
    texts = LmTexts(tiny_checkpoint(tmp_path, chat=False))
    chat = Chat(messages=(Message(role="user", content="?"),), admissible=("weigh it", "pack"), action="pack")
    row = row_of(chat, texts, WEIGHTS)
    assert texts.tokenizer.decode([*row.prompt, *row.answer]) == "?\n> pack\n"


def test_it_learns_and_only_adapters_change(tiny: Made) -> None:
    recipe = msgspec.structs.replace(tiny.recipe, train=msgspec.structs.replace(tiny.recipe.train, steps=40))
    prepared = prepare(tiny.base, tiny.learn, tiny.learn, recipe)
    frozen = {n: v.detach().clone() for n, v in prepared.network.peft.named_parameters() if not v.requires_grad}
    before = agreement_of(prepared.network, prepared.held_out)
    trained = teach(prepared, recipe)
    assert trained.measured_by == "agreement"
    assert trained.best is not None
    assert trained.best >= before + 0.2  # of what it was shown
    after = dict(prepared.network.peft.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
    assert agreement_of(prepared.network, prepared.held_out) == trained.best


def test_a_killed_tuning_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    whole = run(base, tmp_path / "whole.pt", kill_at=-1, resume=False)
    path = tmp_path / "killed.pt"
    killed = subprocess.run(
        [sys.executable, str(HERE / "lm_examples.py"), str(base), str(path), "7", "anew"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    content = torch.load(path, weights_only=True)
    assert content["progress"]["step"] == 4
    assert all("lora_" in name for name in content["network"])
    assert run(base, path, kill_at=-1, resume=True) == whole


def test_a_checkpoint_of_other_adapters_is_refused(tiny: Made, tmp_path: Path) -> None:
    short = msgspec.structs.replace(tiny.recipe, train=msgspec.structs.replace(tiny.recipe.train, steps=1))
    teach(tiny.prepared(), short, keeping=Keeping(tmp_path / "c.pt"))
    other = msgspec.structs.replace(short, rank=2)
    prepared = prepare(tiny.base, tiny.learn, tiny.held_out, other)
    with pytest.raises(ConfigError, match="adapters: rank 4 / 2"):
        teach(prepared, other, keeping=Keeping(tmp_path / "c.pt", resume=True))


def test_what_does_not_fit_is_refused_before_weights_are_loaded(tiny: Made, tmp_path: Path) -> None:
    short = tiny_checkpoint(tmp_path / "short", context_tokens=64)
    with pytest.raises(ConfigError, match=r"has \d+ tokens .* takes 64\. .*--history"):
        prepare(short, tiny.learn, tiny.held_out, tiny.recipe)
    small = tiny_checkpoint(tmp_path / "small", vocabulary=len(tiny_tokenizer()) - 5)
    with pytest.raises(BadModelFile, match="do not belong together"):
        prepare(small, tiny.learn, tiny.held_out, tiny.recipe)
    with pytest.raises(ConfigError, match="no decision to learn"):
        prepare(tiny.base, [], tiny.held_out, tiny.recipe)
    one = [msgspec.structs.replace(tiny.learn[0], weight=float(at)) for at in (1, 2)]
    with pytest.raises(ConfigError, match="every answer is the same"):
        prepare(tiny.base, one, tiny.held_out, tiny.recipe)
    empty = tmp_path / "empty"
    shutil.copytree(tiny.base, empty)
    for path in empty.glob("*.safetensors"):
        path.unlink()
    with pytest.raises((BadModelFile, OSError)):
        prepare(empty, tiny.learn, tiny.held_out, tiny.recipe)


def test_more_logits_than_tokens_are_allowed(tiny: Made, tmp_path: Path) -> None:
    """Weights are often padded to a round number of tokens."""
    padded = tiny_checkpoint(tmp_path / "padded", vocabulary=512)
    prepared = prepare(padded, tiny.learn, tiny.held_out, tiny.recipe)
    assert math.isfinite(agreement_of(prepared.network, prepared.held_out))
    assert prepared.network(prepared.data.batch(np.arange(2)).inputs).shape[1] == 512
