"""A student that learnt to reason writes first and weighs behind what it wrote, in a run as when it is judged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from data_episodes import house_episodes  # noqa: E402
from lm_examples import INSTRUCTIONS, made  # noqa: E402

from potstill.distill.weights.data.decisions import labelled  # noqa: E402
from potstill.distill.weights.lm.chats import Chat, views  # noqa: E402
from potstill.distill.weights.lm.student import prepare  # noqa: E402
from potstill.distill.weights.lm.tokens import longest_reasoning, row_of  # noqa: E402
from potstill.distill.weights.losses.spans import SpanKind  # noqa: E402
from potstill.distill.weights.rationales.lines import Rationale  # noqa: E402
from potstill.distill.weights.rationales.sampling import Sampling, reasoning_model, sampled  # noqa: E402
from potstill.models.lm_texts import LmTexts  # noqa: E402
from potstill.models.reasoned import ReasonsFirst, begun_with  # noqa: E402
from potstill.models.torch_lm import open_torch  # noqa: E402
from potstill.models.tuned import open_tuned  # noqa: E402
from potstill.models.tuned_file import Voice  # noqa: E402
from potstill.run.prompt import View, act_messages  # noqa: E402
from potstill.run.sides import Side  # noqa: E402
from potstill.run.voice import agent_of  # noqa: E402
from potstill.types import Answerer, Message, Observation, Purpose, Request  # noqa: E402
from tiny_lm import tiny_checkpoint, tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
ADMISSIBLE = ("weigh it", "pack in straw", "ship by rail")
VOICE = Voice(reasoning="with-action", history_turns=0)
REQUEST = Request(
    messages=(Message(role="system", content=INSTRUCTIONS), Message(role="user", content="Next stage: pack.")),
    admissible=ADMISSIBLE,
    max_tokens=12,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened = open_tuned(tiny_student(tmp_path_factory.mktemp("student"), INSTRUCTIONS, voice=VOICE), threads=1)
    yield opened
    asyncio.run(opened.aclose())


def plain_score(folder: Path, ids: list[int], action: tuple[int, ...]) -> float:
    """One pass over the whole text, without any cache."""
    from potstill.models.torch_engine import load_model

    with torch.no_grad():
        logits = load_model(folder)(torch.tensor([[*ids, *action]])).logits[0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    return sum(float(logprobs[len(ids) - 1 + at, token]) for at, token in enumerate(action))


def test_actions_are_weighed_behind_its_own_reasoning(base: Path) -> None:
    inner = open_torch(base, threads=1)
    model, texts = ReasonsFirst(inner), LmTexts(base)
    found = asyncio.run(model.score(REQUEST))
    (reply,) = found.replies
    assert [call.purpose for call in found.calls] == [Purpose.REASON, Purpose.ACT]
    asked = msgspec.structs.replace(REQUEST, admissible=(), begun="reasoning:", stop=("\n",))
    assert reply.reasoning == " ".join(asyncio.run(inner.sample(asked)).replies[0].text.split())
    begun = begun_with(reply.reasoning)
    ids = [*texts.prompt_ids(REQUEST.messages), *texts.begun_ids(begun)]
    for action, score in reply.candidates:
        assert score == pytest.approx(plain_score(base, ids, texts.answer_ids(f" {action}")), abs=1e-3)
    assert reply.text == reply.candidates[0][0]
    again = asyncio.run(model.score(msgspec.structs.replace(REQUEST, begun=begun)))
    assert again.replies[0].candidates == reply.candidates
    assert len(again.calls) == 1  # what was begun is not written again
    asyncio.run(model.aclose())


def test_samples_have_reasonings_of_their_own(base: Path) -> None:
    model = ReasonsFirst(open_torch(base, threads=1))
    request = msgspec.structs.replace(REQUEST, temperature=1.0, seed=3)
    replies = asyncio.run(model.sample(request, 3)).replies
    assert len({reply.reasoning for reply in replies}) == 3
    assert all(reply.text in ADMISSIBLE and len(reply.candidates) == len(ADMISSIBLE) for reply in replies)
    assert asyncio.run(model.sample(request, 3)).replies == replies
    asyncio.run(model.aclose())


@pytest.mark.parametrize("chat", [True, False])
def test_what_is_read_when_it_acts_is_what_was_learnt(tmp_path: Path, chat: bool) -> None:
    texts = LmTexts(tiny_checkpoint(tmp_path, chat=chat))
    learnt = Chat(messages=REQUEST.messages, reasoning="it is  heavy", admissible=ADMISSIBLE, action="weigh it")
    row = row_of(learnt, texts, {SpanKind.TEXT: 1.0, SpanKind.REASONING: 0.3})
    lead = begun_with("it is heavy")
    ids = [*texts.begun_ids(lead), *texts.action_ids("weigh it", lead), *texts.end_ids()]
    assert row.answer == ids
    assert texts.tokenizer.decode(ids).strip().startswith("reasoning: it is heavy\naction: weigh it")


def test_it_is_judged_as_it_acts(base: Path, student: Any) -> None:
    """Held-out decisions are asked behind the student's own reasoning, not behind the teacher's."""
    tiny = made(base)
    recipe = msgspec.structs.replace(tiny.recipe, voice=VOICE)
    learn = [msgspec.structs.replace(chat, reasoning="x" * 9) for chat in tiny.learn[:4]]
    told = [msgspec.structs.replace(chat, reasoning=f"do {chat.action}") for chat in tiny.held_out[:3]]
    prepared = prepare(base, learn, told, recipe)
    prepared.network.eval()
    most = longest_reasoning(learn, prepared.texts)
    scores_BA = prepared.network(prepared.held_out.batch(np.arange(3)).inputs)
    acting = ReasonsFirst(open_torch(base, threads=1))
    for at, chat in enumerate(told):
        request = Request(messages=chat.messages, admissible=chat.admissible, max_tokens=most)
        weighed = dict(asyncio.run(acting.score(request)).replies[0].candidates)
        for place, action in enumerate(chat.admissible):
            assert float(scores_BA[at, place]) == pytest.approx(weighed[action], abs=1e-3)
    asyncio.run(acting.aclose())


async def test_in_a_run_it_reasons_and_does_what_is_listed(student: Any) -> None:
    agent = msgspec.structs.replace(agent_of(VOICE), reasoning_tokens=8)
    seen = Observation(text="Next stage: pack.", admissible=ADMISSIBLE)
    view = View(agent=agent, instructions=INSTRUCTIONS, goal="pack", observation=seen)
    side = Side(student, Answerer.STUDENT, agent, seed=1)
    (weighed,) = await side.act(view, 1, 0.0, likelihood=True)
    (greedy,) = await side.act(view, 1, 0.0)
    assert weighed.text == greedy.text == weighed.candidates[0][0]
    assert weighed.reasoning == greedy.reasoning != ""
    prompts = {call.prompt[-1].content for call in side.take_calls()}
    assert all("reasoning: ..." in prompt for prompt in prompts)


async def test_two_runtimes_are_compared_without_its_writing(student: Any) -> None:
    weighed, acted = await student.weigh(REQUEST), await student.score(REQUEST)
    assert weighed.replies[0].reasoning == ""
    assert len(weighed.calls) == 1
    assert dict(weighed.replies[0].candidates) != dict(acted.replies[0].candidates)


async def test_every_kept_rationale_leads_to_the_teachers_action_without_a_hint(base: Path) -> None:
    model = reasoning_model(open_torch(base, threads=1))
    assert isinstance(model, ReasonsFirst)
    agent = msgspec.structs.replace(agent_of(VOICE), reasoning_tokens=1, max_tokens=7)
    how, kept, untold = Sampling(samples=3, temperature=1.0, hint=True), list[Rationale](), 0
    for episode in house_episodes(3):
        decisions = {one.step_index: one for one in labelled([episode])}
        for step, view in views(episode, agent, INSTRUCTIONS):
            decision = decisions[step.index]
            found = (await sampled(decision, view, model, how)).rationale
            if not found.text:
                untold += 1
                continue
            kept.append(found)
            asked = Request(messages=act_messages(view), admissible=decision.admissible, begun=begun_with(found.text))
            assert (await model.score(asked)).replies[0].text == decision.action
    assert kept
    assert untold
    await model.aclose()
