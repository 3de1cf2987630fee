"""Measure an agent that never ran in potstill: write what it did as trajectories, then ask what a success costs.

Run it: python examples/measure_your_own_agent.py
"""

from pathlib import Path

from potstill.measure.prices import PriceTable
from potstill.measure.summary import summarise
from potstill.trajectories.jsonl import write_jsonl
from potstill.types import Action, Answerer, Call, Observation, Outcome, Step, Task, Trajectory, TrajectoryKind, Usage

MODEL = "claude-sonnet-4-5"

# What your own logs hold for each episode: was the task done, and the tokens of each call as the provider billed them.
EPISODES = [
    ("refund-17", True, [(1200, 0, 90), (1400, 1200, 60)]),
    ("refund-18", False, [(1200, 0, 80), (1380, 1200, 70), (1500, 1380, 75)]),
    ("refund-19", True, [(1210, 0, 85)]),
]


def step(index: int, input_tokens: int, cached: int, output: int) -> Step:
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached, output_tokens=output, cache_reported=True)
    call = Call(model=MODEL, answerer=Answerer.TEACHER, usage=usage)
    return Step(
        index=index, observation=Observation(), action=Action(text="..."), answerer=Answerer.TEACHER, calls=(call,)
    )


def trajectory(task: str, success: bool, calls: list[tuple[int, int, int]]) -> Trajectory:
    return Trajectory(
        id=f"import-{task}",
        task=Task(id=task, environment="my-agent"),
        kind=TrajectoryKind.TEACHER,
        arm="today",
        teacher=MODEL,
        steps=tuple(step(index, *tokens) for index, tokens in enumerate(calls)),
        outcome=Outcome(success=success),
    )


episodes = [trajectory(*episode) for episode in EPISODES]
measurement = summarise(episodes, PriceTable.load(None, "2026-01-01"))

arm = measurement.arms[0]
low, high = arm.success_ci
print(f"{arm.arm}: {arm.successes} of {arm.n} succeeded, interval {low:.2f} to {high:.2f}")
print(f"a success costs ${arm.cost_of_pass_usd:.4f}; {arm.cache_hit_rate:.0%} of input tokens came from the cache")

with Path("episodes.jsonl").open("wb") as file:
    print(f"{write_jsonl(episodes, file)} episodes written to episodes.jsonl")
