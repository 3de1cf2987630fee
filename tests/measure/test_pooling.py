"""Which differences between pooled runs are told, by hand."""

from __future__ import annotations

from potstill.measure.pooling import pooling_note

ARMS = [{"name": "zero-shot"}, {"name": "context", "context": "retrieved"}]
BASE = {"student": "local:a", "teacher": "expert", "arms": ARMS, "context": {"k": 1}}


def note(arm: str, **change: object) -> str | None:
    configs = {"one": {**BASE, "n": 5, "seed": 0}, "two": {**BASE, "n": 9, "seed": 7, **change}}
    return pooling_note(arm, arm, "student", {"one": ["x"], "two": ["y"]}, configs)


def test_more_tasks_or_another_seed_are_the_same_configuration() -> None:
    assert note("zero-shot") is None


def test_only_what_matters_to_the_arm_counts() -> None:
    assert note("zero-shot", teacher="openai:gpt-4.1") is None
    assert note("zero-shot", context={"k": 3}) is None
    assert "(context.k: 1, 3)" in str(note("context", context={"k": 3}))
    assert "(student: local:a, local:b)" in str(note("zero-shot", student="local:b"))
    other_arm = [{"name": "zero-shot", "student_agent": {"plan": True}}, ARMS[1]]
    assert "(arm.student_agent.plan: default, true)" in str(note("zero-shot", arms=other_arm))
    assert note("context", arms=other_arm) is None


def test_speed_and_place_do_not_matter() -> None:
    assert note("zero-shot", student_options={"threads": 2}, environment_options={"directory": "/games"}) is None


def test_without_their_configurations_runs_are_told_apart_by_what_episodes_carry() -> None:
    assert pooling_note("a", "a", "student", {"one": ["x"], "two": ["x"]}, {}) is None
    said = pooling_note("a", "a", "student", {"one": ["x"], "two": ["y"]}, {})
    assert said == "'a' pools runs of different configuration: 'one', 'two'; choose one with --run"


def test_long_lists_and_values_are_short() -> None:
    configs = {f"r{i}": {"instructions": f"{'long ' * 50}{i}"} for i in range(9)}
    said = str(pooling_note("a", "a", "student", {name: [] for name in configs}, configs))
    assert "'r3', 5 more;" in said
    assert len(said) < 600
