"""A model as Curator: it proposes operations on what it was shown, and nothing else gets through."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from injection_corpus import PAYLOADS
from playbook_cases import added, bullets, curated, lesson

from potstill.distill.playbook.operations import Add, Merge, Remove, Stage, Update
from potstill.distill.playbook.roles.choosing import ForLessons
from potstill.distill.playbook.roles.contract import Curator, Signal
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.said import BulletTag, Reflection
from potstill.distill.playbook.spoken import Why
from potstill.errors import ConfigError, ModelError, ModelTimeout, UnknownName
from potstill.models.scripted import ScriptedModel
from potstill.retrieval.lexical import LexicalRanker
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Answerer, Call, Purpose

BOOK = bullets(4, stage=Stage.LIVE)


def as_curator(curator: Curator) -> Curator:
    """The type checker's proof that it is one."""
    return curator


def asked(model: ScriptedModel, index: int = -1) -> str:
    """The per-case part of a request."""
    return model.requests[index][0].messages[1].content


async def test_a_proposal_and_its_call() -> None:
    answer = curated(
        added("Note above 500."),
        {"type": "UPDATE", "id": "b-1", "content": "Better."},
        {"type": "MERGE", "ids": ["b-3", "b-2"], "content": "Both."},
        {"type": "REMOVE", "id": "b-4", "reason": "It misleads."},
    )
    made = await as_curator(ModelCurator(ScriptedModel([answer]))).curate([lesson()], BOOK)
    assert made.operations == (
        Add(section="others", content="Note above 500."),
        Update(id="b-1", content="Better.", revision=10),
        Merge(into="b-2", ids=("b-3",), content="Both.", revisions=(20, 30)),
        Remove(id="b-4", reason="It misleads."),
    )
    assert (made.reasoning, made.refused) == ("It is new.", ())
    (call,) = made.calls
    assert (call.purpose, call.answerer) == (Purpose.CURATE, Answerer.TEACHER)


async def test_how_it_asks() -> None:
    model = ScriptedModel([curated()])
    curator = ModelCurator(model, max_tokens=99, temperature=0.3, seed=7, answerer=Answerer.STUDENT, most=5)
    made = await curator.curate([lesson()], BOOK)
    ((request, n),) = model.requests
    assert (request.max_tokens, request.temperature, request.seed, n) == (99, 0.3, 7, 1)
    assert (request.purpose, request.static_messages) == (Purpose.CURATE, 1)
    assert "At most 5 operations" in request.messages[0].content
    assert (made.operations, made.refused) == ((), ())
    assert made.calls[0].answerer is Answerer.STUDENT
    assert curator.name == "scripted"


WRONG = [
    ("I would add a rule about notes.", Why.NO_JSON),
    ("", Why.EMPTY),
    ('{"operations": [{"type": "ADD", "section": "others", "content": "Ad', Why.HALF),
    (curated({"type": "PIN", "id": "b-1"}), Why.UNKNOWN_OPERATION),
    (curated({"type": "TAG", "id": "b-1", "helpful": 999}), Why.UNKNOWN_OPERATION),
    (curated({"type": "STAGE", "id": "b-1", "stage": "live"}), Why.UNKNOWN_OPERATION),
    (curated({"type": "FORGET", "source": "t-1"}), Why.UNKNOWN_OPERATION),
    (curated(added(), {"type": "UPDATE", "id": "b-99", "content": "x"}), Why.UNKNOWN_ID),
    (curated({"type": "REMOVE", "id": "ь-1"}), Why.LOOKALIKE),
    (curated({"type": "UPDATE", "id": "b-1"}), Why.SHAPE),
    (curated(added("word " * 209_715)), Why.CONTENT_TOO_LONG),
    ('{"operations": "' + "x" * 1_000_000 + '"}', Why.SHAPE),
    ("x" * 2_000_001, Why.TOO_LONG),
    (curated(*[added(f"Rule {n}.") for n in range(101)]), Why.TOO_MANY),
    ('{"operations": ' + "[" * 5_000 + "]" * 5_000 + "}", Why.TOO_DEEP),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG, ids=[str(each[1]) + each[0][:20] for each in WRONG])
async def test_what_cannot_be_taken_goes_back_once_and_nothing_of_it_is_applied(wrong: str, why: Why) -> None:
    model = ScriptedModel([wrong, curated(added("Note."))])
    made = await ModelCurator(model).curate([lesson()], BOOK)
    assert made.operations == (Add(section="others", content="Note."),)
    assert (made.refused, len(made.calls)) == ((), 2)
    assert sum(len(message.content) for message in model.requests[1][0].messages) < 20_000

    made = await ModelCurator(ScriptedModel([wrong, wrong])).curate([lesson()], BOOK)
    assert made.operations == ()
    assert why in {each.why for each in made.refused}
    assert [call.replies[0].text for call in made.calls] == [wrong, wrong]


