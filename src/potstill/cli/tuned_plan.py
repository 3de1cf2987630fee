"""A tuned student in a run: it is spoken to as it was tuned, and is shown nothing that it was not tuned with.

Knows what the student's folder says. Loads no weights: a run is refused before anything is opened.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.errors import ConfigError
from potstill.models.tuned_file import ALLOW, Tuned, tuned_of
from potstill.run.arms import Agent, ContextKind, Placement, Reasoning
from potstill.run.runner import RunConfig


def tuned_agent(agent: Agent, options: dict[str, Any]) -> Agent:
    """The agent that a tuned student knows; another model's as it is.

    Raises ``ConfigError`` for options that ask for another one.
    """
    tuned = tuned_of(options.get("student"))
    if tuned is None:
        return agent
    _refuse_other(tuned, agent, options)
    return msgspec.structs.replace(
        agent,
        plan=False,
        reasoning=Reasoning(tuned.voice.reasoning),
        history_turns=tuned.voice.history_turns,
        list_admissible=tuned.voice.list_admissible,
    )


def _refuse_other(tuned: Tuned, agent: Agent, options: dict[str, Any]) -> None:
    voice, student = tuned.voice, options["student"]
    asked = {
        "--history": (options.get("history_turns"), voice.history_turns),
        "--list-admissible": (options.get("list_admissible"), voice.list_admissible),
        "--reasoning": (None if agent.reasoning is Reasoning.NONE else agent.reasoning.value, voice.reasoning),
        "--plan": (agent.plan or None, False),
        "--placement": (None if agent.placement is Placement.FIRST else agent.placement.value, "first"),
    }
    for flag, (given, learnt) in asked.items():
        if given is not None and given != learnt:
            raise ConfigError(
                f"{student} was tuned with {flag} {'all' if learnt is None else learnt}, and {given} was given. Leave "
                f"{flag} away, or tune a student with it."
            )


def refuse_context(config: RunConfig) -> None:
    """Raises ``ConfigError`` where arms would show a student demonstrations or a playbook that it never saw."""
    tuned = tuned_of(config.student)
    if tuned is None or config.student_options.get(ALLOW):
        return
    for arm in config.arms:
        shows = arm.needs_student and (arm.playbook or arm.context is not ContextKind.NONE)
        if shows and (arm.playbook or not tuned.demonstrations):
            what = "a playbook" if arm.playbook else "demonstrations"
            raise ConfigError(
                f"The arm '{arm.name}' shows {what}, and {config.student} was tuned without: that made a tuned "
                f"SmolLM2-135M half as good. Take --arm zero-shot or --arm cascade, or type: "
                f"--student-option {ALLOW}=true"
            )
