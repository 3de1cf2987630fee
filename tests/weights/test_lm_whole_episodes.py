"""All decisions of an episode in one pass: the same loss and gradient as one by one, and no token learnt twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from data_episodes import house_episodes  # noqa: E402
from lm_examples import INSTRUCTIONS, TRAIN  # noqa: E402

from potstill.distill.weights.data import build  # noqa: E402
from potstill.distill.weights.lm.chats import Chat, chats  # noqa: E402
from potstill.distill.weights.lm.passes import Pass, joined  # noqa: E402
from potstill.distill.weights.lm.recipe import LmRecipe  # noqa: E402
from potstill.distill.weights.lm.student import Prepared, prepare  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss  # noqa: E402
from potstill.distill.weights.losses.objective import loss_of  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.models.tuned_file import Voice  # noqa: E402
from potstill.run.arms import Reasoning  # noqa: E402
from tiny_lm import tiny_checkpoint  # noqa: E402

pytestmark = pytest.mark.extra
PLAIN = LmRecipe(base="tiny", rank=4, train=TRAIN, dropout=0.0)
WHOLE = msgspec.structs.replace(PLAIN, whole_episodes=True)
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def learn() -> list[Chat]:
    """Decisions of three episodes, of different weights, not in their order."""
    episodes = house_episodes(3)
    decisions = build(episodes, fractions={"train": 1.0}).splits["train"]
    found = chats(episodes, decisions, PLAIN.agent, INSTRUCTIONS)
    return [msgspec.structs.replace(chat, weight=1.0 + at % 3) for at, chat in enumerate(found)][::-1]


def learnt(passes: list[Pass]) -> Counter[tuple[int, ...]]:
    """The weight of every learnt token, by the text that ends with it."""
    return Counter(
        {
            text: sum(one.weights[len(text) - 1] for one in passes if tuple(one.ids[: len(text)]) == text)
            for text in {tuple(one.ids[: at + 1]) for one in passes for at, weight in enumerate(one.weights) if weight}
        }
    )


@given(st.lists(TOKENS, max_size=8))
def test_every_token_is_learnt_behind_the_same_text_with_the_same_weight(texts: list[list[int]]) -> None:
    given_ = [Pass(ids, [0.0] * (len(ids) - 1) + [float(2**at)]) for at, ids in enumerate(texts)]
    found = joined(given_)
    assert learnt(found) == learnt(given_)
    for one in found:
        assert len(one.ids) == len(one.weights)
        assert sum(other.ids[: len(one.ids)] == one.ids for other in found) == 1  # none begins another


def gradient(prepared: Prepared, batches: list[list[int]]) -> tuple[float, dict[str, Any]]:
    """The loss over all of these batches as the loop weighs it, and its gradient."""
    network = prepared.network.train()
    logits, labels, weights = [], [], []
    for rows in batches:
        batch = prepared.data.batch(np.array(rows))
        logits.append(network(batch.inputs))
        labels.append(batch.target_B)
        weights.append(batch.weight_B)
    loss = loss_of(Loss(kind=Kind.HARD))(torch.cat(logits), labels=torch.cat(labels), weights=torch.cat(weights))
    network.zero_grad()
    loss.backward()
    found = {name: value.grad.clone() for name, value in network.state_dict().items()}
    return float(loss.detach()), found


def test_the_gradient_is_that_of_the_decisions_one_by_one(base: Path, learn: list[Chat]) -> None:
    apart, whole = prepare(base, learn, learn, PLAIN), prepare(base, learn, learn, WHOLE)
    assert len(apart.data) == len(learn)
    assert len(whole.data) == 3
    assert len(whole.data.rows) == len(learn)  # lengths are checked of every decision
    loss, expected = gradient(apart, [[at] for at in range(len(learn))])
    together, found = gradient(whole, [[0, 1], [2]])
    assert together == pytest.approx(loss, rel=1e-5)
    assert any(float(value.abs().max()) > 1e-4 for value in expected.values())
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6), name


def test_the_head_sees_learnt_positions_only(base: Path, learn: list[Chat]) -> None:
    whole = prepare(base, learn, learn, WHOLE)
    inputs = whole.data.batch(np.array([0])).inputs
    learnt_tokens = sum(weight > 0 for weight in whole.data.passes[0].weights)
    assert len(inputs.keep_K) == learnt_tokens < len(whole.data.passes[0].ids) / 2


@pytest.mark.parametrize(
    "voice", [Voice(history_turns=2), Voice(list_admissible=True), Voice(reasoning=Reasoning.WITH_ACTION)]
)
def test_prompts_that_do_not_go_on_are_refused(voice: Voice) -> None:
    with pytest.raises(ConfigError, match=r"Leave --history, .* away, or --whole-episodes"):
        LmRecipe(base="tiny", voice=voice, whole_episodes=True)


def test_decisions_that_stand_alone_are_refused(base: Path, learn: list[Chat]) -> None:
    of_two_episodes = [learn[0], learn[-2]]
    with pytest.raises(ConfigError, match=r"No prompt of the 2 decisions goes on .* Leave --whole-episodes away"):
        prepare(base, of_two_episodes, learn, WHOLE)
