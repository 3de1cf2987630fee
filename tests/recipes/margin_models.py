"""A student that divides and knows nothing of percent until its prompt does, and teachers that write what they saw.

They read their prompts and nothing else, so that a recipe's whole way from episode to prompt has to work.
"""

from __future__ import annotations

import json
import re

from potstill.models.scripted import ScriptedModel
from potstill.types import Purpose, Request

LESSON = "Margins are wanted in percent: divide, then multiply by 100."
_NUMBERS = re.compile(r"income of (\d+) and a revenue of (\d+)")


def divide(request: Request, index: int) -> str:
    """The quotient, in percent where the prompt says so or shows an example that does."""
    system = request.messages[0].content
    income, revenue = map(int, _NUMBERS.findall(request.messages[-1].content)[-1])
    taught = "multiply by 100" in system or re.search(r"^action: [0-9]{2}\.", system, re.MULTILINE)
    return f"Answer: {(100 if taught else 1) * income / revenue:.2f}"


def curate(request: Request, index: int) -> str:
    """A cheatsheet with the lesson, if the record shows an answer below 1."""
    prompt = request.messages[-1].content
    before = re.findall(r"^ *- .*$", prompt.partition("now:")[2].partition("record")[0], re.MULTILINE)
    lines = [line.strip() for line in before]
    if "Answer: 0." in prompt and f"- {LESSON}" not in lines:
        lines.append(f"- {LESSON}")
    lines.append(f"- Seen {len(lines)}.")
    return "Here it is.\n<cheatsheet>\n" + "\n".join(lines) + "\n</cheatsheet>"


def open_student(name: str) -> ScriptedModel:
    return ScriptedModel(divide, name=name or "divider")


def open_curator(name: str) -> ScriptedModel:
    return ScriptedModel(curate, name=name or "curator")


def reflect(request: Request, index: int) -> str:
    """Instructions with the lesson, as the package gepa reads them, if the record shows an answer below 1."""
    prompt = request.messages[-1].content
    lesson = f" {LESSON}" if "Answer: 0." in prompt else ""
    return f"I looked.\n```\nAnswer the question with a number.{lesson}\n```"


def teach(request: Request, index: int) -> str:
    """A Reflector and a Curator in JSON: the lesson once, from an episode whose answer is below 1."""
    prompt = "\n".join(message.content for message in request.messages)
    if request.purpose is Purpose.REFLECT:
        low = "Answer: 0." in prompt and "Answer: 0.0" not in prompt.partition("Answer: 0.")[0]
        insight = LESSON if low else "Nothing new."
        return json.dumps({"reasoning": "I looked at the answer.", "key_insight": insight, "bullet_tags": []})
    new = LESSON in prompt and not re.search(rf"b-[0-9]+[^\n]*{re.escape(LESSON)}", prompt)
    add = {"type": "ADD", "section": "formulas_and_calculations", "content": LESSON}
    return json.dumps({"reasoning": "I compared.", "operations": [add] if new else []})


def open_teacher(name: str) -> ScriptedModel:
    return ScriptedModel(teach, name=name or "teacher")
