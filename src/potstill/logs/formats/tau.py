"""Results of tau-bench and tau2-bench: each episode is one attempt, with the agent's calls where they are told.

What it knows: the result files of both (``EnvRunResult`` of github.com/sierra-research/tau-bench, ``Results`` of
github.com/sierra-research/tau2-bench, read in 2026-11), and JSON lines of tau2 episodes with compact usage. tau-bench
writes neither model nor tokens into its rows; the model stands in the file's name. What it does not do: count the
simulated user's dollars and tokens as the agent's, or prices.

An attempt succeeds with a reward of 1, as both benchmarks count. It is an infrastructure error where the run ended for
a reason that says nothing about the agent; running out of steps, time or allowed tool errors is an honest failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import msgspec

from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.formats.episodes import Told, attempt
from potstill.logs.records import Attempt, Problem, Source
from potstill.types import Usage
from potstill.wire.usage import normalise_usage

INFRASTRUCTURE = frozenset(
    {"agent_error", "user_error", "infrastructure_error", "unexpected_error", "context_window_exceeded"}
)
"""Ends that are no failure of the agent at the task. tau2-bench leaves the last and infrastructure errors out of its
own averages; agent and user errors are raised where a model's endpoint gave no usable message."""
UNKNOWN = "unknown"

Messages = list[dict[str, Any]]


class _Tau2Row(msgspec.Struct):
    task_id: str | int
    id: str | None = None
    trial: Any = None
    reward_info: dict[str, Any] | None = None
    agent_cost: Any = None
    termination_reason: str | None = None
    duration: Any = None
    start_time: Any = None
    messages: Messages | None = None


class _EpisodeRow(msgspec.Struct):
    task_id: str | int
    agent_model: str
    simulation_id: str | None = None
    run: str | None = None
    user_model: str | None = None
    harness: str | None = None
    reward: Any = None
    agent_cost: Any = None
    termination: str | None = None
    duration_s: Any = None
    messages: Messages | None = None


class _TauRow(msgspec.Struct):
    task_id: str | int
    reward: Any = None
    info: dict[str, Any] | None = None
    traj: Messages | None = None
    trial: Any = None


_convert = msgspec.convert
_tau2 = msgspec.json.Decoder(_Tau2Row).decode
_episode = msgspec.json.Decoder(_EpisodeRow).decode
_tau = msgspec.json.Decoder(_TauRow).decode


