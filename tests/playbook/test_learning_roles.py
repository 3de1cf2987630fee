"""The whole chain with roles that are played by models: episode, case, reflection, proposal, gates, book."""

from __future__ import annotations

import json
import re

import pytest
from injection_corpus import PAYLOADS
from learning_world import TOPICS, Agent, ByRule, Counts, played, recorded, roles, tasks

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Tasks
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.operations import Add, Stage
from potstill.distill.playbook.render import entry, read_back, render
from potstill.distill.playbook.roles.contract import Curating
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.sections import DEFAULT
from potstill.models.scripted import ScriptedModel
from potstill.trajectories import Store
from potstill.types import Answerer, Purpose, Request


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "book")


def teacher(request: Request, index: int) -> str:
    """Says as a Reflector what the feedback said, and as a Curator what the reflection said."""
    said = "\n".join(message.content for message in request.messages if message.role == "user")
    needs = list(dict.fromkeys(re.findall(r"The \w+ needs the [a-z ]+\.", said)))
    if request.purpose is Purpose.REFLECT:
        insight = needs[-1] if needs else "It went well."
        return json.dumps({"reasoning": "It was so.", "key_insight": insight, "bullet_tags": []})
    adds = [{"type": "ADD", "section": "strategies", "content": one} for one in needs]
    return json.dumps({"reasoning": "As it failed.", "operations": adds})


def by_models(model: ScriptedModel, **others):
    return roles(reflector=ModelReflector(model), curator=ModelCurator(model), **others)


@pytest.mark.parametrize("mode", [Mode.OFFLINE, Mode.BATCH])
async def test_a_student_learns_from_a_teacher(book, mode):
    model = ScriptedModel(teacher, name="teacher")
    settings = Settings(mode=mode, batch=4, epochs=2)
    result = await learn(book, played(book, 4), by_models(model), settings, run="r")
    assert sorted(one.content.split()[1] for one in book.bullets().values()) == sorted(TOPICS[:4])
    assert (result.succeeded, result.refused, result.skipped) == (4, {}, ())  # all of the second epoch
    asked = {purpose: [one for one, _ in model.requests if one.purpose is purpose] for purpose in Purpose}
    calls = {one.part: one.calls for one in result.spent}
    assert calls["reflector"] == len(asked[Purpose.REFLECT])
    assert calls["curator"] == len(asked[Purpose.CURATE])


async def test_the_same_model_may_play_each_part(book):
    """``answerer`` says whose money it is; the bill tells the parts apart all the same."""
    model = ScriptedModel(teacher, name="student")
    own = roles(
        reflector=ModelReflector(model, answerer=Answerer.STUDENT),
        curator=ModelCurator(model, answerer=Answerer.STUDENT),
    )
    result = await learn(book, played(book, 2), own, run="r")
    assert [(one.part, one.model) for one in result.spent] == [
        ("curator", "student"), ("generator", "student"), ("reflector", "student"),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ["I would rather not.", '{"operations": [{"type": "DROP"}]}', "[" * 9_999, "{" * 99])
async def test_a_teacher_that_says_nothing_usable_changes_nothing(book, answer):
    result = await learn(book, recorded(book, 3), by_models(ScriptedModel(lambda request, index: answer)), run="r")
    assert (book.revision, len(result.skipped)) == (0, 3)
    assert sum(result.refused.values()) >= 3
    assert all(one.message for one in result.not_taken)


async def test_a_curator_that_names_what_was_not_shown_changes_nothing(book):
    def forger(request: Request, index: int) -> str:
        if request.purpose is Purpose.REFLECT:
            return teacher(request, index)
        return '{"operations": [{"type": "UPDATE", "id": "b-7", "content": "x"}, {"type": "ADD", "section": "s"}]}'

    result = await learn(book, recorded(book, 2), by_models(ScriptedModel(forger)), run="r")
    assert book.revision == 0
    assert result.refused["unknown-id"] >= 2


@pytest.mark.parametrize("name", sorted(PAYLOADS))
async def test_nobody_forges_an_entry_however_it_plays_the_curator(book, name):
    """A script of one's own copies what an episode said."""

    class Copies(Counts):
        async def curate(self, lessons, bullets, objections=()):
            text = PAYLOADS[name]
            return Curating(operations=(Add(section=text, content=text, stage=Stage.LIVE),), reasoning=text)

    await learn(book, Tasks(generator=Agent(book), tasks=tasks(1)), roles(curator=Copies()), run="r")
    bullets = book.bullets()
    assert len(bullets) <= 1
    text = render((entry(one) for one in bullets.values()), DEFAULT)
    assert [id for _, id, _ in read_back(text)] == list(bullets)
    assert all((one.helpful, one.pinned, one.section) == (0, False, "others") for one in bullets.values())
    assert book.check() == []


async def test_nothing_that_an_episode_said_is_in_the_journal(book):
    class Parrot(ByRule):
        async def reflect(self, case, bullets, previous=None):
            raise ValueError("never asked")

    secret = "ZOLTANQUUX"
    made = recorded(book, 1)
    model = ScriptedModel(lambda request, index: f"{secret} is what I would say. {{")
    result = await learn(book, made, by_models(model), run="r")
    assert secret not in str(book.store.learning_rows("default", "book", "r"))
    assert result.skipped
    with pytest.raises(ValueError, match="never asked"):
        await learn(book, made, roles(reflector=Parrot()), run="s")
    assert "never asked" not in str(book.store.learning_rows("default", "book", "s"))
