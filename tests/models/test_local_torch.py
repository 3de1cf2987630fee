"""The PyTorch model: exact likelihoods behind a cached prompt. Random models for the arithmetic, SmolLM2 for real."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import ConfigError, ContextOverflow
from potstill.types import FinishReason, Message, Request

torch: Any = pytest.importorskip("torch", reason="the extra 'lm' is not installed: pip install 'potstill[lm]'")
transformers: Any = pytest.importorskip("transformers", reason="the extra 'lm' is not installed")

from potstill.models.torch_engine import TorchEngine, load_model  # noqa: E402

pytestmark = pytest.mark.extra

PROMPT = [5, 9, 3, 7, 7, 1, 2, 8] * 9
ACTIONS = {"a": (4, 5), "b": (4, 6, 7), "c": (8,), "d": (4, 6, 9), "e": (4,)}


def no_check() -> None:
    """Never stops."""


def direct(engine: TorchEngine, prompt: list[int], tokens: tuple[int, ...]) -> float:
    """One whole pass for one action, without any cache."""
    with torch.inference_mode():
        logits = engine.model(torch.tensor([[*prompt, *tokens]])).logits[0]
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    return sum(float(logprobs[len(prompt) - 1 + at, token]) for at, token in enumerate(tokens))


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    """A random model of two layers; gemma3 mixes a sliding window of 16 tokens with full attention."""
    pytest.importorskip("accelerate")
    pytest.importorskip("gguf")
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    torch.manual_seed(0)
    if request.param == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    else:
        kinds = ["sliding_attention", "full_attention"]
        config = transformers.Gemma3TextConfig(**shape, sliding_window=16, layer_types=kinds, initializer_range=0.3)
        model = transformers.Gemma3ForCausalLM(config)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(str(folder))
    torch.set_num_threads(1)
    return TorchEngine(load_model(folder))


def test_one_pass_over_the_tree_equals_one_pass_per_action(engine: TorchEngine) -> None:
    steps, _ = engine.score(PROMPT, ACTIONS, no_check)
    for tokens in ACTIONS.values():
        total = sum(steps[tokens[: depth + 1]] for depth in range(len(tokens)))
        assert total == pytest.approx(direct(engine, PROMPT, tokens), abs=1e-4)


def test_cached_beginnings_change_nothing(engine: TorchEngine) -> None:
    engine.clear()
    branches = [PROMPT, [*PROMPT, 4, 6, 11], [*PROMPT[:40], 12, 13, 14], PROMPT, [*PROMPT, 4, 6, 11, 2]]
    cached = []
    for prompt in branches:
        steps, hit = engine.score(prompt, ACTIONS, no_check)
        cached.append(hit)
        assert steps[(4,)] == pytest.approx(direct(engine, prompt, (4,)), abs=1e-4)
    assert cached[0] == 0
    assert cached[1] == len(PROMPT) - 1
    assert cached[2] == 40
    assert cached[3] == len(PROMPT)  # asked before: from memory, no pass
    assert cached[4] == len(PROMPT) + 2  # behind the second one


def test_a_question_asked_again_is_answered_from_memory(engine: TorchEngine) -> None:
    prompt = [2, 4, 6, 8] * 12
    first, _ = engine.score(prompt, ACTIONS, no_check)
    engine.score(PROMPT, ACTIONS, no_check)
    again, cached = engine.score(prompt, ACTIONS, no_check)
    assert again == first
    assert cached == len(prompt)
    fewer, cached = engine.score(prompt, {"c": ACTIONS["c"]}, no_check)
    assert set(fewer) == {(8,)}
    assert cached < len(prompt), "other actions are another question"
    assert fewer[8,] == pytest.approx(first[8,], abs=1e-4)


def test_greedy_decoding_follows_the_likeliest_token(engine: TorchEngine) -> None:
    samples, _ = engine.decode(PROMPT, 2, 5, 0.0, 0, lambda row, tokens: False, no_check)
    tokens = list(PROMPT)
    for token, logprob in samples[0]:
        with torch.inference_mode():
            logprobs = torch.log_softmax(engine.model(torch.tensor([tokens])).logits[0, -1].float(), dim=-1)
        assert logprob == pytest.approx(float(logprobs.max()), abs=1e-4)
        tokens.append(token)
    assert samples[0] == samples[1]


def test_an_interrupted_prompt_leaves_a_usable_prefix(engine: TorchEngine) -> None:
    engine.clear()
    asked = []

    def stop() -> None:
        asked.append(1)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.score(PROMPT, ACTIONS, stop)
    steps, _ = engine.score(PROMPT, ACTIONS, no_check)
    assert steps[(8,)] == pytest.approx(direct(engine, PROMPT, (8,)), abs=1e-4)


def test_too_long_a_prompt_is_refused(engine: TorchEngine) -> None:
    with pytest.raises(ContextOverflow, match="256"):
        engine.score([1] * 300, ACTIONS, no_check)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[Any]:
    from potstill.models.torch_lm import open_torch

    opened = open_torch("smollm2-135m", seed=1)
    yield opened
    asyncio.run(opened.aclose())


ADMISSIBLE = ("go to fridge 1", "go to cabinet 1", "open fridge 1", "look")


def asking(text: str, **fields: Any) -> Request:
    system = Message(role="system", content="You act in a household game.")
    return Request(messages=(system, Message(role="user", content=text)), **fields)


@pytest.mark.llm
@pytest.mark.full
async def test_both_runtimes_see_the_same_text_and_score_alike(model: Any) -> None:
    """The same tokens; log-probabilities within what the four-bit arithmetic of llama.cpp costs."""
    pytest.importorskip("xllamacpp")
    from potstill.models.local import open_local

    local = open_local("smollm2-135m", context_tokens=1024, samples=1)
    try:
        request = asking("You are hungry. What do you do?", admissible=ADMISSIBLE)
        assert await local.render(request) == await model.render(request)
        for text in ("go to cabinet 12", 'Zoë said: "no"\n> ok', "<|im_end|>"):
            assert local.tokenize(text) == model.tokenize(text) or "<|" in text
        (ours,), (theirs,) = (await model.score(request)).replies, (await local.score(request)).replies
        assert ours.text == theirs.text
        for text, logprob in ours.candidates:
            assert dict(theirs.candidates)[text] == pytest.approx(logprob, abs=1.0)
    finally:
        await local.aclose()


@pytest.mark.llm
@pytest.mark.full
async def test_requests_are_answered_and_cancelled(model: Any) -> None:
    done = await model.sample(asking("What now?", admissible=ADMISSIBLE, temperature=5.0, seed=1), 4)
    assert {reply.text for reply in done.replies} <= set(ADMISSIBLE)
    assert set(dict(done.replies[0].candidates)) == set(ADMISSIBLE)
    free = await model.sample(asking("Say hello.", max_tokens=12, temperature=0.5, stop=(".",)), 2)
    assert len(free.replies) == 2
    assert all("." not in reply.text for reply in free.replies)
    cut = await model.sample(asking("Tell a story.", max_tokens=3))
    assert cut.replies[0].finish_reason is FinishReason.LENGTH
    task = asyncio.create_task(model.sample(asking("Tell a story.", max_tokens=2000, temperature=1.0)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        assert (await model.score(asking("What now?", admissible=ADMISSIBLE))).replies[0].text in ADMISSIBLE
    with pytest.raises(ConfigError, match="admissible"):
        await model.score(asking("What now?"))