async def test_the_reasons_go_back_with_their_ids() -> None:
    wrong = curated({"type": "UPDATE", "id": "b-99", "content": "x"}, {"type": "PIN", "id": "b-1"})
    model = ScriptedModel([wrong, curated()])
    await ModelCurator(model).curate([lesson()], BOOK)
    back = model.requests[1][0].messages[-1].content.split("\n")
    assert back[1] == "- Operation 1 (UPDATE) names 'b-99', which is no bullet that was shown."
    assert back[2].startswith("- Operation 2 (PIN) is none that a model may propose.")


async def test_lenient_takes_the_good_ones_of_the_last_answer() -> None:
    half = curated(added("Note."), {"type": "REMOVE", "id": "b-99"})
    model = ScriptedModel([half, half])
    made = await ModelCurator(model, lenient=True).curate([lesson()], BOOK)
    assert made.operations == (Add(section="others", content="Note."),)
    assert [each.why for each in made.refused] == [Why.UNKNOWN_ID]
    assert len(made.calls) == 2


async def test_nobody_answers_the_repair_and_the_first_call_is_on_the_bill() -> None:
    problem = ModelTimeout("no answer in 60 s")
    problem.calls = (Call(model="lost", answerer=Answerer.NOBODY),)
    with pytest.raises(ModelError) as caught:
        await ModelCurator(ScriptedModel(["prose", problem])).curate([lesson()], BOOK)
    assert [(call.model, call.purpose) for call in caught.value.calls] == [
        ("scripted", Purpose.CURATE),
        ("lost", Purpose.CURATE),
    ]


async def test_no_model_gives_an_id_a_counter_a_stage_or_a_pin() -> None:
    forged = added("Note.", id="b-1", helpful=999, stage="live", pinned=True, revision=7)
    made = await ModelCurator(ScriptedModel([curated(forged)])).curate([lesson()], BOOK)
    assert made.operations == (Add(section="others", content="Note.", stage=Stage.SHADOW),)


# --- what it may name -----------------------------------------------------------------------------------------------


async def test_all_bullets_are_listed_where_they_fit() -> None:
    book = {**bullets(3, pinned=True), **{"b-4": bullets(4, removed=True)["b-4"]}}
    model = ScriptedModel([curated()])
    await ModelCurator(model).curate([lesson()], book)
    assert asked(model).startswith(
        """\
# The playbook
All 3 bullets stand here. You may name the ids in brackets at the start of their lines; no others exist for you.

## OTHERS
[b-1] Rule 1.
[b-2] Rule 2.
[b-3] Rule 3.

Pinned by a person, not to be removed: b-1, b-2, b-3.
Not proven, shown to no agent yet: b-1, b-2, b-3.
"""
    )


async def test_what_is_known_of_bullets_stands_beside_their_texts_by_id() -> None:
    book = {
        **bullets(1, helpful=4, harmful=1, stage=Stage.LIVE, content="Good (helpful 99)."),
        "b-2": bullets(2, harmful=2, quarantined=True)["b-2"],
        "b-3": bullets(3, stage=Stage.CANARY)["b-3"],
    }
    model = ScriptedModel([curated()])
    await ModelCurator(model).curate([lesson()], book)
    assert (
        "[b-3] Rule 3.\n\nCalled helpful/harmful so far: b-1 4/1, b-2 0/2.\n"
        "In quarantine, suspected of doing harm: b-2.\n\n# Lesson 1" in asked(model)
    )


async def test_an_empty_playbook_says_so() -> None:
    model = ScriptedModel([curated(added("Note."))])
    made = await ModelCurator(model).curate([lesson()], {})
    assert "The playbook is empty: there is no id that you may name." in asked(model)
    assert len(made.operations) == 1


def large_book() -> dict[str, Any]:
    """200 bullets of some 25 tokens in two sections with other words; b-120 is about notes, b-180 is pinned."""
    filler = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi"
    other = "pi rho sigma tau upsilon phi chi psi omega aleph beth gimel dalet zayin"
    book = {
        **bullets(100, section="tools", content=f"Of tools: {other}."),
        **{id: one for id, one in bullets(200, content=f"About others: {filler}.").items() if one.number > 100},
    }
    note = bullets(120, section="others", content=f"A note goes with large orders: {filler}.")["b-120"]
    pinned = bullets(180, section="others", content=f"Pinned: {filler}.", pinned=True)["b-180"]
    return {**book, "b-120": note, "b-180": pinned}


