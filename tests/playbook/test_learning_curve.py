"""The learning curve of hidden house rules, from the agent's episodes alone: it rises, repeats itself, and is gated."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import pytest

import playbook_learning as bench
from _scripted_student import student
from _scripted_world import Player, careful_hint, true_notes, written_by_hand
from potstill.distill.playbook.operations import Stage
from potstill.envs.house_rules.house import draw_house
from potstill.envs.registry import open_source
from potstill.trajectories import Store

HOUSE = 7001
"""Of these tests alone."""


def run(tmp_path: Path, *names: str, train: int = 24, test: int = 12) -> bench.Bench:
    options = argparse.Namespace(train=train, test=test, points=[train // 2], arms=list(names))
    made = bench.Bench(options)
    asyncio.run(made.house(HOUSE, tmp_path))
    return made


def success(made: bench.Bench, arm: str) -> list[float]:
    held = [point for point in made.points if point.arm == arm]
    return [sum(one.success for one in point.episodes) / len(point.episodes) for point in held]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> bench.Bench:
    return run(tmp_path_factory.mktemp("curve"), "offline", "offline, no feedback", "online")


def test_it_gets_better_by_its_own_episodes_and_cheaper(learnt: bench.Bench) -> None:
    (before,) = success(learnt, "no playbook")
    curve = success(learnt, "offline")
    assert curve[-1] >= before + 0.3
    (by_hand,) = success(learnt, "rules by hand")
    assert curve[-1] <= by_hand + 0.1
    steps = {point.arm: sum(one.steps for one in point.episodes) / len(point.episodes) for point in learnt.points}
    assert steps["offline"] < steps["no playbook"]
    assert success(learnt, "expert") == [1.0]


def test_without_a_signal_nothing_reaches_the_agent(learnt: bench.Bench) -> None:
    points = [point for point in learnt.points if point.arm == "offline, no feedback"]
    assert [point.bullets for point in points] == [0]
    assert success(learnt, "offline, no feedback") == success(learnt, "no playbook, silent house")
    (bill,) = learnt.bills["offline, no feedback"]
    assert bill["wrote ADD"] > 0  # learnt, and kept in shadow


def test_online_episodes_are_judged_with_the_book_before_them(learnt: bench.Bench) -> None:
    windows = [point for point in learnt.points if point.arm == "online, as they came"]
    assert [point.learnt for point in windows] == list(range(0, 48, bench.WINDOW))
    assert sum(len(point.episodes) for point in windows) == 48


@pytest.mark.slow
def test_the_same_house_gives_the_same_curve(learnt: bench.Bench, tmp_path: Path) -> None:
    again = run(tmp_path, "offline", "offline, no feedback", "online")
    assert [point._replace(episodes=()) for point in again.points] == [
        point._replace(episodes=()) for point in learnt.points
    ]
    assert [[one[:4] for one in point.episodes] for point in again.points] == [
        [one[:4] for one in point.episodes] for point in learnt.points
    ]


def test_rows_have_intervals_by_house_and_say_what_was_learnt_from(learnt: bench.Bench) -> None:
    rows = list(bench.rows_of(learnt.points))
    offline = [row for row in rows if row["arm"] == "offline"]
    assert [row["learnt_from"] for row in offline] == [12, 48]
    assert offline[-1]["houses"] == 1
    assert offline[-1]["success_ci"][0] < offline[-1]["success"] < offline[-1]["success_ci"][1]
    assert offline[-1]["cost_per_success_ci"] is None  # one house: nothing to resample
    named = {row["of"] for row in bench.differences_of(learnt.points)}
    assert "offline, after 48" in named


def test_the_book_holds_no_rule_word_for_word_and_all_of_it_came_from_episodes(tmp_path: Path) -> None:
    run(tmp_path, "offline", train=10, test=1)
    with Store.open(next(tmp_path.glob("*.db"))) as store:
        from potstill.distill.playbook.book import Playbook

        bullets = Playbook(store, "default", "rules").bullets().values()
        rules = {str(rule) for rule in draw_house(HOUSE, bench.RULES).rules}
        assert bullets
        for one in bullets:
            assert one.content not in rules
            assert one.stage is Stage.LIVE
            assert one.sources
            assert all(store.get(source, namespace="default") for source in one.sources)


async def test_what_is_shown_by_hand_is_followed_and_a_hint_costs_steps() -> None:
    tasks = open_source("house-rules", rules_seed=HOUSE, test=20).tasks("test")
    plain, told = Player(student(1)), Player(student(1), book=written_by_hand(true_notes(HOUSE, 10)))
    careful = Player(student(1), hint=careful_hint(draw_house(HOUSE)), feedback="none")
    done: dict[str, list[int]] = {"plain": [], "told": [], "careful": []}
    for place, task in enumerate(tasks):
        for name, player in (("plain", plain), ("told", told), ("careful", careful)):
            played = await player.play(task, 0, reflection=None, tag=f"t{place}")
            done[name].append(len(played.steps) if name == "careful" else int(played.succeeded))
    assert sum(done["told"]) > sum(done["plain"])
    assert sum(done["careful"]) >= 8 * len(tasks)
