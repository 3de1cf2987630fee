"""Drive the cascade by hand: it decides without any input or output, so your own loop, proxy or replay can use it.

Run it: python examples/cascade_by_hand.py
"""

from potstill.decide import (
    AskStudent,
    CascadeState,
    Effect,
    Policy,
    PolicyKind,
    Resolution,
    agreement_rule,
    decide_step,
)
from potstill.types import Reply

ADMISSIBLE = ["go to desk 1", "open drawer 2"]


def answer(asked: Effect, student_says: list[str]) -> list[Reply]:
    """Here your models would be called. The student is asked for n samples, the teacher for one."""
    if isinstance(asked, AskStudent):
        return [Reply(text=text) for text in student_says[: asked.n]]
    return [Reply(text="open drawer 2")]


def step(student_says: list[str]) -> Resolution:
    policy = Policy(kind=PolicyKind.CASCADE, samples=3, temperature=0.7, rule="normalized")
    effects = decide_step(policy, CascadeState(), agreement_rule("normalized"), ADMISSIBLE)
    asked = next(effects)
    while True:
        try:
            asked = effects.send(answer(asked, student_says))
        except StopIteration as end:
            resolution: Resolution = end.value
            return resolution


for samples in (
    ["go to desk 1", "Go to desk 1.", "go to desk 1"],  # the same action three times: the student acts
    ["go to desk 1", "open drawer 2", "go to desk 1"],  # they differ: the teacher takes this step
    ["go to desk 1", "fly away", "go to desk 1"],  # not an admissible action: counts as disagreement
):
    resolution = step(samples)
    decision = resolution.decision
    print(f"{decision.answerer}: {resolution.action.text} ({decision.reason}, agreement {decision.agreement:.2f})")
