"""Votes as soft labels: the counts by hand, what is no vote, and what smoothing is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.agreement import agreement_rule
from potstill.distill.weights.soft_labels import dirichlet, dirichlet_rows, voted
from potstill.errors import ConfigError, UnknownName
from potstill.types import Reply, Vote

ACTIONS = ["go", "look", "take", "open"]


def test_by_hand() -> None:
    """Three votes of four actions: (2 + 1/2) / 5, (1 + 1/2) / 5, and 1/2 / 5 twice."""
    assert dirichlet(["go", "look", "go"], ACTIONS).tolist() == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert dirichlet(["go", "look", "go"], ACTIONS, alpha=0).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert dirichlet(["go"], ["go"]).tolist() == [1.0]


def test_no_vote_counts_for_nothing_and_without_votes_the_label_is_even() -> None:
    assert dirichlet(["go", None, "fly"], ACTIONS).tolist() == dirichlet(["go"], ACTIONS).tolist()
    assert dirichlet([], ACTIONS).tolist() == [0.25] * 4


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from([0.1, 0.5, 2.0]),
)
def test_rows_are_distributions_over_admissible_actions(
    counts: list[list[int]], mask: list[bool], alpha: float
) -> None:
    admits = np.array([[True, *mask[1:]]] * len(counts))
    made = dirichlet_rows(np.array(counts), admits, alpha)
    assert made.sum(axis=1) == pytest.approx(np.ones(len(counts)))
    assert (made[~admits] == 0).all()
    assert (made[admits] > 0).all()
    order = [2, 0, 1]
    permuted = dirichlet_rows(np.array(counts)[:, order], admits[:, order], alpha)
    assert permuted == pytest.approx(made[:, order])


def test_smoothing_brings_few_samples_nearer_to_what_the_teacher_does() -> None:
    """Six actions, teachers from Dirichlet(.6): the divergence shrinks with K, and is infinite without smoothing."""
    draw = np.random.default_rng(0)
    teachers = draw.dirichlet(np.full(6, 0.6), size=2000)
    divergences = []
    for samples in (1, 3, 10):
        counts = np.stack([draw.multinomial(samples, teacher) for teacher in teachers])
        smoothed = dirichlet_rows(counts)
        logs = np.log(np.maximum(teachers, 1e-300)) - np.log(smoothed)
        divergences.append(float((teachers * logs).sum(axis=1).mean()))
        assert (dirichlet_rows(counts, alpha=0) == 0).any()
    assert divergences == pytest.approx([0.41, 0.30, 0.156], abs=0.02)


@pytest.mark.parametrize("rule", ["exact", "normalized", "json"])
def test_a_cascade_s_votes_fall_on_admissible_actions_under_its_rule(rule: str) -> None:
    texts = ["go", " look ", "fly", "go"]
    admissible = ["look", "go"]
    made = agreement_rule(rule)
    votes = [Vote(key=None if made.key(Reply(text=text), admissible) is None else "some", text=text) for text in texts]
    assert voted(votes, admissible, rule) == ("go", "look", None, "go")


def test_a_vote_that_the_cascade_refused_stays_refused() -> None:
    assert voted([Vote(key=None, text="go")], ["go"]) == (None,)
    assert voted([Vote(key="go", text="GO!")], ["Go", "look"]) == ("Go",)


def test_bad_input_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="'go' is admissible twice"):
        dirichlet([], ["go", "go"])
    with pytest.raises(ConfigError, match="no admissible actions"):
        dirichlet([], [])
    with pytest.raises(ConfigError, match="alpha=-1"):
        dirichlet([], ["go"], alpha=-1)
    with pytest.raises(ConfigError, match="Row 1 has no votes, and alpha=0 adds none"):
        dirichlet_rows(np.array([[1, 0], [0, 0]]), alpha=0)
    with pytest.raises(ConfigError, match="negative"):
        dirichlet_rows(np.array([[1, -1]]))
    with pytest.raises(ConfigError, match=r"\(batch, actions\)"):
        dirichlet_rows(np.array([1, 2]))
    with pytest.raises(UnknownName, match="Did you mean 'json'"):
        voted([], ["go"], "jsn")