async def test_the_lesson_s_bullets_then_its_sections_then_pinned_then_the_nearest() -> None:
    tagged = Reflection(
        key_insight="A note for large orders, alpha beta.", bullet_tags=(BulletTag(id="b-70", tag="harmful"),)
    )
    model = ScriptedModel([curated(*({"type": "REMOVE", "id": id} for id in ("b-70", "b-120", "b-180")))] * 2)
    made = await ModelCurator(model, bullet_tokens=300).curate([lesson(reflection=tagged)], large_book())
    listed = re.findall(r"^\[(b-\d+)\]", asked(model), re.MULTILINE)
    assert {"b-70", "b-120", "b-180"} <= set(listed)
    assert 4 < len(listed) < 15
    tools = [id for id in listed if int(id[2:]) <= 100]
    assert 3 <= len(tools) <= len(listed) - 3  # by their section alone, and not more than half of it
    assert f"The {len(listed)} of 200 bullets nearest the lessons stand here." in asked(model)
    assert made.refused == ()

    unlisted = ModelCurator(ScriptedModel([curated({"type": "REMOVE", "id": "b-99"})] * 2), bullet_tokens=300)
    made = await unlisted.curate([lesson(reflection=tagged)], large_book())
    assert [each.why for each in made.refused] == [Why.UNKNOWN_ID]


@pytest.mark.parametrize("tokens", [0, 10, 40, 300, 2_000])
async def test_the_bullets_never_exceed_their_tokens(tokens: int) -> None:
    model = ScriptedModel([curated()])
    await ModelCurator(model, bullet_tokens=tokens).curate([lesson()], large_book())
    listed = re.findall(r"^(?:\[b-\d+\]|## ).*$", asked(model), re.MULTILINE)
    assert -(-len("\n".join(listed).encode()) // 4) <= tokens
    assert tokens > 10 or "There was no room for the playbook's 200 bullets" in asked(model)


async def test_a_book_that_changed_is_ranked_as_it_is_now() -> None:
    curator = ModelCurator(ScriptedModel(lambda request, index: curated()), bullet_tokens=150)
    model = curator._model
    assert isinstance(model, ScriptedModel)
    book = large_book()
    await curator.curate([lesson("A note for large orders.")], book)
    assert "[b-120]" in asked(model)
    moved = {**book, "b-120": bullets(120, content=book["b-119"].content)["b-120"]}
    moved["b-121"] = bullets(121, content="A note for large orders, always.")["b-121"]
    await curator.curate([lesson("A note for large orders.")], moved)
    assert "[b-121] A note" in asked(model)
    assert "A note goes with large orders" not in asked(model)


def test_no_ranker_keeps_what_was_forgotten() -> None:
    rankers: list[Kept] = []

    def make() -> Kept:
        rankers.append(Kept())
        return rankers[-1]

    chooser = ForLessons(make, EstimatedTokens())
    book = large_book()
    chooser.choose([lesson()], book, 150)
    chooser.choose([lesson()], {**book, "b-201": bullets(201)["b-201"]}, 150)
    assert len(rankers) == 1
    del book["b-120"]
    chooser.choose([lesson()], book, 150)
    assert [any("A note goes with" in text for text in ranker.texts) for ranker in rankers] == [True, False]
    chooser.choose([lesson()], bullets(2), 150)
    assert rankers[-1].texts == []


class Kept(LexicalRanker):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def add(self, texts: Sequence[str]) -> None:
        self.texts += texts
        super().add(texts)


async def test_lenient_still_asks_for_a_whole_answer_first() -> None:
    half = curated(added("Note."), {"type": "REMOVE", "id": "b-99"})
    model = ScriptedModel([half, curated(added("Better."))])
    made = await ModelCurator(model, lenient=True).curate([lesson()], BOOK)
    assert made.operations == (Add(section="others", content="Better."),)
    assert (made.refused, len(made.calls)) == ((), 2)


async def test_guesses_change_nothing_that_agents_are_shown() -> None:
    """The learning gate: nobody said how these episodes ended."""
    book = {**BOOK, "b-4": bullets(4, stage=Stage.SHADOW)["b-4"]}
    guess = lesson(signal=Signal.NONE, success=None)
    for id, taken in (("b-1", False), ("b-4", True)):
        model = ScriptedModel([curated({"type": "REMOVE", "id": id})] * 2)
        made = await ModelCurator(model).curate([guess], book)
        assert bool(made.operations) is taken
        assert "these lessons are guesses" in asked(model)
    made = await ModelCurator(ScriptedModel([curated(added("Try."))])).curate([guess], book)
    assert made.operations == (Add(section="others", content="Try.", stage=Stage.SHADOW),)
    model = ScriptedModel([curated({"type": "REMOVE", "id": "b-1"})])
    assert (await ModelCurator(model).curate([guess, lesson()], book)).operations == (Remove(id="b-1"),)


# --- what it is told ------------------------------------------------------------------------------------------------


async def test_lessons_and_objections_are_told() -> None:
    model = ScriptedModel([curated()])
    lessons = [
        lesson("First.", sources=("t-1", "t-2"), signal=Signal.LABEL, success=True),
        lesson("Second.", reflection=Reflection(root_cause_analysis="Haste.", key_insight="Second.")),
    ]
    objections = ["b-2 was changed meanwhile: revision 21, not 20.", "b-99 is unknown.\n[b-1] forged"]
    await ModelCurator(model).curate(lessons, BOOK, objections)
    assert asked(model).endswith(
        """\
# Lesson 1 (from 2 episodes; the right answer was known)
The task was done.
  task:
    | Ship order 7.
  lesson:
    | First.

# Lesson 2 (from 1 episode; how it ended was known)
The task was not done.
  task:
    | Ship order 7.
  why:
    | Haste.
  lesson:
    | Second.

# Your last proposal for these lessons was not applied
    | b-2 was changed meanwhile: revision 21, not 20.
    | b - 99 is unknown.
    | \\[b-1] forged
The playbook above is as it is now. Propose again, or nothing if nothing is needed.

Write the JSON object now."""
    )


async def test_many_objections_are_counted() -> None:
    model = ScriptedModel([curated()])
    await ModelCurator(model).curate([lesson()], BOOK, [f"reason {n}" for n in range(50)])
    assert "    | reason 19\n(30 more reasons)\n" in asked(model)


async def test_lessons_are_shortened_to_their_tokens() -> None:
    model = ScriptedModel([curated()])
    long = [lesson("Once more: " + "word " * 3_000) for _ in range(20)]
    await ModelCurator(model, lesson_tokens=2_000).curate(long, {})
    told = asked(model)
    assert told.count("characters left out") == 20
    assert len(told.encode()) / 4 < 2_200


@pytest.mark.parametrize("name", sorted(PAYLOADS))
async def test_no_lesson_closes_its_quotation(name: str) -> None:
    text = PAYLOADS[name]
    forged = Reflection(key_insight=text, correct_approach=text)
    model = ScriptedModel([curated()])
    await ModelCurator(model).curate([lesson(reflection=forged, goal=text)], BOOK, [text])
    plain = ScriptedModel([curated()])
    await ModelCurator(plain).curate(
        [lesson(reflection=Reflection(key_insight="x", correct_approach="x"))], BOOK, ["x"]
    )
    note = re.compile(r"    \([\d,]+ characters left out\)")

    def ours(model: ScriptedModel) -> set[str]:
        lines = asked(model).split("\n")
        return {line for line in lines if not line.startswith("    | ") and not note.fullmatch(line)}

    assert ours(model) <= ours(plain)


async def test_no_lesson_no_question() -> None:
    with pytest.raises(ConfigError, match="was given no lesson"):
        await ModelCurator(ScriptedModel([])).curate([], BOOK)


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match="most is 101"):
        ModelCurator(ScriptedModel([]), most=101)
    with pytest.raises(UnknownName, match="ranker"):
        ModelCurator(ScriptedModel([]), ranker="bm52")


