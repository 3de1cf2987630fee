"""A real model of 135 million parameters in both roles: it may say nothing usable, and nothing breaks by that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playbook_cases import bullets, lesson, shipping

from potstill.distill.playbook.operations import Stage
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.roles.evidence import case_of
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.roles.rounds import Stopped, reflect_in_rounds
from potstill.protocols import Model
from potstill.types import Answerer, Purpose

pytestmark = [pytest.mark.llm, pytest.mark.slow]
BOOK = bullets(6, stage=Stage.LIVE)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[Model]:
    from potstill.models.local import open_local

    opened = open_local("smollm2-135m", context_tokens=4096, samples=1)
    yield opened
    asyncio.run(opened.aclose())


async def test_a_small_model_reflects_or_is_refused(model: Model) -> None:
    reflector = ModelReflector(model, max_tokens=96, answerer=Answerer.STUDENT)
    made = await reflect_in_rounds(reflector, case_of(shipping(), tokens=500), BOOK, rounds=2)
    assert (made.reflection is None) == (made.stopped is Stopped.REFUSED and made.rounds == 1)
    assert made.reflection is not None or made.refused
    assert {tag.id for tag in made.tags} <= {"b-3", "b-5"}
    assert 1 <= len(made.calls) <= 4
    for call in made.calls:
        assert (call.purpose, call.answerer) == (Purpose.REFLECT, Answerer.STUDENT)
        assert call.usage is not None
        assert call.usage.output_tokens <= 96


async def test_a_small_model_curates_or_is_refused(model: Model) -> None:
    made = await ModelCurator(model, max_tokens=96, bullet_tokens=500).curate([lesson()], BOOK)
    assert not made.operations or not made.refused
    assert 1 <= len(made.calls) <= 2
    assert {call.purpose for call in made.calls} == {Purpose.CURATE}
