"""What a student is shown beside the client's words: a playbook, and behind it demonstrations.

What it knows: their order, and what is recorded of them. What it does not do: either of both (``books``, ``context``).
The playbook stands first: its page is the same for all episodes, and demonstrations differ from task to task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from potstill.record.parsing import Situation
from potstill.serve.deciding.books import Books, Taught
from potstill.serve.deciding.context import Injector, Where
from potstill.serve.settings import Route
from potstill.types import DemonstrationRef, Reply
from potstill.wire.neutral import Prompt


class Showed(NamedTuple):
    """A prompt as the student is asked it."""

    prompt: Prompt
    taught: Taught
    demonstrations: tuple[DemonstrationRef, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    """What could not be shown: ``playbook`` or ``retrieval``, and why."""

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(why for _, why in self.failed)

    def fields(self, replies: Iterable[Reply]) -> dict[str, Any]:
        """What is recorded of it, where the student was asked, whether or not it answered: fields of an exchange and of
        ``Decided``."""
        said = [part for reply in replies for part in (reply.reasoning, reply.text) if part]
        return {
            "demonstrations": self.demonstrations,
            "playbook": self.taught.heard(said),
            "bullets": self.taught.bullets,
        }


def nothing(prompt: Prompt) -> Showed:
    return Showed(prompt, Taught(prompt))


class Showing:
    """Shows what a route's settings want. One event loop."""

    def __init__(self, demonstrations: Injector, books: Books) -> None:
        self._demonstrations = demonstrations
        self._books = books

    async def show(self, prompt: Prompt, route: Route, situation: Situation, where: Where) -> Showed:
        """Never raises but for cancellation: what fails is left out, with a note."""
        taught = await self._books.teach(prompt, route.playbook, situation, where)
        shown = await self._demonstrations.inject(taught.prompt, route.context, situation, where)
        failed = tuple((what, why) for what, why in (("playbook", taught.note), ("retrieval", shown.note)) if why)
        return Showed(shown.prompt, taught, shown.demonstrations, failed)
