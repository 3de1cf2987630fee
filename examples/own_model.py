"""Your own model in Python: anything that can be called, as teacher or student.

    cd examples
    PYTHONPATH=. potstill models check python:own_model:open_matcher#words
    PYTHONPATH=. potstill run --env own_environment:DEPOT --split test --arm zero-shot \\
        --student python:own_model:open_matcher#words --price-student-as gpt-4.1-nano

In a package of yours, register ``open_matcher`` under the entry-point group ``potstill.models`` for a short name.
"""

import time

from potstill.protocols import Capabilities
from potstill.types import Answerer, Call, Completion, Reply, Request, Usage


class Matcher:
    """Picks the admissible action that shares most words with the prompt's last message; no network, no weights."""

    def __init__(self, name: str, shortest: bool = False) -> None:
        self.name = f"matcher-{name or 'words'}"
        self.capabilities = Capabilities(n_shares_prompt=True, constrained=True)
        self._shortest = shortest

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """Exactly ``n`` replies in order, and one ``Call`` for each billed request. Errors are ``ModelError``."""
        started = time.perf_counter()
        replies = (Reply(text=self._answer(request)),) * n
        asked = sum(len(message.content.split()) for message in request.messages)
        said = sum(len(reply.text.split()) for reply in replies)
        call = Call(
            model=self.name,
            answerer=Answerer.NOBODY,  # the caller knows the role and sets it
            purpose=request.purpose,
            prompt=request.messages,
            tools=request.tools,
            replies=replies,
            usage=Usage(input_tokens=asked, output_tokens=said, estimated=True),
            temperature=request.temperature,
            latency_s=time.perf_counter() - started,
        )
        return Completion(replies=replies, calls=(call,))

    async def aclose(self) -> None:
        """Close what is open: here nothing."""

    def _answer(self, request: Request) -> str:
        seen = set(request.messages[-1].content.lower().split())
        actions = sorted(request.admissible, key=len) if self._shortest else request.admissible
        return max(actions, key=lambda action: len(seen & set(action.lower().split())), default="look")


def open_matcher(name: str, *, shortest: bool = False) -> Matcher:
    """What potstill calls: the text after ``#``, then the options (``--student-option shortest=true``)."""
    return Matcher(name, shortest)
