import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.context.config import ContextConfig, Extent, Style
from potstill.distill.context.library import DemonstrationLibrary, Refusal, Utility, build_library, refusal
from potstill.distill.context.render import render
from potstill.errors import ConfigError
from potstill.protocols import ContextQuery
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import (
    Action,
    Answerer,
    DemonstrationRef,
    ErrorRecord,
    Observation,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    TrajectoryKind,
)


def episode(name, goal, pairs, *, task=None, namespace="default", environment="house", **fields):
    steps = tuple(
        Step(index=i, observation=Observation(text=seen), action=Action(text=did), answerer=Answerer.TEACHER)
        for i, (seen, did) in enumerate(pairs)
    )
    return Trajectory(
        id=name,
        task=Task(id=task or name, environment=environment),
        namespace=namespace,
        goal=goal,
        steps=steps,
        **{"kind": TrajectoryKind.TEACHER, "outcome": Outcome(success=True), **fields},
    )


def ask(goal, task="new", observation="", namespace="default", environment="house", **fields):
    return ContextQuery(
        task=Task(id=task, environment=environment), goal=goal, observation=observation, namespace=namespace, **fields
    )


MUG = [("a room", "go to shelf 1"), ("on the shelf you see a mug", "take mug 1"), ("you hold a mug", "go to sink 1")]
EGG = [("a kitchen", "go to fridge 1"), ("the fridge is closed", "open fridge 1"), ("you see an egg", "take egg 1")]


class Fixed:
    """A ranker whose scores are written down by text."""

    def __init__(self, table):
        self.table, self.texts = table, []

    def __len__(self):
        return len(self.texts)

    def add(self, texts):
        self.texts.extend(texts)

    def scores(self, query):
        return np.array([self.table.get((query, text), 0.0) for text in self.texts], dtype=np.float32)


# --- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"kind": TrajectoryKind.STUDENT}, Refusal.NOT_TEACHER),
        ({"kind": TrajectoryKind.CASCADE}, Refusal.NOT_TEACHER),
        ({"outcome": None}, Refusal.NOT_SUCCESSFUL),
        ({"outcome": Outcome(success=False, score=1.0)}, Refusal.NOT_SUCCESSFUL),
        ({"outcome": Outcome(success=None)}, Refusal.NOT_SUCCESSFUL),
        ({"error": ErrorRecord(kind="EnvCrashed", message="x")}, Refusal.BROKEN),
    ],
)
def test_only_complete_successful_teacher_episodes(change, reason):
    assert refusal(episode("t", "get a mug", MUG, **change)) is reason
    assert len(build_library([episode("t", "get a mug", MUG, **change)], ContextConfig())) == (reason is None)


def test_no_steps_and_twice_the_same():
    library = DemonstrationLibrary(ContextConfig())
    assert library.add(episode("t", "g", [])) is Refusal.EMPTY
    assert library.add(episode("t", "g", MUG)) is None
    assert library.add(episode("t", "g", MUG)) is Refusal.KNOWN
    assert library.add(episode("t", "g", MUG, namespace="other")) is None
    broken = episode("b", "g", MUG)
    bad = msgspec.structs.replace(broken.steps[1], error=ErrorRecord(kind="BadResponse", message="x"))
    assert library.add(msgspec.structs.replace(broken, steps=(broken.steps[0], bad))) is Refusal.BROKEN


# --- ranking --------------------------------------------------------------------------------------------------------


