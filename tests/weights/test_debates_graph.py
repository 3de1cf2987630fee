"""Debates as graphs, by hand and by properties: who heard what, what is told apart, and what that comes to as data."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.debates.contrast import LeftOut, contrast, mixed
from potstill.distill.weights.debates.graph import Debate, Edge, Pair, Pairing, Turn, edges, pairs
from potstill.distill.weights.debates.holding import debates, drawn, recorded
from potstill.distill.weights.debates.lines import read_debates, write_debates
from potstill.errors import ConfigError
from potstill.types import Situation

ACTIONS = ("up", "down", "left", "right")


def said(*turns: tuple[str, int, str], id: str = "d", right: tuple[str, ...] = ("up",), task: str = "t") -> Debate:
    """Turns as (speaker, round, action)."""
    return Debate(
        id=id,
        environment="house",
        task_id=task,
        split="train",
        situation=Situation(goal=task),
        admissible=ACTIONS,
        right=right,
        turns=tuple(Turn(speaker=name, round=at, action=action) for name, at, action in turns),
    )


HAND = said(("a", 1, "up"), ("b", 1, "down"), ("c", 1, "left"), ("a", 2, "up"), ("b", 2, "up"), ("c", 2, "left"))
"""Three speakers and two rounds: b is persuaded, c is not."""


def test_pairs_are_as_worked_by_hand() -> None:
    """Right turns: a1, a2, b2; wrong: b1 (down), c1 (left), c2 (left). All: 3 x 3 pairs, 3 with down and 6 with left.

    Edges lead from all three of round 1 to all three of round 2. Told apart by an edge: a2 and b2 heard b1 (down, 2),
    a2 and b2 heard c1 (left, 2), c2 heard a1 (left, 1).
    """
    assert edges(HAND) == tuple(Edge(heard, hearer) for hearer in (3, 4, 5) for heard in (0, 1, 2))
    assert pairs(HAND) == (Pair("up", "down", 3, 3 / 9), Pair("up", "left", 6, 6 / 9))
    assert pairs(HAND, Pairing.ANSWERED) == (Pair("up", "down", 2, 2 / 5), Pair("up", "left", 3, 3 / 5))


def test_who_heard_whom_may_be_said() -> None:
    turns = (
        *HAND.turns[:3],
        Turn(speaker="b", round=2, action="up", heard=(0,)),
        Turn(speaker="c", round=3, action="up"),
    )
    told = msgspec.structs.replace(HAND, turns=turns)
    assert edges(told) == (Edge(0, 3), Edge(3, 4))
    assert pairs(told, Pairing.ANSWERED) == ()


names = st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)


@st.composite
def debate(draw: st.DrawFn) -> Debate:
    """Rounds in which some speak, each having heard some of what was said before, or the round before."""
    turns: list[Turn] = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        before = [at for at, turn in enumerate(turns) if turn.round < number]
        heard = st.none() | st.lists(st.sampled_from(before), unique=True).map(tuple) if before else st.none()
        turns += [
            Turn(speaker=name, round=number, action=draw(st.sampled_from(ACTIONS)), heard=draw(heard))
            for name in draw(names)
        ]
    right = draw(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3, unique=True))
    return msgspec.structs.replace(HAND, right=tuple(right), turns=tuple(turns))


@settings(max_examples=50, deadline=None)
@given(debate(), st.randoms(use_true_random=False), st.sampled_from(Pairing))
def test_the_order_and_the_names_of_speakers_change_nothing(one: Debate, chance: object, pairing: Pairing) -> None:
    order = list(range(len(one.turns)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    moved = {old: new for new, old in enumerate(order)}
    turns = [one.turns[old] for old in order]
    other = msgspec.structs.replace(
        one,
        turns=tuple(
            msgspec.structs.replace(
                turn,
                speaker=turn.speaker[::-1].upper(),
                heard=None if turn.heard is None else tuple(moved[at] for at in turn.heard),
            )
            for turn in turns
        ),
    )
    assert pairs(other, pairing) == pairs(one, pairing)
    assert {(moved[edge.heard], moved[edge.hearer]) for edge in edges(one)} == set(edges(other))


@settings(max_examples=50, deadline=None)
@given(debate(), st.sampled_from(ACTIONS), st.sampled_from(Pairing))
def test_where_all_agree_there_is_no_pair(one: Debate, action: str, pairing: Pairing) -> None:
    agreed = msgspec.structs.replace(one, turns=tuple(msgspec.structs.replace(t, action=action) for t in one.turns))
    assert pairs(agreed, pairing) == ()


@settings(max_examples=50, deadline=None)
@given(debate())
def test_pairs_tell_right_from_wrong_and_answered_ones_are_some_of_all(one: Debate) -> None:
    found = pairs(one)
    if found:
        assert sum(pair.share for pair in found) == pytest.approx(1)
    assert all(pair.right in one.right and pair.wrong not in one.right for pair in found)
    every = {pair[:2]: pair.times for pair in found}
    assert all(pair.times <= every[pair[:2]] for pair in pairs(one, Pairing.ANSWERED))
    assert all(one.turns[edge.heard].round < one.turns[edge.hearer].round for edge in edges(one))


# --- as data ---------------------------------------------------------------------------------------------------------


def test_a_pair_is_a_decision_between_two_and_equal_ones_are_one() -> None:
    more = said(("a", 1, "up"), ("b", 1, "left"), id="e")
    found = contrast([HAND, more])
    assert [(one.admissible, one.action, one.count) for one in found.decisions] == [
        (("up", "down"), "up", 3),
        (("up", "left"), "up", 7),
    ]
    assert [one.weight for one in found.decisions] == pytest.approx([1 / 3, 2 / 3 + 1])
    assert found.debates == 2


def test_what_teaches_nothing_or_is_held_out_is_counted() -> None:
    closed = contrast([HAND]).decisions[0]
    found = contrast(
        [
            said(("a", 1, "up"), ("b", 1, "up"), id="1", task="t1"),
            said(("a", 1, "left"), ("b", 1, "down"), id="2", task="t2"),
            said(("a", 1, "up"), ("b", 1, "down"), id="3", task="t3"),
            HAND,
            said(("a", 1, "up"), ("b", 1, "down"), id="5", task="t5"),
        ],
        pairing=Pairing.ANSWERED,
        held_out=[msgspec.structs.replace(closed, admissible=ACTIONS)],
        is_held_out=lambda debate: debate.task_id == "t5",
    )
    assert found.decisions == ()
    assert found.left_out == {LeftOut.ALL_RIGHT: 1, LeftOut.ALL_WRONG: 1, LeftOut.HELD_OUT: 2, LeftOut.NEVER_MET: 1}


@given(st.integers(1, 9), st.floats(0.01, 0.99))
def test_the_debates_have_their_share_of_the_weight(teacher: int, share: float) -> None:
    rows = contrast([HAND]).decisions
    own = [msgspec.structs.replace(rows[0], weight=1 + at) for at in range(teacher)]
    made = mixed(own, rows, share)
    total = sum(one.weight for one in made)
    assert total == pytest.approx(len(made))
    assert sum(one.weight for one in made[teacher:]) / total == pytest.approx(share)


def test_policies_debate_about_recorded_situations() -> None:
    def taught(task: str, action: str, step: int) -> Labelled:
        one = contrast([HAND]).decisions[0]
        return msgspec.structs.replace(
            one,
            task_id=task,
            step_index=step,
            situation=Situation(goal=task),
            admissible=ACTIONS,
            action=action,
        )

    rows = [taught("s", "up", 0), taught("s", "left", 1), taught("t", "down", 2)]
    chosen = drawn(rows, 5, seed=1)
    assert chosen == drawn(rows[::-1], 5, seed=1)
    assert {one.task_id: right for one, right in chosen} == {"s": ("left", "up"), "t": ("down",)}
    sure = dict.fromkeys(ACTIONS, 0.25)
    held = list(
        debates(
            chosen,
            {"x": lambda _: sure, "y": lambda _: {**sure, "down": 0.5}},
            "train",
        )
    )
    by_task = {one.task_id: [(turn.speaker, turn.action) for turn in one.turns] for one in held}
    assert by_task == {task: [("x", "up"), ("y", "down")] for task in "st"}
    told = {(one.task_id, one.action, one.admissible) for one in contrast(held).decisions}
    assert told == {("s", "up", ("up", "down")), ("t", "down", ("up", "down"))}
    was_there = {"x": lambda _: sure, "run": recorded(rows[:1])}
    (only,) = debates(chosen, was_there, "train")  # the run was in one of the situations
    assert (only.task_id, [turn.action for turn in only.turns]) == ("s", ["up", "up"])
    with pytest.raises(ConfigError, match="at least two speakers; there is 1"):
        list(debates(chosen, {"x": lambda _: sure}, "train"))


def test_the_guides_debate_is_one_and_tells_what_it_says() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "ways-to-learn.md"
    blocks = re.findall(r"^```json\n(.*?)^```", guide.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (shown,) = (block for block in blocks if '"turns"' in block)
    one = msgspec.json.decode(shown, type=Debate)
    assert pairs(one, Pairing.ANSWERED) == ()  # ann heard bob, who was right, and said the same
    assert pairs(one) == (Pair("by post", "by lorry", 2, 1.0),)


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "debates.jsonl"
    write_debates(path, [HAND, said(("a", 1, "up"), id="e")])
    assert read_debates(path).debates == (HAND, said(("a", 1, "up"), id="e"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"admissible": ["up"]}, r"Line 1 of .* has the admissible actions \['up'\]. Allowed: at least two"),
        ({"right": ["fly"]}, r"has the right actions \['fly'\]. Allowed: at least one of 'up', 'down', 'left'"),
        ({"turns": []}, "has no turn. Allowed: at least one"),
        ({"turns": [{"speaker": "a", "action": "fly"}]}, "in turn 0 the action 'fly'. Allowed: 'up', 'down'"),
        ({"turns": [{"speaker": "a", "action": "up", "round": 0}]}, "the round 0. Allowed: 1 and more"),
        ({"turns": [{"speaker": "a", "action": "up"}] * 2}, "'a' speaking again in round 1. Allowed: once a round"),
        ({"turns": [{"speaker": "a", "action": "up", "heard": [0]}]}, "the heard turn 0. Allowed: positions of turns"),
        ({"turns": [{"speaker": "a", "act": "up"}]}, "is no debate: .*`act`"),
    ],
)
def test_what_is_no_debate_is_one_line_that_says_where(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "debates.jsonl"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(HAND), **change}))
    with pytest.raises(ConfigError, match=told) as raised:
        read_debates(path)
    assert "\n" not in str(raised.value)


def test_no_file_an_empty_one_and_one_with_a_repeated_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "debates.jsonl"
    with pytest.raises(ConfigError, match="Cannot read the debates"):
        read_debates(path)
    path.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="holds no debate"):
        read_debates(path)
    path.write_bytes((msgspec.json.encode(HAND) + b"\n") * 2)
    with pytest.raises(ConfigError, match=r"Line 2 .* has the id 'd'"):
        read_debates(path)
