"""A Curator's opinion destroys no live book: doubts, merges of near-duplicates, texts beside others, and shares."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from learning_world import Counts, call, recorded, roles

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.live import Alike, careful
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.operations import Add, Batch, Bullet, Merge, Pin, Remove, SetStage, Stage, Update
from potstill.distill.playbook.roles.contract import Curating
from potstill.distill.playbook.twins import Gate
from potstill.trajectories import Store
from potstill.types import Purpose

RULES = (
    "Ask for the order number before anything else.",
    "Do not promise a refund above 100 dollars: a manager has to.",
    "Open a ticket for every broken parcel and attach a photo.",
    "Look up the shipping country, since some need a customs form.",
    "Write the invoice in the currency of the customer's account.",
)


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "book")


def taught(book: Playbook, *contents: str, stage: Stage = Stage.LIVE) -> None:
    rules = tuple(Add(section="strategies", content=content, stage=stage) for content in contents)
    book.apply(Batch(operations=rules, actor="ana"))


def live(book: Playbook) -> list[str]:
    return [one.content for one in book.bullets().values() if one.shown and one.stage is Stage.LIVE]


class Says(Counts):
    """Proposes what a function of the bullets gives, whatever it is told."""

    def __init__(self, make):
        super().__init__()
        self._make = make

    async def curate(self, lessons, bullets, objections=()):
        self.objections += objections
        self.lessons.append(tuple(lessons))
        return Curating(operations=tuple(self._make(bullets)), reasoning="So.", calls=(call("t", Purpose.CURATE),))


def merge_all(bullets, content="Nothing matters."):
    ids = list(bullets)
    return [
        Merge(into=ids[0], ids=tuple(ids[1:]), content=content, revisions=tuple(b.revision for b in bullets.values()))
    ]


async def once(book: Playbook, make, run: str = "r", episodes: int = 1, **chosen):
    curator = Says(make)
    settings = Settings(**{"execution_stage": Stage.LIVE, **chosen})
    return await learn(book, recorded(book, episodes), roles(curator=curator), settings, run=run), curator


STAGES = pytest.mark.parametrize("stage", [Stage.LIVE, Stage.CANARY])


@STAGES
async def test_a_merge_of_everything_is_refused_and_the_curator_is_told(book, stage):
    taught(book, *RULES)
    result, curator = await once(book, merge_all, execution_stage=stage)
    assert live(book) == list(RULES)
    assert result.refused == {"unlike": 1}
    (told,) = curator.objections
    assert "b-1, b-2, b-3, b-4, b-5 would lose what it says" in told
    assert len(curator.lessons) == 2  # once more, and not for ever


@STAGES
async def test_a_removal_of_everything_is_a_doubt_about_one(book, stage):
    taught(book, *RULES)
    result, _ = await once(book, lambda bullets: [Remove(id=id) for id in bullets], execution_stage=stage)
    assert [one.stage for one in book.bullets().values()] == [Stage.CANARY] + [Stage.LIVE] * 4
    assert not any(one.removed for one in book.bullets().values())
    assert (result.applied, result.refused) == ({"STAGE": 1}, {"share": 4})
    assert "[staged back and not removed: b-1]" in book.log()[-1].batch.reason


async def test_a_tenth_of_a_long_book_may_be_doubted_at_once(book):
    taught(book, *(f"Rule {n * 7919}: call {chr(97 + n) * 9} at once." for n in range(25)))
    await once(book, lambda bullets: [Remove(id=id) for id in bullets])
    assert len(live(book)) == 23


async def test_two_doubts_make_no_removal_and_credit_or_a_person_decides(book):
    taught(book, *RULES)
    shown = []

    def remove_first(bullets):
        shown.append(list(bullets))
        return [Remove(id="b-1"), Update(id="b-1", content="gone", revision=2)]

    for run in ("one", "two"):
        result, _ = await once(book, remove_first, run)
    assert "b-1" not in shown[-1]
    assert result.refused == {"unknown": 2}
    assert (book.bullets()["b-1"].stage, book.bullets()["b-1"].content) == (Stage.CANARY, RULES[0])
    book.apply(Batch(operations=(SetStage(id="b-1", stage=Stage.SHADOW),), actor="ana"))
    await once(book, lambda bullets: [Remove(id="b-1")], "three")
    assert book.bullets()["b-1"].removed  # a person shelved it, so it is no live bullet any more
    book.apply(Batch(operations=(Remove(id="b-2"),), actor="ana"))  # people are free
    assert book.bullets()["b-2"].removed


async def test_what_is_in_canary_from_the_beginning_is_removed_freely(book):
    taught(book, *RULES, stage=Stage.CANARY)
    result, _ = await once(book, lambda bullets: [Remove(id=id) for id in bullets])
    assert result.applied == {"REMOVE": 5}


async def test_near_duplicates_are_merged_and_the_survivor_stays_live(book):
    again = RULES[0].replace("anything else", "anything else at all")
    taught(book, again, stage=Stage.CANARY)
    taught(book, RULES[0], RULES[1])

    def make(bullets):
        two = (bullets["b-1"], bullets["b-2"])
        return [Merge(into="b-1", ids=("b-2",), content=RULES[0], revisions=tuple(one.revision for one in two))]

    result, curator = await once(book, make, execution_stage=Stage.CANARY)
    assert (live(book), result.refused, curator.objections) == (list(RULES[:2]), {}, [])
    assert book.bullets()["b-1"].merged_into == "b-2"


async def test_a_text_that_is_unlike_stands_beside_the_old_one(book):
    taught(book, *RULES)
    told = "When a parcel is late, name the depot's number."
    await once(book, lambda bullets: [Update(id="b-1", content=told, revision=bullets["b-1"].revision)])
    assert live(book) == [*RULES, told]
    assert "[beside these, not in their place: b-1]" in book.log()[-1].batch.reason
    assert book.bullets()["b-6"].sources == ("e-0",)


async def test_a_mistaken_lesson_is_corrected_in_its_place(book):
    taught(book, "For copper take the hammer.")
    right = "For copper take the burin."
    await once(book, lambda bullets: [Update(id="b-1", content=right, revision=bullets["b-1"].revision)])
    assert live(book) == [right]


async def test_a_removal_beside_an_addition_that_is_like_it_is_a_correction(book):
    wrong = "For copper take the hammer from the upper drawer of the bench in the back of the workshop."
    right = wrong.replace("hammer", "burin")
    taught(book, wrong, *RULES)
    await once(book, lambda bullets: [Remove(id="b-1"), Add(section="strategies", content=right)])
    assert live(book) == [right, *RULES]


async def test_meanings_are_turned_for_a_few_bullets_only(book):
    taught(book, *RULES)

    def turn(bullets):
        return [Update(id=id, content=f"Never: {one.content}", revision=one.revision) for id, one in bullets.items()]

    await once(book, turn)
    kept = [rule for rule in RULES if rule in live(book)]
    assert len(kept) == 2
    assert len(live(book)) == 7  # the others' new texts stand beside them


async def test_a_canary_lesson_rewrites_one_live_bullet_which_becomes_a_canary(book):
    taught(book, *RULES)

    def longer(bullets):
        made = [one for one in bullets.values() if one.stage is Stage.LIVE]
        return [Update(id=one.id, content=f"{one.content} Always.", revision=one.revision) for one in made]

    result, _ = await once(book, longer, execution_stage=Stage.CANARY)
    assert live(book) == list(RULES[1:])
    assert (book.bullets()["b-1"].content, book.bullets()["b-1"].stage) == (f"{RULES[0]} Always.", Stage.CANARY)
    assert result.refused == {"share": 4}


async def test_pinned_bullets_stay(book):
    taught(book, *RULES)
    book.apply(Batch(operations=tuple(Pin(id=f"b-{n}") for n in range(1, 6)), actor="ana"))
    result, _ = await once(book, lambda bullets: [Remove(id=id) for id in bullets])
    assert (live(book), result.refused) == (list(RULES), {"pinned": 5})


def test_what_trials_showed_to_help_is_not_doubted():
    bullets = {f"b-{n}": bullet(n, text) for n, text in enumerate(RULES, 1)}
    done = careful([(Remove(id="b-2"), Stage.LIVE), (Remove(id="b-3"), Stage.LIVE)], bullets, ALIKE, lambda: {"b-2"})
    assert done.operations == (SetStage(id="b-3", stage=Stage.CANARY),)
    assert [str(one.why) for one in done.not_taken] == ["helps"]


# --- whatever a Curator says ------------------------------------------------------------------------------------------

ALIKE = Alike(Gate())
WORDS = st.sampled_from(["ask", "open", "ticket", "order", "number", "before", "refund", "parcel", "never", "12", "30"])
TEXTS = st.lists(WORDS, min_size=1, max_size=9).map(" ".join) | st.sampled_from([*RULES, "Nothing matters.", "x"])


def bullet(number: int, text: str, **fields) -> Bullet:
    return Bullet(
        id=f"b-{number}", number=number, section="strategies", content=text, **{"stage": Stage.LIVE, **fields}
    )


@st.composite
def proposals(draw):
    """Kind, places of bullets, a text and how it is made of a bullet's."""
    kind = draw(st.sampled_from(["update", "merge", "remove", "add", "twist", "everything"]))
    return kind, draw(st.lists(st.integers(0, 30), min_size=1, max_size=12)), draw(TEXTS)


