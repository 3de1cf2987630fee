"""What an engine is handed: rows out of the store, and the job. Everything is looked at before the engine starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from potstill.cli.output import note
from potstill.cli.training.data import HELD_OUT, LEARN
from potstill.cli.training.engine_plan import EnginePlan
from potstill.cli.training.lm import Read, read_chats
from potstill.distill.weights.engines import rows as made
from potstill.distill.weights.engines.job import Job, Method, job_of
from potstill.distill.weights.engines.rows import Row
from potstill.distill.weights.lm import student
from potstill.distill.weights.lm.chats import Chat
from potstill.distill.weights.lm.tokens import digest_of
from potstill.errors import ConfigError
from potstill.models.lm_texts import LmTexts
from potstill.models.torch_lm import find_checkpoint
from potstill.trajectories.opening import read_store
from potstill.trajectories.splits import split_of
from potstill.types import Trajectory


class Handed(NamedTuple):
    """What the engine is handed."""

    base: Path
    read: Read
    rows: list[Row]
    job: Job
    longest: int
    """Tokens of the longest prompt that is asked."""


def hand(plan: EnginePlan, folder: Path) -> Handed:
    """All of it, checked. ``folder``: keeps the decisions. Raises ``ConfigError``, ``BadModelFile``."""
    base = find_checkpoint(plan.lm.recipe.base, progress=note)
    teacher = find_checkpoint(plan.teacher, progress=note) if plan.teacher else None
    if teacher is not None:
        _refuse_other_vocabulary(plan, base, teacher)
    read = read_chats(plan.lm, folder)
    tokens = student.as_tokens(base, read.learn, read.held_out, plan.lm.recipe)
    if tokens.texts.template != "chat":
        raise ConfigError(
            f"{plan.lm.recipe.base} has no chat template: it is a base model, and an engine writes its prompts by that "
            "template. Take an instruction-tuned one, or potstill's own loop: potstill distill weights --student lm"
        )
    rows = _rows(plan, read, tokens)
    made.check(rows, tokens.texts, tokens.context_tokens)
    job = job_of(
        plan.method,
        plan.lm.recipe,
        plan.budget,
        plan.settings,
        model=str(base.absolute()),
        teacher=None if teacher is None else str(teacher.absolute()),
        data=digest_of(rows),
        longest_answer=made.longest_answer(read.learn, tokens.texts),
    )
    return Handed(base, read, rows, job, tokens.held_out.longest)


def _rows(plan: EnginePlan, read: Read, tokens: student.Tokens) -> list[Row]:

    match plan.method:
        case Method.SFT:
            return made.sft_rows(read.learn, tokens.texts)
        case Method.DISTILL:
            return made.prompt_rows(read.learn, tokens.texts)
        case Method.DPO:
            fractions = {LEARN: 1.0 - plan.lm.held_out, HELD_OUT: plan.lm.held_out}

            def learnt(one: Trajectory) -> bool:
                return split_of(one.task, fractions) == LEARN

            names = ("split", "namespace", "run_id", "environment")
            with read_store(plan.lm.db) as store:
                found = made.preference_rows(
                    store.select(**{name: plan.lm.filters[name] for name in names}),
                    *(tokens.texts, plan.lm.recipe.agent, read.instructions),
                    learnt=learnt,
                    held_out=read.held_out,
                    shown=read.shown,
                )
            if not found:
                raise ConfigError(
                    f"The store has no pair for trl-dpo: nowhere in the split '{plan.lm.filters['split']}' was "
                    "anything else done behind a prompt where the teacher acted in an episode that succeeded. Record a "
                    "student on the same tasks (potstill run --split train --arm cascade), or take trl-sft."
                )
            return found


def _refuse_other_vocabulary(plan: EnginePlan, base: Path, teacher: Path) -> None:
    """Before episodes are read, which may take minutes."""
    if LmTexts(teacher).tokenizer.get_vocab() != LmTexts(base).tokenizer.get_vocab():
        raise ConfigError(
            f"The vocabularies of {plan.lm.recipe.base} and {plan.teacher} differ, and a distribution over tokens says "
            "nothing in another vocabulary. Take a teacher of the same family, or trl-sft on its episodes."
        )
    size, ours = student.vocabulary_of(teacher), student.vocabulary_of(base)
    if size != ours:
        raise ConfigError(
            f"The weights of {plan.teacher} have {size} tokens and those of {plan.lm.recipe.base} {ours}. "
            "Take a teacher of the same family whose head is as large."
        )


def asked_chats(read: Read) -> list[Chat]:
    """The held-out chats by whose answers the engine's network and the student's folder are compared."""
    return [question.chat for question in student.questions_of(read.held_out)]
