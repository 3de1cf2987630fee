"""Text decisions as arrays: the words, the batches, what cannot be learnt."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from policy_examples import decisions

from potstill.distill.weights.data.labelled import Evidence, Labelled
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of
from potstill.edge.words import Words
from potstill.types import Past, Situation

pytestmark = pytest.mark.extra
WORDS = Words(["take", "go"], 8)


def one(action: str = "take mug 1", admissible: tuple[str, ...] = ("take mug 1", "go"), **more: object) -> Labelled:
    return Labelled(
        environment="toy",
        task_id="t",
        trajectory_id="e",
        step_index=0,
        situation=more.pop("situation", Situation(goal="mug")),  # type: ignore[arg-type]
        admissible=admissible,
        action=action,
        **more,  # type: ignore[arg-type]
    )


def test_the_vocabulary_counts_texts_not_occurrences_and_is_in_a_fixed_order() -> None:
    first = one(situation=Situation(goal="mug mug mug", past=(Past(observation="lamp 2", action="go"),)))
    second = one(admissible=("take mug 1", "go lamp"), situation=Situation(goal="lamp"))
    # Texts: "mug mug mug", "", "take mug 1", "go", "lamp 2", "lamp", "go lamp".
    assert vocabulary_of([first, second]) == ["lamp", "go", "mug"]
    assert vocabulary_of([second, first]) == ["lamp", "go", "mug"]
    assert vocabulary_of([first, second], least=3, most=1) == ["lamp"]


def test_a_batch_has_the_labels_where_the_candidates_are() -> None:
    data = TextExamples([one(), one("c", ("a", "b", "c"), weight=2.5)], WORDS)
    batch = data.batch(np.array([1, 0]))
    assert batch.mask_BA.tolist() == [[True, True, True], [True, True, False]]
    assert batch.target_B.tolist() == [2, 0]
    assert batch.weight_B.tolist() == [2.5, 1.0]
    assert batch.probabilities_BA is None


def test_what_is_known_of_the_teacher_stands_beside_what_it_only_did() -> None:
    voted = one("c", ("a", "b", "c"), evidence=Evidence.VOTES, votes=(0, 1, 4))
    batch = TextExamples([one(), voted], WORDS).batch(np.array([0, 1]))
    # Dirichlet with one half: (0.5, 1.5, 4.5) / 6.5.
    np.testing.assert_allclose(batch.probabilities_BA, [[1, 0, 0], [1 / 13, 3 / 13, 9 / 13]], rtol=1e-6)


def test_a_text_is_read_once_however_often_it_stands() -> None:
    data = TextExamples([one(), one(), one()], WORDS)
    assert len(data.batch(np.arange(3)).inputs.starts_U) == 4  # the goal, nothing, two actions


def test_the_digest_is_that_of_all_that_is_read() -> None:
    examples = decisions(5)
    digest = TextExamples(examples, WORDS).digest
    assert digest == TextExamples(decisions(5), WORDS).digest
    heavier = [*examples[:4], msgspec.structs.replace(examples[4], weight=2.0)]
    assert digest != TextExamples(heavier, WORDS).digest
    assert digest != TextExamples(examples, Words(["take", "mug"], 8)).digest


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([], "no decision"),
        ([one(), one()], "the same in every decision"),
        ([one("go", ("go",)), one("take", ("take",))], "nothing to choose"),
        ([one(weight=0.0), one("go", weight=0.0)], "weight 0"),
        ([one(), one("go")], None),
    ],
)
def test_what_teaches_nothing_is_said_before(examples: list[Labelled], said: str | None) -> None:
    problem = TextExamples(examples, WORDS).problem()
    assert problem is None if said is None else said in (problem or "")