def test_scores_combine_as_written_by_hand():
    """Goal: a 8, b 4 of at most 8. Observation: b's second step 6, a's first 3 of at most 6. Weights 1 and 2.

    a: steps (1*1 + 2*.5)/3 = 2/3 and (1 + 0)/3. b: steps (.5 + 0)/3 and (.5 + 2)/3 = 5/6. So b's second step leads.
    The plan has no text in the query, and reasoning none in the demonstrations: neither counts.
    """
    table = {("G", "ga"): 8, ("G", "gb"): 4, ("O", "a0"): 3, ("O", "b1"): 6, ("R", ""): 5}
    config = ContextConfig(k=2, window=0, weights={"shape": 0, "history": 0, "observation": 2})
    library = DemonstrationLibrary(config, make_ranker=lambda: Fixed(table))
    library.add(episode("a", "ga", [("a0", "x"), ("a1", "y")]))
    library.add(episode("b", "gb", [("b0", "x"), ("b1", "y")]))
    first, second = library.retrieve(ask("G", observation="O", reasoning="R"))
    assert (first.ref.trajectory_id, first.matched, first.ref.score) == ("b", 1, pytest.approx(5 / 6))
    assert (second.ref.trajectory_id, second.matched, second.ref.score) == ("a", 0, pytest.approx(2 / 3))
    assert (first.ref.start, first.ref.stop) == (1, 2)


def test_a_key_that_a_demonstration_lacks_neither_helps_nor_harms():
    """The expert's step has no reasoning: a scores on the goal alone, 6/8, and b 8/8; c (4/8 + 1)/2 = 3/4 too."""
    table = {("G", "ga"): 6, ("G", "gb"): 8, ("G", "gc"): 4, ("R", "rc"): 2}
    config = ContextConfig(weights={"shape": 0, "history": 0, "observation": 0})
    library = DemonstrationLibrary(config, make_ranker=lambda: Fixed(table))
    library.add(episode("a", "ga", [("o", "x")]))
    library.add(episode("b", "gb", [("o", "y")]))
    c = episode("c", "gc", [("o", "z")])
    library.add(msgspec.structs.replace(c, steps=(msgspec.structs.replace(c.steps[0], reasoning="rc"),)))
    found = library.retrieve(ask("G", reasoning="R"), k=3)
    assert [(d.ref.trajectory_id, d.ref.score) for d in found] == [("b", 1.0), ("a", 0.75), ("c", 0.75)]


def test_a_key_is_scaled_by_what_may_be_shown():
    """The own task's perfect goal score must not shrink the others'."""
    table = {("G", "own"): 100, ("G", "ga"): 2, ("G", "gb"): 1}
    config = ContextConfig(weights={"shape": 0, "history": 0, "observation": 0, "reasoning": 0})
    library = DemonstrationLibrary(config, make_ranker=lambda: Fixed(table))
    for name, goal in (("own", "own"), ("a", "ga"), ("b", "gb")):
        library.add(episode(name, goal, [("o", f"do {name}")]))
    assert [d.ref.score for d in library.retrieve(ask("G", task="own"))] == [1.0, 0.5]


def test_the_window_lies_round_the_matched_step():
    pairs = [(f"room {i}" if i != 6 else "a golden lamp", f"do {i}") for i in range(12)]
    library = build_library([episode("t", "find it", pairs)], ContextConfig(window=2))
    query = ask("other words", observation="the golden lamp")
    spans = {extent: library.retrieve(query, extent=extent)[0].ref for extent in Extent if extent is not Extent.AUTO}
    assert {extent: (ref.start, ref.stop) for extent, ref in spans.items()} == {
        Extent.WINDOW: (4, 9),
        Extent.PREFIX: (0, 9),
        Extent.WHOLE: (0, 12),
    }
    assert library.retrieve(ask("nothing", observation="in common"), k=3) == []


def test_the_shape_finds_the_same_kind_of_task():
    move = [("you see it", "take {0} 1 from shelf 1"), ("taken", "move {0} 1 to {1} 1")]

    def house(name, goal, *things):
        return episode(name, goal, [(seen, did.format(*things)) for seen, did in move])

    taught = [
        house("other", "put a clean plate in cabinet", "plate", "cabinet"),
        house("kind", "put a cool tomato in fridge", "tomato", "fridge"),
    ]
    query = ask("put a cool plate in cabinet")
    plain = build_library(taught, ContextConfig(weights={"shape": 0}))
    assert plain.retrieve(query)[0].ref.trajectory_id == "other"
    shaped = build_library(taught, ContextConfig(weights={"shape": 2}))
    assert shaped.retrieve(query)[0].ref.trajectory_id == "kind"


