"""What the gate makes of a batch and of a book, and that ``apply`` takes it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook.apply import MAX_REASON_CHARACTERS, Refused, apply, check_batch
from potstill.distill.playbook.gate import What, clusters, gated, refine
from potstill.distill.playbook.operations import (
    Add,
    Batch,
    Bullet,
    Merge,
    Operation,
    Pin,
    Remove,
    Stage,
    Tag,
    Update,
)
from potstill.distill.playbook.similar import similarity
from potstill.distill.playbook.twins import BookIndex, Gate, How, Thresholds, differ, keep_both
from potstill.errors import ConfigError, ModelUnavailable

FRIDGE = "Open the fridge before you look for the milk in it."
FRIDGE_2 = "Open the fridge before you look for the milk in it!"
FRIDGE_3 = "open the fridge, before you look for the milk in it"
LAMP = "Turn the desk lamp on to examine an object under it."
MUG = "A mug is often in the cabinet above the coffee machine."


def bullet(number: int, content: str, section: str = "rules", **fields) -> Bullet:
    fields.setdefault("stage", Stage.LIVE)
    return Bullet(id=f"b-{number}", number=number, section=section, content=content, **fields)


def batch(*operations: Operation, **fields) -> Batch:
    return Batch(operations=operations, actor="curator", **fields)


def add(content: str, section: str = "rules", stage: Stage = Stage.SHADOW) -> Add:
    return Add(section=section, content=content, stage=stage)


def as_map(*bullets: Bullet) -> dict[str, Bullet]:
    return {one.id: one for one in bullets}


class Table:
    """Vectors as somebody wrote them down; a text that is not in the table has none (zeros)."""

    name, dimension = "table", 3

    def __init__(self, rows: dict[str, tuple[float, float, float]]) -> None:
        self.rows, self.asked = rows, []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.extend(texts)
        return np.array([self.rows.get(text, (0, 0, 0)) for text in texts], dtype=np.float32).reshape(-1, 3)


# --- a batch --------------------------------------------------------------------------------------------------------


def test_a_repeated_lesson_becomes_a_neutral_tag_of_its_twin_and_a_new_one_stays() -> None:
    book = BookIndex([bullet(1, LAMP), bullet(2, FRIDGE)])
    asked = batch(add(FRIDGE_2), Pin(id="b-1"), add(MUG), reason="two lessons", key="k", sources=("t-1",))
    written, decisions = gated(asked, book)
    assert written.operations == (Tag(id="b-2", neutral=1), Pin(id="b-1"), add(MUG))
    assert (written.key, written.sources, written.actor) == ("k", ("t-1",), "curator")
    assert [(one.index, one.what, one.id, one.place) for one in decisions] == [
        (0, What.TAG, "b-2", None),
        (2, What.ADD, "", 0),
    ]
    assert decisions[0].how is How.LEXICAL
    assert decisions[0].similarity == similarity(FRIDGE, FRIDGE_2)
    assert written.reason == f"two lessons [near-duplicates: ADD 1 is b-2 (lexical {decisions[0].similarity:.2f})]"
    change = apply(as_map(*book), written, revision=9, next_number=3)
    assert change.ids == ("b-3",)
    assert {one.id: one.neutral for one in change.changed} == {"b-1": 0, "b-2": 1}
    assert {one.id: one.content for one in change.changed}["b-2"] == FRIDGE


def test_a_batch_without_adds_or_twins_is_what_it_was() -> None:
    asked = batch(Tag(id="b-1", helpful=2), add(MUG), reason="r")
    written, decisions = gated(asked, BookIndex([bullet(1, LAMP)]))
    assert written == asked
    assert [one.what for one in decisions] == [What.ADD]


def test_a_repeat_may_count_as_helpful_but_only_once_a_batch() -> None:
    book = BookIndex([bullet(1, FRIDGE)])
    asked = batch(add(FRIDGE_2), add(FRIDGE_3), add(FRIDGE))
    written, decisions = gated(asked, book, Gate(repeat="helpful"))
    assert written.operations == (Tag(id="b-1", helpful=1),)
    assert [one.what for one in decisions] == [What.TAG] * 3


def test_exact_duplicates_are_found_in_every_section_mode_and_in_spite_of_kept_pairs() -> None:
    book = BookIndex([bullet(1, FRIDGE, "habits")])
    shouted = "  " + FRIDGE.upper().replace(" ", "\n")
    for gate in (Gate(), Gate(mode="lazy"), Gate(thresholds=Thresholds(lexical=1.0, semantic=1.0))):
        written, decisions = gated(batch(add(shouted)), book, gate, kept={keep_both(FRIDGE, shouted)})
        assert written.operations == (Tag(id="b-1", neutral=1),)
        assert decisions[0].how is How.EXACT
    assert gated(batch(add(FRIDGE_3)), book)[0].operations == (add(FRIDGE_3),)


@pytest.mark.parametrize(
    ("said", "how"),
    [
        (FRIDGE_2, How.LEXICAL),
        (FRIDGE.removesuffix("."), How.LEXICAL),
        (FRIDGE.replace("o", "\u043e"), How.EXACT),
        (FRIDGE.replace("e", "\u0435").replace(".", "!"), How.LEXICAL),
    ],
)
def test_a_twin_in_another_section_hides_behind_no_last_sign_and_no_lookalike(said: str, how: How) -> None:
    book = BookIndex([bullet(1, said, "tools")])
    twin = book.twin("rules", FRIDGE, Gate())
    assert twin is not None
    assert (twin.id, twin.how) == ("b-1", how)
    if how is How.LEXICAL:
        assert book.twin("rules", FRIDGE, Gate(), kept={keep_both(said, FRIDGE)}) is None
    book.drop("b-1")
    assert book.twin("rules", FRIDGE, Gate()) is None


def test_thresholds_are_by_section() -> None:
    near = "Open the fridge before you look for the orange juice."
    assert 0.6 < similarity(FRIDGE, near) < 0.8
    book = BookIndex([bullet(1, FRIDGE), bullet(2, FRIDGE, "habits")])
    gate = Gate(sections={"habits": Thresholds(lexical=0.6)})
    written, _ = gated(batch(add(near), add(near + " ", "habits")), book, gate)
    assert written.operations == (add(near), Tag(id="b-2", neutral=1))


def test_what_somebody_decided_to_keep_is_kept_until_its_text_changes() -> None:
    book, kept = BookIndex([bullet(1, FRIDGE)]), {keep_both(FRIDGE_2, FRIDGE)}
    assert gated(batch(add(FRIDGE_2)), book, kept=kept)[0].operations == (add(FRIDGE_2),)
    assert gated(batch(add(FRIDGE_3)), book, kept=kept)[0].operations == (Tag(id="b-1", neutral=1),)
    read_again = msgspec.json.decode(msgspec.json.encode(sorted(kept)), type=frozenset[tuple[str, str]])
    assert read_again == kept


def test_of_adds_that_repeat_each_other_the_longest_stays_in_whatever_order_they_come() -> None:
    long = FRIDGE_2 + "!!"
    for order in ([FRIDGE, FRIDGE_2, long], [long, FRIDGE, FRIDGE_2], [FRIDGE_2, long, FRIDGE]):
        written, decisions = gated(batch(add(MUG), *map(add, order)), BookIndex())
        assert written.operations == (add(MUG), add(long))
        assert sorted(one.what for one in decisions) == [What.ADD, What.ADD, What.DROP, What.DROP]
        assert [one.place for one in decisions] == [0, 1, 1, 1]


def test_between_texts_of_one_length_the_alphabet_decides() -> None:
    assert len(FRIDGE) == len(FRIDGE_2)
    for order in ([FRIDGE, FRIDGE_2], [FRIDGE_2, FRIDGE]):
        assert gated(batch(*map(add, order)), BookIndex())[0].operations == (add(min(FRIDGE, FRIDGE_2)),)


def test_a_bullet_that_the_batch_removes_or_rewrites_is_nobodys_twin_and_its_new_text_is() -> None:
    book = BookIndex([bullet(1, FRIDGE), bullet(2, LAMP)])
    removal = batch(Remove(id="b-1"), add(FRIDGE_2))
    assert gated(removal, book)[0] == removal
    rewrite = Update(id="b-1", content=MUG, revision=1)
    written, decisions = gated(batch(rewrite, add(FRIDGE_2), add(MUG + "!")), book)
    assert written.operations == (rewrite, add(FRIDGE_2), Tag(id="b-1", neutral=1))
    assert [one.what for one in decisions] == [What.ADD, What.TAG]
    merge = Merge(into="b-2", ids=("b-1",), content=LAMP, revisions=(1, 1))
    assert gated(batch(merge, add(FRIDGE_2), add(LAMP)), book)[0].operations == (
        merge,
        add(FRIDGE_2),
        Tag(id="b-2", neutral=1),
    )


def test_a_lesson_in_quarantine_does_not_come_back_as_a_new_bullet() -> None:
    book = BookIndex([bullet(1, FRIDGE, quarantined=True)])
    for gate in (Gate(), Gate(mode="lazy"), Gate(longer=1.0)):
        assert gated(batch(add(FRIDGE_2 + "!")), book, gate)[0].operations == (Tag(id="b-1", neutral=1),)


def test_a_removed_bullet_may_be_learnt_again() -> None:
    book = BookIndex([bullet(1, FRIDGE)])
    book.put([bullet(1, FRIDGE, removed=True)])
    assert len(book) == 0
    assert gated(batch(add(FRIDGE)), book)[0].operations == (add(FRIDGE),)


def test_an_add_that_says_much_more_than_its_twin_is_let_in() -> None:
    book = BookIndex([bullet(1, FRIDGE)])
    more = FRIDGE + " Take no cup yet."
    gate = Gate(thresholds=Thresholds(lexical=0.6), careful=False)
    assert len(more) > 1.25 * len(FRIDGE)
    written, decisions = gated(batch(add(more)), book, gate)
    assert written.operations == (add(more),)
    assert (decisions[0].what, decisions[0].id, decisions[0].place) == (What.ASK, "b-1", 0)


def test_lazily_near_duplicates_get_in_and_are_named() -> None:
    written, decisions = gated(batch(add(FRIDGE_2)), BookIndex([bullet(1, FRIDGE)]), Gate(mode="lazy"))
    assert written.operations == (add(FRIDGE_2),)
    assert (decisions[0].what, decisions[0].id) == (What.ASK, "b-1")


def test_a_twin_of_a_lower_stage_is_named_to_whoever_decides_on_stages_and_not_promoted() -> None:
    book = BookIndex([bullet(1, FRIDGE, stage=Stage.SHADOW), bullet(2, LAMP)])
    written, decisions = gated(batch(add(FRIDGE, stage=Stage.CANARY), add(LAMP, stage=Stage.CANARY)), book)
    assert written.operations == (Tag(id="b-1", neutral=1), Tag(id="b-2", neutral=1))
    assert [one.stage for one in decisions] == [Stage.CANARY, None]


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        ("Wait 30 s before you retry the call.", "Wait 60 s before you retry the call.", True),
        ("Always close the drawer you opened.", "Never close the drawer you opened.", True),
        ("Do retry when the server is busy now.", "Don't retry when the server is busy now.", True),
        ("Heat the egg before you slice it here.", "Heat the egg after you slice it here.", True),
        ("Use API v2.1 for all the orders.", "Use API v2.10 for all the orders.", True),
        ("Call list_orders before you look for it.", "Call list_users before you look for it.", True),
        ("Call getUser before you look for it.", "Call setUser before you look for it.", True),
        ("Type `look` before you leave the room.", "Type `cook` before you leave the room.", True),
        ("Type `look` before you leave the room.", "Type look before you leave the room", False),
        ("Check the drawer, then the shelf.", "check the drawer; then the shelf", False),
    ],
)
def test_small_differences_that_turn_a_lesson_keep_it(first: str, second: str, other: bool) -> None:
    assert differ(first, second) is other
    assert differ(second, first) is other
    gate = Gate(thresholds=Thresholds(lexical=0.5))
    written, _ = gated(batch(add(second)), BookIndex([bullet(1, first)]), gate)
    assert written.operations == ((add(second),) if other else (Tag(id="b-1", neutral=1),))
    careless = msgspec.structs.replace(gate, careful=False)
    assert gated(batch(add(second)), BookIndex([bullet(1, first)]), careless)[0].operations == (
        Tag(id="b-1", neutral=1),
    )


def test_with_an_embedder_the_same_meaning_in_other_words_is_a_twin_too() -> None:
    other_words = "Milk is only visible once that cold box stands ajar."
    table = Table({FRIDGE: (1, 0, 0), other_words: (0.95, 0.3122499, 0), MUG: (0, 1, 0)})
    book = BookIndex([bullet(1, FRIDGE), bullet(2, MUG)], embedder=table)
    written, decisions = gated(batch(add(other_words)), book)
    assert written.operations == (Tag(id="b-1", neutral=1),)
    assert decisions[0].how is How.SEMANTIC
    assert decisions[0].similarity == pytest.approx(0.95)
    strict = Gate(thresholds=Thresholds(semantic=0.96))
    assert gated(batch(add(other_words)), book, strict)[0].operations == (add(other_words),)
    two = gated(batch(add(other_words, "habits"), add(FRIDGE + " Do.", "habits")), book)[0]
    assert len(two.operations) == 2


def test_by_meaning_an_opposite_keeps_a_lesson_and_other_words_do_not() -> None:
    assert not differ("Open the fridge before you look.", "Look into it once it stands ajar.", How.SEMANTIC)
    assert differ("Slice it before you heat it.", "The knife comes after the microwave.", How.SEMANTIC)
    assert differ("Turn the lamp on.", "The lamp shall be off.", How.SEMANTIC)
    assert differ("Wait 5 s.", "Pause for 6 s.", How.SEMANTIC)
    table = Table({FRIDGE: (1, 0, 0), FRIDGE.replace("before", "when"): (1, 0, 0)})
    book = BookIndex([bullet(1, FRIDGE)], embedder=table)
    asked = batch(add(FRIDGE.replace("before", "when")))
    # Near by letters, and apart there: the vectors do not get to say otherwise.
    assert gated(asked, book)[0] == asked
    book.put([bullet(2, asked.operations[0].content)])
    assert merged(book) == []


def test_only_new_texts_are_embedded_and_given_vectors_are_taken() -> None:
    table = Table({FRIDGE: (1, 0, 0), LAMP: (0, 1, 0)})
    book = BookIndex(
        [bullet(1, FRIDGE), bullet(2, LAMP)], embedder=table, vectors={"b-2": np.array([0, 1, 0], dtype=np.float32)}
    )
    assert table.asked == [FRIDGE]
    book.put([bullet(1, FRIDGE, helpful=3), bullet(2, LAMP, pinned=True)])
    assert table.asked == [FRIDGE]
    assert book["b-1"].helpful == 3
    book.put([bullet(1, MUG)])
    assert table.asked == [FRIDGE, MUG]
    assert book.twin("rules", FRIDGE, Gate()) is None


def test_an_embedder_that_fails_leaves_the_index_as_it_was() -> None:
    class Failing(Table):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            if MUG in texts:
                raise ModelUnavailable("down")
            return super().embed(texts)

    book = BookIndex([bullet(1, FRIDGE)], embedder=Failing({FRIDGE: (1, 0, 0), LAMP: (0, 1, 0)}))
    with pytest.raises(ModelUnavailable):
        book.put([bullet(2, LAMP), bullet(1, MUG)])
    assert [one.id for one in book] == ["b-1"]
    assert gated(batch(add(FRIDGE_2)), book)[0].operations == (Tag(id="b-1", neutral=1),)
    with pytest.raises(ConfigError, match="length 2"):
        book.put([bullet(1, LAMP)], vectors={"b-1": np.array([0, 2, 0], dtype=np.float32)})
    with pytest.raises(ConfigError, match="dimension 3"):
        book.put([bullet(1, LAMP)], vectors={"b-1": np.array([0, 1], dtype=np.float32)})
    assert book["b-1"].content == FRIDGE
    book.put([bullet(1, FRIDGE), bullet(1, LAMP)])
    assert book["b-1"].content == LAMP
    assert gated(batch(add(FRIDGE_2)), book)[0].operations == (add(FRIDGE_2),)


def test_a_reason_that_is_full_is_not_made_too_long() -> None:
    book = BookIndex([bullet(number, f"{FRIDGE} {number} times {number}") for number in range(1, 100)])
    adds = [add(f"{FRIDGE} {number} times {number}!") for number in range(1, 100)]
    for given_reason in ("", "x" * MAX_REASON_CHARACTERS, "x" * (MAX_REASON_CHARACTERS - 90)):
        written, _ = gated(batch(*adds, reason=given_reason), book)
        check_batch(written)
        assert written.reason.startswith(given_reason)
        assert {type(one) for one in written.operations} == {Tag}


TEXTS = st.sampled_from([FRIDGE, FRIDGE_2, FRIDGE_3, LAMP, LAMP + "!", MUG, MUG.upper(), "x"])


@given(st.lists(TEXTS, max_size=5), st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(["proactive", "lazy"]))
def test_whatever_the_gate_writes_can_be_applied_and_decided_again_without_change(there, new, mode) -> None:
    book = BookIndex([bullet(number, text) for number, text in enumerate(there, 1)])
    gate = Gate(mode=mode)
    written, decisions = gated(batch(*map(add, new)), book, gate)
    change = apply(as_map(*book), written, revision=1, next_number=len(there) + 1)
    assert [one.index for one in decisions] == list(range(len(new)))
    for decision, text in zip(decisions, new, strict=True):
        holder = decision.id if decision.place is None else change.ids[decision.place]
        content = {one.id: one.content for one in (*book, *change.added)}[holder]
        assert similarity(text, content) >= 0.8
    again, _ = gated(written, book, gate)
    assert again.operations == written.operations
    if mode == "proactive":
        for place, one in enumerate(change.added):
            others = [*book, *change.added[:place]]
            assert all(similarity(one.content, other.content) < 0.8 for other in others)


# --- a book ---------------------------------------------------------------------------------------------------------


def merged(book: BookIndex, *arguments, **options) -> list[tuple[str, tuple[str, ...], str]]:
    return [(one.into, one.ids, one.content) for one in refine(book, *arguments, **options).operations]


def test_a_merge_keeps_the_longer_text_and_sums_the_counters() -> None:
    longer = FRIDGE + " Yes."
    book = BookIndex(
        [
            bullet(1, FRIDGE, helpful=3, harmful=1),
            bullet(2, LAMP, helpful=9),
            bullet(3, longer, helpful=2, neutral=4, revision=5),
        ]
    )
    proposal = refine(book, key="k")
    assert proposal.operations == (Merge(into="b-3", ids=("b-1",), content=longer, revisions=(5, 1)),)
    assert (proposal.actor, proposal.key) == ("curator", "k")
    changed = {one.id: one for one in apply(as_map(*book), proposal, revision=7, next_number=4).changed}
    survivor = changed["b-3"]
    assert (survivor.content, survivor.helpful, survivor.harmful, survivor.neutral) == (longer, 5, 1, 4)
    assert survivor.lineage == ("b-1",)
    assert changed["b-1"].merged_into == "b-3"
    book.put(changed.values())
    assert refine(book).operations == ()


def test_a_bullet_that_changed_meanwhile_makes_the_merge_fail() -> None:
    old = [bullet(1, FRIDGE), bullet(2, FRIDGE_2)]
    proposal = refine(BookIndex(old))
    now = as_map(old[0], bullet(2, MUG, revision=2))
    with pytest.raises(Refused, match="b-2 is at revision 2"):
        apply(now, proposal, revision=2, next_number=3)


def test_ties_go_to_the_alphabet_and_the_order_of_bullets_does_not_matter() -> None:
    bullets = [bullet(1, FRIDGE), bullet(2, FRIDGE_2), bullet(3, LAMP), bullet(4, LAMP.upper()), bullet(5, LAMP, "h")]
    right = [("b-2", ("b-1",), FRIDGE_2), ("b-4", ("b-3", "b-5"), LAMP.upper())]
    assert FRIDGE_2 < FRIDGE
    assert merged(BookIndex(bullets)) == merged(BookIndex(reversed(bullets))) == right


def test_pinned_comes_first_then_the_stage_then_the_length() -> None:
    long, longer = FRIDGE + " Ok.", FRIDGE + " Okay!"
    trio = [bullet(1, longer, stage=Stage.SHADOW), bullet(2, long), bullet(3, FRIDGE, pinned=True)]
    assert merged(BookIndex(trio)) == [("b-3", ("b-2", "b-1"), FRIDGE)]
    assert merged(BookIndex(trio[:2])) == [("b-2", ("b-1",), long)]


def test_pinned_bullets_are_never_merged_with_each_other_and_quarantined_ones_not_at_all() -> None:
    pinned = [bullet(1, FRIDGE, pinned=True), bullet(2, FRIDGE_2, pinned=True), bullet(3, FRIDGE, pinned=True)]
    assert merged(BookIndex(pinned)) == []
    assert merged(BookIndex([bullet(1, FRIDGE, quarantined=True), bullet(2, FRIDGE), bullet(3, LAMP)])) == []


def test_a_text_that_says_more_waits_until_its_stage_is_the_survivors() -> None:
    more, gate = FRIDGE + " Take one cup too.", Gate(thresholds=Thresholds(lexical=0.6))
    on_trial = bullet(2, more, stage=Stage.SHADOW)
    book = BookIndex([bullet(1, FRIDGE), on_trial])
    assert merged(book, gate) == []
    book.put([msgspec.structs.replace(on_trial, stage=Stage.LIVE)])
    assert merged(book, gate) == [("b-2", ("b-1",), more)]


def test_kept_pairs_stay_apart_also_where_both_are_near_a_third() -> None:
    longest = FRIDGE + "!!"
    book = BookIndex([bullet(1, FRIDGE_2), bullet(2, FRIDGE_3), bullet(3, longest)])
    (everything,) = clusters(book)
    assert {one.id for one in everything.bullets} == {"b-1", "b-2", "b-3"}
    assert merged(book, kept={keep_both(longest, FRIDGE_2), keep_both(longest, FRIDGE_3)}) == [
        ("b-1", ("b-2",), FRIDGE_2)
    ]
    ((into, ids, _),) = merged(book, kept={keep_both(FRIDGE_2, FRIDGE_3)})
    assert into == "b-3"
    assert len(ids) == 1


def test_a_chain_is_not_swallowed_by_its_end() -> None:
    names = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa"
    links = [" ".join(names.split()[start : start + 8]) for start in range(0, 6, 2)]
    gate = Gate(thresholds=Thresholds(lexical=0.6))
    assert similarity(links[0], links[1]) > 0.6 < similarity(links[1], links[2])
    assert similarity(links[0], links[2]) < 0.6
    book = BookIndex([bullet(number, text, pinned=number == 1) for number, text in enumerate(links, 1)])
    for into, ids, content in merged(book, gate):
        assert all(similarity(book[id].content, content) >= 0.6 for id in (into, *ids))
    assert [(into, ids) for into, ids, _ in merged(book, gate)] == [("b-1", ("b-2",))]


def test_a_text_that_a_model_wrote_is_taken_for_its_cluster_but_not_over_a_pinned_one() -> None:
    book = BookIndex([bullet(1, FRIDGE), bullet(2, FRIDGE_2), bullet(3, LAMP, pinned=True), bullet(4, LAMP + "!")])
    found = clusters(book)
    texts = {"b-2": "First open the fridge, then look for milk.", "b-3": "Something else."}
    assert [content for _, _, content in merged(book, found=found, texts=texts)] == [texts["b-2"], LAMP]
    for wrong in (" ", "x" * 4001):
        with pytest.raises(ConfigError, match="merged text for b-2"):
            refine(book, found=found, texts={"b-2": wrong})


def test_a_thousand_equal_bullets_are_one_cluster_and_no_half_million_pairs() -> None:
    book = BookIndex([bullet(number, FRIDGE, "rules" if number % 2 else "habits") for number in range(1, 1001)])
    (only,) = refine(book).operations
    assert (only.into, len(only.ids)) == ("b-1", 999)


def test_equal_meanings_are_merged_too() -> None:
    other_words = "Milk is only visible once that cold box stands ajar."
    table = Table({FRIDGE: (1, 0, 0), other_words: (0.95, 0.3122499, 0), MUG: (0, 1, 0)})
    book = BookIndex([bullet(1, FRIDGE), bullet(2, other_words), bullet(3, MUG)], embedder=table)
    assert merged(book) == [("b-2", ("b-1",), other_words)]


@pytest.mark.parametrize("wrong", [{"longer": 0.5}, {"longer": float("nan")}])
def test_settings_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="longer"):
        Gate(**wrong)
    with pytest.raises(ConfigError, match="threshold"):
        Thresholds(lexical=1.2)


@given(st.lists(st.tuples(TEXTS, st.booleans(), st.sampled_from(list(Stage))), max_size=10), st.randoms())
def test_refining_once_is_enough_and_never_changes_what_the_counters_sum_to(rows, rng) -> None:
    bullets = [
        bullet(number, text, pinned=pinned, stage=stage, helpful=number)
        for number, (text, pinned, stage) in enumerate(rows, 1)
    ]
    book = BookIndex(rng.sample(bullets, len(bullets)))
    proposal = refine(book)
    assert proposal == refine(BookIndex(bullets))
    if proposal.operations:
        change = apply(as_map(*bullets), proposal, revision=2, next_number=len(bullets) + 1)
        book.put(change.changed)
    assert sum(one.helpful for one in book) == sum(one.helpful for one in bullets)
    assert refine(book).operations == ()


def test_asking_for_a_whole_batch_at_once_finds_the_same_twins() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{word} {number}" for number, word in enumerate(["alpha", "beta", "gamma"] * 20)]
    table = Table(dict(zip(names, map(tuple, rows.tolist()), strict=True)))
    book = BookIndex([bullet(number, names[number]) for number in range(1, 50)], embedder=table)
    gate = Gate(careful=False, thresholds=Thresholds(semantic=0.9))
    asked = [("rules", row) for row in rows[40:]] + [("nowhere", rows[0]), ("rules", None)]
    meant = book.meant(asked, gate)
    assert [None if each is None else [near.id for near in each] for each in meant[-2:]] == [[], None]
    for (section, vector), near in zip(asked, meant, strict=True):
        alone = book.twin(section, "omega", gate, vector=vector)
        assert book.twin(section, "omega", gate, vector=vector, meant=near) == alone