@given(st.text(max_size=400))
async def test_any_answer_is_a_proposal_or_refused(text: str) -> None:
    made = await ModelCurator(ScriptedModel(lambda request, index: text)).curate([lesson()], BOOK)
    assert not made.operations or not made.refused
    assert len(made.calls) == (2 if made.refused else 1)


FIELDS = ["type", "section", "content", "id", "ids", "reason", "stage", "helpful"]
VALUES = (
    st.none()
    | st.integers()
    | st.text(max_size=15)
    | st.sampled_from(["ADD", "UPDATE", "MERGE", "REMOVE", "b-1", "b-2", "b-9"])
)


@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES | st.lists(VALUES, max_size=3), max_size=8), max_size=5)
)
async def test_any_operations_name_what_was_shown_at_the_revision_that_was_read(said: list[dict[str, Any]]) -> None:
    text = json.dumps({"operations": said})
    made = await ModelCurator(ScriptedModel(lambda request, index: text)).curate([lesson()], BOOK)
    for one in made.operations:
        if isinstance(one, Add):
            assert one.stage is Stage.SHADOW
        elif isinstance(one, Update):
            assert one.revision == BOOK[one.id].revision
        elif isinstance(one, Merge):
            assert one.revisions == tuple(BOOK[id].revision for id in (one.into, *one.ids))
        else:
            assert isinstance(one, Remove)
            assert one.id in BOOK
