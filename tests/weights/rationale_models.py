"""Models that reason about orders, for ``python:rationale_models:FUNCTION``; one ends its process in the middle."""

from __future__ import annotations

import os
import signal

from potstill.models.scripted import ScriptedModel
from potstill.types import Request

PACK = "pack in straw"


def thoughtful(name: str, kill_at: int = 0, by: str = "SIGKILL", action: str = PACK) -> ScriptedModel:
    """Reasons, then does ``action``; its process gets a signal when it is asked for the ``kill_at``-th time."""
    asked = 0

    def say(request: Request, index: int) -> str:
        nonlocal asked
        asked += index == 0
        if asked == kill_at:
            os.kill(os.getpid(), signal.Signals[by])
        return f"reasoning: {request.seed} says so\naction: {action}"

    return ScriptedModel(say, name="thoughtful")


def obedient(name: str) -> ScriptedModel:
    """Does what a hint tells it, and nothing without."""

    def say(request: Request, index: int) -> str:
        _, _, told = request.messages[0].content.partition("The right next action is: ")
        return f"reasoning: it was said\naction: {told.partition('.')[0]}" if told else "I do not know."

    return ScriptedModel(say, name="obedient")
