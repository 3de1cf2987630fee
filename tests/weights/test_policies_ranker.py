"""The ranker in PyTorch is the ranker of ``edge``, and does not see what is only padding."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policy_examples import decisions  # noqa: E402

from potstill.distill.weights.policies.ranker import Ranker, arrays_of, new_ranker, ranker_shape  # noqa: E402
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of  # noqa: E402
from potstill.edge.ranker import Ranker as EdgeRanker  # noqa: E402
from potstill.types import Past, Situation  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)


def made(count: int = 40, width: int = 8) -> tuple[list, Ranker, TextExamples]:
    examples = decisions(count)
    shape = ranker_shape(vocabulary_of(examples), width)
    return examples, new_ranker(shape, seed=3).eval(), TextExamples(examples, shape.words())


def logits(network: Ranker, data: TextExamples, rows: list[int]) -> np.ndarray:
    batch = data.batch(np.array(rows))
    with torch.no_grad():
        return np.where(batch.mask_BA.numpy(), network(batch.inputs).numpy(), np.nan)


def test_it_computes_what_the_runtime_computes_whatever_is_in_the_batch() -> None:
    examples, network, data = made()
    edge = EdgeRanker(arrays_of(network), network.shape.config())
    for rows in ([0], [7, 3], list(range(40))):
        for row, found in zip(rows, logits(network, data, rows), strict=True):
            decision = examples[row]
            expected = edge.logits(msgspec.to_builtins(decision.situation), list(decision.admissible))
            np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-5)
            assert np.isnan(found[len(expected) :]).all()


def test_texts_without_a_word_and_a_long_past_are_as_in_the_runtime() -> None:
    examples, network, _ = made()
    past = tuple(Past(observation=f"turn {n}", action="?!" if n % 2 else f"do {n}") for n in range(90))
    odd = msgspec.structs.replace(
        examples[0], situation=Situation(goal="...", past=past), admissible=("!", "do 3", "unknown word"), action="!"
    )
    data = TextExamples([odd, examples[1]], network.shape.words())
    edge = EdgeRanker(arrays_of(network), network.shape.config())
    expected = edge.logits(msgspec.to_builtins(odd.situation), list(odd.admissible))
    np.testing.assert_allclose(logits(network, data, [0, 1])[0][:3], expected, atol=1e-5)


def test_the_order_of_actions_changes_nothing_but_their_places() -> None:
    examples, network, _ = made()
    turned = [msgspec.structs.replace(e, admissible=e.admissible[::-1]) for e in examples]
    words = network.shape.words()
    straight = logits(network, TextExamples(examples, words), list(range(40)))
    reverse = logits(network, TextExamples(turned, words), list(range(40)))
    for decision, one, other in zip(examples, straight, reverse, strict=True):
        n = len(decision.admissible)
        np.testing.assert_allclose(one[:n], other[:n][::-1], atol=1e-6)


def test_every_array_learns() -> None:
    _, network, data = made()
    batch = data.batch(np.arange(40))
    scores = network(batch.inputs).masked_fill(~batch.mask_BA, -1e9)
    torch.nn.functional.cross_entropy(scores, batch.target_B).backward()
    still = [name for name, value in network.named_parameters() if not float(value.grad.abs().sum()) > 0]
    assert still == []


def test_a_seed_gives_the_same_network_and_leaves_the_caller_s_generator_alone() -> None:
    shape = ranker_shape(["go"], 8)
    before = torch.get_rng_state()
    one, same, other = (arrays_of(new_ranker(shape, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["text.weight"], other["text.weight"])


def test_the_default_has_a_hundred_thousand_parameters() -> None:
    network = new_ranker(ranker_shape([f"w{'abcdefghij'[n % 10] * (n // 10 + 1)}" for n in range(600)]), seed=0)
    assert 100_000 < sum(value.numel() for value in network.parameters()) < 150_000
