"""What is held of open episodes is forgotten when they are over, and never is too much."""

from __future__ import annotations

from potstill.decide import CascadeState
from potstill.decide.assignment import Route as Served
from potstill.decide.rollout import Stage
from potstill.serve.deciding.episodes_held import Held, HeldEpisodes
from potstill.serve.rollout.stages import Assigned


def held(step: int = 0) -> Held:
    begun = Assigned(served=Served.CASCADE, stage=Stage.LIVE)
    return Held("r", begun, CascadeState(step=step), CascadeState())


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_ten_thousand_episodes_leave_those_of_the_last_minutes() -> None:
    clock = Clock()
    episodes = HeldEpisodes(idle_s=300.0, clock=clock)
    first = episodes.put("goes-on", held())
    for number in range(10_000):
        clock.now += 1.0
        episodes.put(f"e{number}", held(number))
        if number % 200 == 0:
            assert episodes.get("goes-on") is first
        assert len(episodes) <= 601
    assert [episodes.get(f"e{number}") is not None for number in (9999, 9701, 9300)] == [True, True, False]


def test_many_at_once_are_bounded_by_their_number() -> None:
    episodes = HeldEpisodes(most=1000, clock=Clock())
    for number in range(10_000):
        episodes.put(f"e{number}", held(number))
    assert len(episodes) <= 1000
    last = episodes.get("e9999")
    assert last is not None
    assert last.state.step == 9999