def test_utility_may_weigh_the_ranking():
    """Both match equally; a was shown 8 times without success: Q = 1/10 against the prior's 1/2."""
    goal_only = {"shape": 0}
    library = build_library(
        [episode("a", "get mug", MUG), episode("b", "get mug", EGG)], ContextConfig(weights=goal_only)
    )
    for _ in range(8):
        shown = [
            DemonstrationRef(trajectory_id="a", start=0, stop=2),
            DemonstrationRef(trajectory_id="a", start=1, stop=2),
        ]
        library.observe(shown, False)
    assert library.utility() == {"a": Utility(shown=8, succeeded=0)}
    query = ask("get mug")
    assert [d.ref.trajectory_id for d in library.retrieve(query)] == ["a", "b"]
    weighed = library.retrieve(query, config=ContextConfig(utility_weight=0.5, weights=goal_only))
    assert [(d.ref.trajectory_id, d.ref.score) for d in weighed] == [("b", 0.75), ("a", pytest.approx(0.55))]
    other = build_library(
        [episode("a", "get mug", MUG), episode("b", "get mug", EGG)],
        ContextConfig(utility_weight=0.5, weights=goal_only),
    )
    other.restore_utility(library.utility())
    assert other.retrieve(query)[0].ref.trajectory_id == "b"


def test_identical_windows_are_shown_once():
    library = build_library(
        [episode(n, "get mug", MUG) for n in "abc"] + [episode("d", "get mug", EGG)], ContextConfig()
    )
    assert [d.ref.trajectory_id for d in library.retrieve(ask("get mug"))] == ["a", "d"]
    assert len(library.sample(ask("get mug"), 0, extent=Extent.WHOLE)) == 2


# --- laws -----------------------------------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["mug", "egg", "fridge", "shelf", "heat", "clean", "open"]), max_size=5).map(" ".join)
EPISODES = st.lists(
    st.tuples(
        st.sampled_from(["t1", "t2", "t3", "t4"]),
        st.sampled_from(["red", "blue"]),
        st.sampled_from(["house", "grid"]),
        WORDS,
        st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6),
    ),
    max_size=12,
).map(
    lambda rows: [
        episode(f"e{i}", goal, pairs, task=task, namespace=namespace, environment=environment)
        for i, (task, namespace, environment, goal, pairs) in enumerate(rows)
    ]
)
QUERIES = st.builds(
    lambda task, namespace, goal, seen, past: ask(
        goal, task, seen, namespace, history=tuple(past), step_index=len(past), reasoning="clean the mug"
    ),
    st.sampled_from(["t1", "t2", "new"]),
    st.sampled_from(["red", "blue", "green"]),
    WORDS,
    WORDS,
    st.lists(WORDS, max_size=3),
)


@settings(max_examples=150)
@given(
    EPISODES,
    QUERIES,
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(0, 60) | st.none(),
    st.sampled_from(list(Style)),
)
def test_no_leak_no_repeats_and_never_over_the_budget(episodes, query, k, window, budget, style):
    config = ContextConfig(k=k, window=window, budget_tokens=budget, style=style)
    library = build_library(episodes, config)
    by_id = {e.id: e for e in episodes}
    for extent in (Extent.WINDOW, Extent.PREFIX, Extent.WHOLE):
        for found in (library.retrieve(query, extent=extent), library.sample(query, 7, extent=extent)):
            shown = [by_id[d.ref.trajectory_id] for d in found]
            assert len({e.id for e in shown}) == len(shown) <= k
            assert all(e.task.id != query.task.id for e in shown)
            assert all(e.namespace == query.namespace for e in shown)
            assert all(e.task.environment == query.task.environment for e in shown)
            text = render([d.shown for d in found], style, config.compact_chars)
            assert budget is None or EstimatedTokens().count(text) <= budget
            for d in found:
                steps = by_id[d.ref.trajectory_id].steps[d.ref.start : d.ref.stop]
                assert [s.action for s in d.shown.steps] == [s.action.text.strip() for s in steps] != []
                assert extent is not Extent.WINDOW or len(steps) <= 2 * window + 1