def operations_of(bullets, said):
    made, claimed = [], set()
    for kind, places, text in said:
        ids = [id for id in dict.fromkeys(list(bullets)[place % len(bullets)] for place in places) if id not in claimed]
        if kind == "everything":
            ids = [id for id in bullets if id not in claimed]
        if kind == "add" or not ids:
            made.append(Add(section="strategies", content=text))
            continue
        claimed |= set(ids if kind in ("merge", "everything", "remove") else ids[:1])
        if kind in ("merge", "everything") and len(ids) > 1:
            revisions = tuple(bullets[id].revision for id in ids)
            made.append(Merge(into=ids[0], ids=tuple(ids[1:]), content=text, revisions=revisions))
        elif kind == "remove":
            made += [Remove(id=id) for id in ids]
        else:
            old = bullets[ids[0]]
            content = f"Never {old.content}" if kind == "twist" else text
            made.append(Update(id=ids[0], content=content, revision=old.revision))
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(TEXTS, min_size=1, max_size=24, unique=True),
    st.lists(st.lists(proposals(), min_size=1, max_size=8), min_size=1, max_size=3),
    st.sampled_from([Stage.LIVE, Stage.CANARY]),
)
def test_after_any_round_nine_of_ten_live_texts_are_live_or_said_by_a_near_duplicate(texts, rounds, stage):
    """Or as many as a batch may stage back and rewrite, in a book so short that a tenth is less."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "s.db") as store:
        book = Playbook(store, "default", "book")
        taught(book, *texts)
        for number, said in enumerate(rounds):
            before = [one for one in book.bullets().values() if one.shown and one.stage is Stage.LIVE]
            if not before:
                break
            make = partial(operations_of, said=said)
            asyncio.run(once(book, make, f"r{number}", execution_stage=stage))
            now = live(book)
            gone = [one for one in before if one.content not in now]
            lost = [one for one in gone if not any(ALIKE.near(one, text) for text in now)]
            room = max(1, len(before) // 10)
            assert len(lost) <= room + (max(3, len(before) // 10) if stage is Stage.LIVE else 0)
            kept_alike = [one for one in lost if any(ALIKE.loosely(one, text) for text in now)]
            assert len(lost) - len(kept_alike) <= room
            ids = {one.id: one for one in book.bullets().values()}
            assert all(not ids[one.id].removed or ids[one.id].merged_into for one in before)
        assert book.check() == []
