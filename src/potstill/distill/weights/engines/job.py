"""What an engine is to do, as a value: the ``job.json`` of a run's folder, and what may be set. Needs no PyTorch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.errors import ConfigError
from potstill.types import Struct


class Method(StrEnum):
    """Ways to learn that an engine knows."""

    SFT = "sft"
    """The teacher's answers (TRL's SFTTrainer)."""
    DPO = "dpo"
    """Pairs of a better and a worse answer to one prompt (arXiv 2305.18290; TRL's DPOTrainer)."""
    DISTILL = "distill"
    """The student's own answers, by the distribution of a teacher whose weights are at hand (arXiv 2306.13649; TRL's
    DistillationTrainer)."""


LEARNING_RATES = {Method.SFT: 2e-4, Method.DPO: 1e-5, Method.DISTILL: 1e-5}
"""Ten times TRL's own, which are for all weights and not for adapters (huggingface.co/docs/trl/peft_integration)."""
OURS = {
    "output_dir": "--out",
    "max_steps": "--steps",
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
    "save_strategy": "--save-every",
    "save_steps": "--save-every",
    "max_length": "--history",
}
"""Settings of TRL that potstill makes, and the option that says them."""
TYPED = {**OURS, "method": "the method", "model": "--base", "teacher": "--teacher-model", "r": "--rank"}
TYPED |= {"lora_alpha": "--rank", "threads": "--threads"}
"""What the values of a job are typed as; other settings of TRL as ``--set``."""


class Budget(Struct, frozen=True, kw_only=True):
    """How long is trained."""

    steps: int | None = None
    """Gradient steps, instead of ``epochs``."""
    epochs: int = 2
    batch: int = 8
    """Rows of a step and process."""
    learning_rate: float | None = None
    """The highest; None: what ``LEARNING_RATES`` says."""
    save_every: int = 50
    """Steps between two checkpoints."""
    seed: int = 0
    threads: int = 1


class Job(Struct, frozen=True, kw_only=True):
    """The file."""

    version: int = 1
    method: Method
    model: str
    """Checkpoint folder of the base."""
    teacher: str | None = None
    """Checkpoint folder of the teacher, of ``distill``."""
    adapter: dict[str, Any]
    """Of PEFT's LoraConfig."""
    settings: dict[str, Any]
    """Of the trainer's configuration."""
    threads: int
    data: str
    """SHA-256 of the rows: a job on other data is another one."""


def settings_of(method: Method, budget: Budget, more: dict[str, Any], longest_answer: int = 0) -> dict[str, Any]:
    """TRL's settings. ``more``: as they were typed; ``longest_answer``: in tokens. Raises ``ConfigError``."""
    for name in more:
        if name in OURS:
            raise ConfigError(f"'{name}' is made by potstill. Type {OURS[name]} in its place.")
    settings: dict[str, Any] = {
        "max_steps": budget.steps if budget.steps is not None else -1,
        "num_train_epochs": budget.epochs,
        "per_device_train_batch_size": budget.batch,
        "learning_rate": budget.learning_rate if budget.learning_rate is not None else LEARNING_RATES[method],
        "seed": budget.seed,
        "save_strategy": "steps",
        "save_steps": budget.save_every,
        "save_total_limit": 2,
        "report_to": "none",
        "logging_steps": 10,
    }
    if method is Method.DISTILL:
        settings["max_completion_length"] = max(16, 2 * longest_answer)
    else:
        settings["max_length"] = None  # nothing is cut off: what is too long for the model was refused
    return {**settings, **more}


def job_of(
    method: Method,
    recipe: LmRecipe,
    budget: Budget,
    more: dict[str, Any],
    *,
    model: str,
    teacher: str | None,
    data: str,
    longest_answer: int,
) -> Job:
    """``more`` and ``longest_answer`` as ``settings_of`` has them. Raises ``ConfigError``."""
    return Job(
        method=method,
        model=model,
        teacher=teacher,
        adapter={
            "r": recipe.rank,
            "lora_alpha": recipe.alpha,
            "lora_dropout": recipe.dropout,
            "target_modules": "all-linear",
            "task_type": "CAUSAL_LM",
        },
        settings=settings_of(method, budget, more, longest_answer),
        threads=budget.threads,
        data=data,
    )


def encoded(job: Job) -> bytes:
    """As the file has it."""
    return msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(job)), indent=1) + b"\n"


def differences(before: Job, now: Job) -> list[str]:
    """What another job has otherwise, each as it is typed, with both values.

    >>> base = Job(method=Method.SFT, model="m", adapter={}, settings={"seed": 0}, threads=1, data="d")
    >>> differences(base, msgspec.structs.replace(base, settings={"seed": 1, "beta": 0.2}))
    ['--seed was 0 and is 1', '--set beta was not set and is 0.2']
    """
    old, new = _values(before), _values(now)
    found: dict[str, str] = {}  # by what is typed, for one option may say several values
    for name in {**old, **new}:
        was, is_now = old.get(name, "not set"), new.get(name, "not set")
        if was != is_now:
            found.setdefault(TYPED.get(name, f"--set {name}"), f"was {was} and is {is_now}")
    told = [f"{name} {said}" for name, said in found.items()]
    return told if before.data == now.data else ["the episodes give other rows", *told]


def _values(job: Job) -> dict[str, Any]:
    own = {"method": job.method.value, "model": job.model, "teacher": job.teacher, "threads": job.threads}
    settings = {name: value for name, value in job.settings.items() if (name, value) != ("max_steps", -1)}
    return {**own, **job.adapter, **settings}
