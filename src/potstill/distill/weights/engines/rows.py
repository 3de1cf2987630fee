"""Rows for an engine, in TRL's formats (huggingface.co/docs/trl/dataset_formats, read 2026-11), out of chats: of the
very prompts that ``run`` sends.

An engine makes tokens of its own; each row is looked at whether they are those that the student will read and be asked
by (``check``). Knows messages and tokens. Does not read stores or run models.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from potstill.distill.weights.lm.chats import Chat, Shown, views
from potstill.distill.weights.lm.tokens import LmChoices, row_of
from potstill.distill.weights.losses.spans import SpanKind
from potstill.errors import ConfigError
from potstill.models.lm_texts import LmTexts
from potstill.run.arms import Agent
from potstill.run.prompt import act_messages
from potstill.trajectories.finetuning import Thread
from potstill.trajectories.preferences import Pairs, judge_of, prefixes
from potstill.types import Answerer, Message, Trajectory

Row = dict[str, Any]
TEACHER = frozenset({Answerer.TEACHER})


def sft_rows(chats: Iterable[Chat], texts: LmTexts) -> list[Row]:
    """``prompt`` and ``completion``, each a list of messages."""
    return [{"prompt": texts.told(chat.messages), "completion": _said(chat, texts)} for chat in chats]


def prompt_rows(chats: Iterable[Chat], texts: LmTexts) -> list[Row]:
    """``prompt`` alone: the student answers itself."""
    return [{"prompt": texts.told(chat.messages)} for chat in chats]


def preference_rows(
    trajectories: Iterable[Trajectory],
    texts: LmTexts,
    agent: Agent,
    instructions: str,
    *,
    learnt: Callable[[Trajectory], bool],
    held_out: Sequence[Chat],
    shown: Shown | None = None,
) -> list[Row]:
    """``prompt``, ``chosen`` and ``rejected``: what a teacher did in an episode that succeeded, and what else was done,
    or meant by an overruled student, behind the same prompt (``trajectories.preferences`` judges).

    ``learnt``: whether an episode's task is one to learn from. Prompts that are held out, too, have no pair.
    """
    secret = {msgspec.json.encode(texts.told(chat.messages)) for chat in held_out}
    with tempfile.TemporaryFile() as file:
        pairs = Pairs(file)
        for trajectory in trajectories:
            if learnt(trajectory):
                judge = judge_of(trajectory, TEACHER, all_outcomes=False)
                context = shown(trajectory) if shown is not None else ""
                for thread in _threads(trajectory, texts, agent, instructions, context):
                    pairs.add(thread, prefixes(trajectory.namespace, thread, whole=False), judge)
        rows = [msgspec.json.decode(msgspec.json.encode(row), type=dict[str, Any]) for row in pairs.rows()]
    return [row for row in rows if msgspec.json.encode(row["prompt"]) not in secret]


def _threads(trajectory: Trajectory, texts: LmTexts, agent: Agent, instructions: str, context: str) -> Iterator[Thread]:
    """One for each step: its prompt, as texts, and its answer."""
    for step, view in views(trajectory, agent, instructions, context):
        if step.action.text.strip() and step.error is None and step.answerer is not Answerer.NOBODY:
            prompt = act_messages(view)
            told = texts.told([*prompt, Message(role="assistant", content=step.action.text.strip())])
            messages = msgspec.convert(told, tuple[Message, ...])
            yield Thread(messages, (), {len(prompt): step.answerer}, {len(prompt): step})


def _said(chat: Chat, texts: LmTexts) -> list[dict[str, str]]:
    text = f"reasoning: {chat.reasoning}\naction: {chat.action}" if chat.reasoning else chat.action
    return texts.told([Message(role="assistant", content=text)])


# --- the tokens that an engine makes ----------------------------------------------------------------------------------


def check(rows: Sequence[Row], texts: LmTexts, context_tokens: int) -> int:
    """Tokens of the longest answer. Raises ``ConfigError`` for rows that an engine reads otherwise, or too long ones.

    The engine renders prompt and answer at once; a template that writes something between or before them (an empty
    thought, say) would have the answer learnt behind other tokens than those that stand there when the student acts.
    """
    longest = answers = 0
    for row in rows:
        prompt = texts.ids_of(row["prompt"], answer_next=True)
        for name in ("completion", "chosen", "rejected"):
            if name not in row:
                continue
            (answer,) = row[name]
            whole = texts.ids_of([*row["prompt"], answer], answer_next=False)
            expected = [*prompt, *texts.answer_ids(answer["content"]), *texts.end_ids()]
            if whole[: len(expected)] != expected:
                raise ConfigError(
                    f"The chat template of this model writes the answer {answer['content'][:40]!r} otherwise when it "
                    "is learnt than when it is asked for, so it would be learnt behind tokens that are not there "
                    "later. Tune it with potstill's own loop: potstill distill weights --student lm"
                )
            longest, answers = max(longest, len(whole)), max(answers, len(expected) - len(prompt))
        longest = max(longest, len(prompt))
    if longest > context_tokens:
        raise ConfigError(
            f"The longest prompt with its answer has {longest} tokens, and the model takes {context_tokens}. Show "
            "fewer past turns: --history 4"
        )
    return answers


def longest_answer(chats: Iterable[Chat], texts: LmTexts) -> int:
    """In tokens, its end included."""
    weights = {SpanKind.TEXT: 1.0, SpanKind.REASONING: 1.0}
    return max((len(row_of(chat, texts, weights).answer) for chat in chats), default=0)


def asked_rows(chats: Sequence[Chat], texts: LmTexts) -> list[Row]:
    """Questions that the engine answers when it has trained: ``prompt`` and ``candidates`` as token ids."""
    batch = LmChoices(chats, texts).questions()
    return [
        {"prompt": prompt, "candidates": [list(ids) for ids in candidates]}
        for prompt, candidates in zip(batch.prompts, batch.candidates, strict=True)
    ]
