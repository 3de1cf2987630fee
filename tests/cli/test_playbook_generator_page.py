"""What a learning run plays, and validates, is what the book says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from potstill.cli.playbook_generator import StudentGenerator
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.context import PlaybookContext
from potstill.distill.playbook.operations import Batch, Stage
from potstill.distill.playbook.page import text_of
from potstill.errors import EnvError
from potstill.trajectories import Store
from potstill.types import Task


def no_environment():
    raise EnvError("none is lent")


def test_a_page_is_brought_to_what_the_book_says_before_an_episode(tmp_path):
    settings = SimpleNamespace(
        arms=(None,), max_steps=1, instructions="", run_id="r", namespace="default", digest="", prices_date=None
    )
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "house")
        lessons = (ops.Add(section="others", content=f"lesson {n} of many", stage=Stage.LIVE) for n in range(40))
        book.apply(Batch(operations=tuple(lessons), actor="ana"))
        context = PlaybookContext.of(book)
        context.page()
        book.apply(Batch(operations=(ops.Update(id="b-9", content="corrected", revision=1),), actor="curator"))
        assert "corrected" not in text_of(context.page())
        generator = StudentGenerator(settings, None, context, no_environment, lambda data, kind: None)
        with pytest.raises(EnvError, match="none is lent"):
            asyncio.run(generator.play(Task(id="t", environment="e"), 0, reflection=None, tag="r/validate/0/0"))
        assert "[b-9] corrected" in text_of(context.page())