class Tau2Bench:
    """tau2-bench's ``Results``: ``{"info": ..., "simulations": [...]}``, or one simulation alone."""

    name = "tau2-bench"
    arrays: tuple[str, ...] = ("simulations", "", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        return "task_id" in row and "termination_reason" in row and ("reward_info" in row or "messages" in row)

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        info = _object(document.get("info"))
        agent, user = _object(info.get("agent_info")), _object(info.get("user_info"))
        return {"model": agent.get("llm"), "user_model": user.get("llm"), "harness": agent.get("implementation")}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        found = _tau2(row)
        if found.termination_reason is None and found.messages is None and found.reward_info is None:
            raise Skipped("no simulation", "neither termination_reason nor messages nor reward_info")
        model = _name(head.get("model")) or _answered_by(found.messages or [])
        problems = () if model else (Problem("bad_value", "neither the file nor its messages name the agent's model"),)
        told = Told(
            task_id=str(found.task_id),
            model=model or UNKNOWN,
            run=_run_of(source.file),
            episode_id=found.id,
            sample=found.trial,
            reward=(found.reward_info or {}).get("reward"),
            error=_broken(found.termination_reason),
            cost_usd=found.agent_cost,
            latency_s=found.duration,
            started_at=found.start_time,
            harness=_name(head.get("harness")),
            user_model=_name(head.get("user_model")),
            messages=found.messages or [],
            problems=problems,
        )
        return (attempt(told, source, _tau2_usage),)


class Tau2Episodes:
    """tau2-bench's simulations as JSON lines, each with its run and model, messages with compact usage."""

    name = "tau2-episodes"
    arrays: tuple[str, ...] = ("",)

    def fits(self, row: Mapping[str, Any]) -> bool:
        return "task_id" in row and "agent_model" in row and "messages" in row

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        found = _episode(row)
        told = Told(
            task_id=str(found.task_id),
            model=found.agent_model,
            run=found.run or "",
            episode_id=found.simulation_id,
            reward=found.reward,
            error=_broken(found.termination),
            cost_usd=found.agent_cost,
            latency_s=found.duration_s,
            harness=found.harness,
            user_model=found.user_model,
            messages=found.messages or [],
        )
        return (attempt(told, source, compact_usage),)


class TauBench:
    """tau-bench's checkpoint file: an array of ``{task_id, reward, info, traj, trial}``."""

    name = "tau-bench"
    arrays: tuple[str, ...] = ("",)

    def fits(self, row: Mapping[str, Any]) -> bool:
        return "task_id" in row and "reward" in row and "traj" in row

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        found = _tau(row)
        if found.traj is None:
            raise Skipped("no trajectory", "there is no list 'traj'")
        named = _FILE_NAME.match(PurePath(source.file).name)
        hint = "tau-bench writes the model only into the file's name, and this file has another one"
        error = (found.info or {}).get("error")
        told = Told(
            task_id=str(found.task_id),
            model=named["model"] if named else UNKNOWN,
            run=_run_of(source.file),
            sample=found.trial,
            reward=found.reward,
            error=str(error) if error else None,
            harness=named["strategy"] if named else None,
            user_model=named["user"] if named else None,
            messages=found.traj,
            problems=() if named else (Problem("bad_value", hint),),
        )
        return (attempt(told, source, None),)


_FILE_NAME = re.compile(
    r"(?P<strategy>tool-calling|few-shot|react|act)-(?P<model>.+)-[\d.]+_range_-?\d+--?\d+"
    r"_user-(?P<user>.+)-(?:llm|react|verify|reflection|human)_.*"
)
"""``STRATEGY-MODEL-TEMPERATURE_range_FIRST-LAST_user-MODEL-STRATEGY_TIME.json``, as tau-bench names its files."""


def compact_usage(message: Mapping[str, Any]) -> Usage | None:
    """Usage written as ``{"in", "out", "cached", "reasoning"}``, which counts as OpenAI's does."""
    raw = message.get("usage")
    if not isinstance(raw, dict):
        return None
    cached = raw.get("cached")
    try:
        return _convert(
            {
                "input_tokens": raw.get("in"),
                "cache_read_tokens": cached or 0,
                "output_tokens": raw.get("out"),
                "reasoning_tokens": raw.get("reasoning") or 0,
                "cache_reported": cached is not None,
            },
            Usage,
        )
    except msgspec.ValidationError:
        return None


def _tau2_usage(message: Mapping[str, Any]) -> Usage | None:
    """The endpoint's own usage where the raw answer was kept (it tells cached tokens), else the two counts."""
    whole = _object(message.get("raw_data")).get("usage")
    return normalise_usage(_object(whole)) or normalise_usage(_object(message.get("usage")))


def _answered_by(messages: Messages) -> str:
    """The model that the first raw answer of the agent names."""
    for message in messages:
        if message.get("role") == "assistant" and (name := _name(_object(message.get("raw_data")).get("model"))):
            return name
    return ""


def _broken(termination: str | None) -> str | None:
    return termination if termination in INFRASTRUCTURE else None


def _run_of(file: str) -> str:
    """The run that a result file belongs to: its name, or its folder's where all files are named alike."""
    path = PurePath(file)
    if path.parent.name == "simulations" and path.parent.parent.name:
        return path.parent.parent.name
    stem = path.name.removesuffix(".gz").removesuffix(".json")
    return path.parent.name if stem == "results" and path.parent.name else stem


def _name(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


FORMATS: tuple[LogFormat, ...] = (Tau2Bench(), Tau2Episodes(), TauBench())
