"""Models by rule for the tests of the command line: a student that does what a playbook in its prompt says, and a
teacher that reflects and curates. ``python:playbook_models:open_student#NAME`` names one."""

from __future__ import annotations

import asyncio
import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path

from potstill.errors import ModelUnavailable
from potstill.protocols import Capabilities
from potstill.types import Answerer, Call, Completion, Purpose, Reply, Request, Usage

HERE = str(Path(__file__).parent)


def on_path() -> str:
    """PYTHONPATH for a process that opens these models."""
    return os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])


class _Model(ABC):
    capabilities = Capabilities(n_shares_prompt=True, constrained=True)

    def __init__(self, name: str, delay_s: float = 0.0) -> None:
        self.name = name
        self._delay_s = delay_s
        self.closed = False

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        replies = (Reply(text=self.answer(request)),) * n
        asked = sum(len(message.content.split()) for message in request.messages)
        call = Call(
            model=self.name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            replies=replies,
            usage=Usage(input_tokens=asked, output_tokens=5, estimated=True),
        )
        return Completion(replies=replies, calls=(call,))

    @abstractmethod
    def answer(self, request: Request) -> str: ...

    async def aclose(self) -> None:
        self.closed = True


class Student(_Model):
    """Takes the first admissible action that a bullet of its prompt quotes, else the last one."""

    def answer(self, request: Request) -> str:
        prompt = "\n".join(message.content for message in request.messages)
        bullets = " ".join(re.findall(r"^\[b-[0-9]+\] (.*)$", prompt, re.MULTILINE))
        told = [action for action in request.admissible if f"'{action}'" in bullets]
        return told[0] if told else request.admissible[-1]


class Teacher(_Model):
    """Reflects on whatever it is shown, and proposes one bullet for it."""

    def answer(self, request: Request) -> str:
        if request.purpose is Purpose.REFLECT:
            return json.dumps({"reasoning": "It failed.", "key_insight": "Begin with 'weigh it'."})
        if request.purpose is Purpose.CURATE:
            add = {"type": "ADD", "section": "strategies_and_hard_rules", "content": "Begin with 'weigh it'."}
            return json.dumps({"reasoning": "A rule.", "operations": [add]})
        return request.admissible[-1]


def is_back() -> bool:
    return Path(os.environ["COMES_BACK"]).exists()


class Dead(Student):
    """Is out of order until the file of ``COMES_BACK`` is there."""

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if not is_back():
            raise ModelUnavailable("nobody is there")
        return await super().sample(request, n)


class Parrot(Teacher):
    """A teacher whose lesson is whatever it was told of a key."""

    def answer(self, request: Request) -> str:
        told = " ".join(re.findall(r"sk-\w+|redacted:[\w-]+", "\n".join(one.content for one in request.messages)))
        return super().answer(request).replace("'weigh it'", f"the key {told}")


def open_parrot(name: str, **options: float) -> Parrot:
    return Parrot(f"parrot-{name}", **options)


def open_dead(name: str, **options: float) -> Dead:
    return Dead(f"dead-{name}", **options)


class Hangs(Student):
    """Answers so many times and then no more; says so by a file of the name in ``POTSTILL_TEST_HANGS``."""

    def __init__(self, name: str, after: int) -> None:
        super().__init__(name)
        self._left = int(after)
        self._mark = Path(os.environ["POTSTILL_TEST_HANGS"])

    async def sample(self, request: Request, n: int = 1) -> Completion:
        self._left -= 1
        if self._left < 0:
            await asyncio.to_thread(self._mark.touch)
            await asyncio.sleep(600)
        return await super().sample(request, n)


def open_hanging(name: str, after: int) -> Hangs:
    return Hangs(f"student-{name}", after)


def open_student(name: str, **options: float) -> Student:
    return Student(f"student-{name}", **options)


def open_teacher(name: str, **options: float) -> Teacher:
    return Teacher(f"teacher-{name}", **options)


class Prose(_Model):
    """Never says what a role is asked for."""

    def answer(self, request: Request) -> str:
        return "I would rather write prose."


def open_prose(name: str, **options: float) -> Prose:
    return Prose(f"prose-{name}", **options)
