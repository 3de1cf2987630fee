"""What a language-model student learns from is, byte for byte, what ``run`` sends; needs no PyTorch."""

from __future__ import annotations

import asyncio

import pytest
from data_episodes import house_episodes

from potstill.decide.policy import Policy, PolicyKind
from potstill.distill.weights.data.decisions import labelled
from potstill.distill.weights.lm.chats import chats
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.losses.spans import SpanKind
from potstill.envs.registry import describe, factory, open_source
from potstill.envs.worker import WorkerPool
from potstill.errors import ConfigError, UnknownName
from potstill.models.scripted import ScriptedModel
from potstill.models.tuned_file import Voice
from potstill.protocols import ContextBlock, ContextQuery
from potstill.run.arms import Arm, ContextKind
from potstill.run.runner import Resources, RunConfig, run_episodes
from potstill.run.voice import agent_of
from potstill.types import Answerer, Trajectory

INSTRUCTIONS = describe("house-rules").instructions
WORDS = ["finish with wax", "weigh it", "pack in straw", "call the customer", "store in the cellar", "ship by rail"]


class Kept:
    """A recorder in memory."""

    def __init__(self) -> None:
        self.episodes: list[Trajectory] = []

    def append(self, trajectory: Trajectory) -> None:
        self.episodes.append(trajectory)

    def put_blob(self, content: bytes, media_type: str) -> None: ...

    def existing(self, run_id: str) -> set[str]:
        return set()

    def teacher_share(self, run_id: str, arm: str) -> float | None:
        return None


class Showing:
    """A context that shows the same text for every task."""

    name = "showing"

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock(text="Goal: another order\n> weigh it")

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock()

    async def observe(self, shown: object, success: bool) -> None: ...


def played(voice: Voice, *, shown: bool = False) -> list[Trajectory]:
    """Episodes of a student that answers from a list, through the loop that ``run`` plays with."""
    turn = iter(WORDS * 4)

    def say(request: object, index: int) -> str:
        word = next(turn)
        return f"reasoning: {word} seems right\naction: {word}" if voice.reasoning == "with-action" else word

    tasks = open_source("house-rules").tasks("train")[:2]
    kept = Kept()
    context = ContextKind.RETRIEVED if shown else ContextKind.NONE
    policy = Policy(kind=PolicyKind.STUDENT, alone_temperature=0.0)
    arm = Arm(name="student", policy=policy, student_agent=agent_of(voice), context=context)
    config = RunConfig(
        run_id="r", environment="house-rules", split="train", arms=(arm,), n=2, max_steps=6, instructions=INSTRUCTIONS
    )

    async def play() -> None:
        async with WorkerPool(factory("house-rules"), 1) as pool:
            showing = Showing() if shown else None
            resources = Resources(
                recorder=kept, lease=pool.lease, student=ScriptedModel(say), context=lambda arm, seed: showing
            )
            await run_episodes(config, tasks, resources)

    asyncio.run(play())
    return kept.episodes


@pytest.mark.parametrize(
    ("voice", "shown"),
    [
        (Voice(), False),
        (Voice(), True),
        (Voice(history_turns=0), False),
        (Voice(history_turns=2, list_admissible=True), False),
        (Voice(reasoning="with-action", list_admissible=True), True),
    ],
)
def test_prompts_to_learn_from_are_those_that_run_sends(voice: Voice, shown: bool) -> None:
    episodes = played(voice, shown=shown)
    decisions = list(labelled(episodes, {Answerer.STUDENT}, only_successes=False))
    assert len(decisions) >= 6
    text = "Goal: another order\n> weigh it"
    found = chats(episodes, decisions, agent_of(voice), INSTRUCTIONS, (lambda episode: text) if shown else None)
    sent = {(e.id, step.index): step.calls[-1].prompt for e in episodes for step in e.steps}
    for chat, decision in zip(found, decisions, strict=True):
        assert chat.messages == sent[decision.trajectory_id, decision.step_index]
        assert chat.action == decision.action
        assert chat.reasoning == (f"{chat.action} seems right" if voice.reasoning == "with-action" else "")


def test_a_teacher_that_gave_no_reasons_cannot_teach_reasoning() -> None:
    episodes = house_episodes(1)
    decisions = list(labelled(episodes))
    with pytest.raises(ConfigError, match="has no reasoning to learn"):
        chats(episodes, decisions, agent_of(Voice(reasoning="with-action")), INSTRUCTIONS)


def test_an_episode_that_is_gone_is_named() -> None:
    episodes = house_episodes(2)
    with pytest.raises(ConfigError, match="no longer holds the episode e001"):
        chats(episodes[:1], list(labelled(episodes)), agent_of(Voice()), INSTRUCTIONS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"voice": Voice(reasoning="separate")}, "'separate'"),
        ({"spans": {SpanKind.TEXT: 0.0}}, "nothing would be learnt"),
        ({"spans": {SpanKind.TEXT: 1.0, SpanKind.REASONING: -1.0}}, "is -1"),
        ({"spans": {SpanKind.TOOL_NAME: 1.0}}, "'tool-name'"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=said) as error:
        LmRecipe(base="tiny", **fields)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