@settings(max_examples=100)
@given(EPISODES, QUERIES)
def test_adding_later_equals_building_at_once(episodes, query):
    config = ContextConfig(k=4, window=1)
    whole, grown = build_library(episodes, config), DemonstrationLibrary(config)
    for item in episodes:
        grown.add(item)
        grown.retrieve(query)
    assert grown.retrieve(query) == whole.retrieve(query)
    assert grown.sample(query, 3) == whole.sample(query, 3)


def test_a_tight_budget_shrinks_windows_before_it_drops_demonstrations():
    pairs = [(f"you see the wooden box number {i} on a long shelf", f"open box {i}") for i in range(11)]
    taught = [
        episode(name, f"open every box {name}", [(f"{o} {name}", a) for o, a in pairs]) for name in ("a", "b", "c")
    ]
    query = ask("open every box", observation="the wooden box number 5")
    sizes = {}
    for budget in (2000, 400, 250, 150, 60, 40, 5):
        found = build_library(taught, ContextConfig(budget_tokens=budget)).retrieve(query)
        sizes[budget] = [len(d.shown.steps) for d in found]
    assert sizes[2000] == [11, 11, 11]
    assert len(sizes[400]) == 3
    assert max(sizes[400]) < 11
    assert len(sizes[150]) == 2
    assert sizes[40] == [1]
    assert sizes[5] == []


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_are_json_and_come_back():
    config = ContextConfig(k=6, weights={"goal": 2}, budget_tokens=900)
    data = msgspec.json.encode(config)
    assert json.loads(data)["weights"] == {"goal": 2}
    assert msgspec.json.decode(data, type=ContextConfig) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"gaol": 1}}, "No retrieval key named 'gaol'"),
        ({"weights": {"goal": -1}}, "0 or more"),
        ({"weights": dict.fromkeys(ContextConfig().key_weights, 0)}, "weight 0"),
        ({"k": -1}, "k is -1"),
        ({"refresh_below": 1.5}, "0 to 1"),
        ({"budget_tokens": -1}, "budget_tokens"),
        ({"utility_prior": (3, 2)}, "utility_prior"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(ConfigError, match=message):
        ContextConfig(**fields)


def test_another_students_settings_must_fit_the_library():
    library = build_library([episode("a", "get mug", MUG)], ContextConfig(weights={"history": 0}))
    assert len(library.retrieve(ask("get mug"), config=ContextConfig(k=0, weights={"history": 0}))) == 0
    with pytest.raises(ConfigError, match="no key 'history'"):
        library.retrieve(ask("get mug"), config=ContextConfig())
    with pytest.raises(ConfigError, match="built with ranker 'bm25'"):
        library.retrieve(ask("get mug"), config=ContextConfig(ranker="onnx:x"))


def test_tool_calls_and_results_are_demonstrated():
    call = ToolCall(id="c1", name="book", arguments='{"b": 1, "a": "x"}')
    first = Step(
        index=0,
        observation=Observation(text="", tool_results=(ToolResult(call_id="c0", text="2 seats left"),)),
        action=Action(text="I book.", tool_calls=(call,)),
        answerer=Answerer.TEACHER,
    )
    library = build_library([msgspec.structs.replace(episode("t", "book seats", []), steps=(first,))], ContextConfig())
    (found,) = library.retrieve(ask("book two seats"))
    assert found.shown.steps[0].observation == "2 seats left"
    assert found.shown.steps[0].action == 'I book.\nbook({"a": "x", "b": 1})'
