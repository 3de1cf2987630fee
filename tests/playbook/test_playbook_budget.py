import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook.budget import Budget, Candidate, choose, prior_means
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.page import Setting, compact, open_page, text_of
from potstill.errors import ConfigError
from potstill.retrieval.tokens import EstimatedTokens


def candidate(number, tokens, utility, *, section="tools", pinned=False):
    return Candidate(id=f"b-{number}", number=number, section=section, tokens=tokens, utility=utility, pinned=pinned)


def chosen(candidates, tokens, headers=None, headroom=0.0):
    taken = choose(candidates, Budget(tokens=tokens, headroom=headroom), headers or {"tools": 0, "rules": 0})
    return [one.number for one in taken]


def bullet(number, content="x" * 20, **fields):
    return Bullet(id=f"b-{number}", number=number, section="tools", content=content, stage=Stage.LIVE, **fields)


def test_utility_per_token_decides_not_utility():
    # 0.9/30 = 0.03 a token, 0.5/10 = 0.05, 0.6/15 = 0.04: 10 + 15 of 40 tokens are taken, then 30 does not fit.
    assert chosen([candidate(1, 30, 0.9), candidate(2, 10, 0.5), candidate(3, 15, 0.6)], 40) == [2, 3]


def test_pinned_ones_come_first_whatever_they_are_worth():
    assert chosen([candidate(1, 30, -1.0, pinned=True), candidate(2, 10, 0.5), candidate(3, 15, 0.6)], 40) == [1, 2]


def test_one_that_is_too_long_is_passed_over_and_a_shorter_one_after_it_comes_in():
    # a token: 0.10, 0.09 (too long beside the first), 0.01
    assert chosen([candidate(1, 10, 1.0), candidate(2, 100, 9.0), candidate(3, 5, 0.05)], 50) == [1, 3]


def test_a_section_is_paid_for_once():
    headers = {"tools": 5, "rules": 6}
    wanted = [candidate(1, 10, 1.0), candidate(2, 10, 0.9), candidate(3, 10, 0.8, section="rules")]
    # 10+5, 10, 10+6 = 41
    assert chosen(wanted, 41, headers) == [1, 2, 3]
    assert chosen(wanted, 40, headers) == [1, 2]


def test_headroom_is_left_only_where_not_all_fit_and_pinned_ones_may_take_it():
    four = [candidate(number, 25, 1.0) for number in (1, 2, 3, 4)]
    assert chosen(four, 100, headroom=0.2) == [1, 2, 3, 4]
    five = [*four, candidate(5, 25, 1.0)]
    assert chosen(five, 100, headroom=0.2) == [1, 2, 3]
    pinned = [candidate(number, 25, 1.0, pinned=True) for number in (1, 2, 3, 4)]
    assert chosen([*pinned, candidate(5, 25, 1.0)], 100, headroom=0.2) == [1, 2, 3, 4]


def test_what_does_harm_goes_last_and_the_longer_the_worse():
    order = chosen([candidate(1, 10, -0.5), candidate(2, 20, -0.5), candidate(3, 10, 0.0)], 1000)
    assert order == [3, 1, 2]


def test_the_counters_give_the_mean_of_a_beta_distribution():
    counted = [bullet(1), bullet(2, helpful=1), bullet(3, helpful=2, harmful=5, neutral=90), bullet(4, harmful=1)]
    # 1/2, 2/3, 3/9, 1/3
    assert prior_means(counted) == pytest.approx({"b-1": 0.5, "b-2": 2 / 3, "b-3": 1 / 3, "b-4": 1 / 3})
    assert prior_means([bullet(1, helpful=1)], helpful=3, harmful=1) == {"b-1": 0.8}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": -1}, "is -1 tokens; it must be 0 or more"),
        ({"headroom": 1.5}, "headroom is 1.5; it must be a share"),
        ({"slack": -0.1}, "slack is -0.1; it must be a share"),
        ({"every": 0}, "is 0 revisions; it must be 1 or more"),
        ({"patience_s": -1.0}, "patience is -1 s; it must be 0 or more"),
    ],
)
def test_an_impossible_budget_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Budget(**wrong)


def test_a_compaction_keeps_to_the_limit_to_the_token():
    # "## TOOLS" is 8 bytes; each bullet "\n[b-N] " + 20 = 27 bytes: 8 + 3 * 27 = 89 bytes = 23 tokens.
    book = [bullet(1), bullet(2), bullet(3, helpful=3)]
    exact = Setting(budget=Budget(tokens=23, headroom=0))
    epoch = compact(book, revision=7, setting=Setting(budget=Budget(tokens=30, headroom=0)))
    assert (epoch.revision, epoch.ids, epoch.left_out) == (7, ("b-1", "b-2", "b-3"), ())
    assert EstimatedTokens().count(text_of(open_page(epoch, book, exact))) == 23
    fewer = compact(book, revision=7, setting=Setting(budget=Budget(tokens=18, headroom=0)))
    assert fewer.ids == ("b-1", "b-3")
    assert fewer.left_out == ("b-2",)


def test_a_measured_utility_overrides_the_counters():
    book = [bullet(1, helpful=9), bullet(2)]
    small = Setting(budget=Budget(tokens=12, headroom=0))
    assert compact(book, revision=1, setting=small).ids == ("b-1",)
    assert compact(book, revision=1, setting=small, utility={"b-1": -0.2, "b-2": 0.1}).ids == ("b-2",)


def test_pins_beyond_the_budget_are_named_and_the_limit_holds():
    book = [bullet(1, pinned=True), bullet(2, pinned=True), bullet(3)]
    epoch = compact(book, revision=1, setting=Setting(budget=Budget(tokens=12, headroom=0)))
    assert (epoch.ids, epoch.pinned_out, epoch.left_out) == (("b-1",), ("b-2",), ("b-3",))


class Superadditive:
    """Counts a whole text as more than its parts, as a tokenizer may."""

    name = "words, and one for each line end"

    def count(self, text):
        return len(text.split()) + text.count("\n") ** 2


def test_the_limit_holds_for_the_whole_text_where_parts_count_less():
    book = [bullet(number, "one two") for number in range(1, 20)]
    setting = Setting(budget=Budget(tokens=60), counter=Superadditive())
    text = text_of(open_page(compact(book, revision=1, setting=setting), book, setting))
    assert text
    assert setting.counter.count(text) <= 60


@given(
    st.lists(
        st.tuples(st.text(max_size=60), st.sampled_from(["tools", "rules", "others"]), st.booleans(), st.floats(-1, 1)),
        max_size=25,
    ),
    st.integers(0, 200),
    st.sampled_from([EstimatedTokens(), Superadditive()]),
)
def test_no_book_and_no_counter_break_the_limit(book, tokens, counter):
    bullets = [
        Bullet(id=f"b-{number}", number=number, section=section, content=content, pinned=pinned, stage=Stage.LIVE)
        for number, (content, section, pinned, _) in enumerate(book, start=1)
    ]
    utility = {f"b-{number}": worth for number, (*_, worth) in enumerate(book, start=1)}
    setting = Setting(budget=Budget(tokens=tokens), counter=counter)
    epoch = compact(bullets, revision=1, setting=setting, utility=utility)
    page = open_page(epoch, bullets, setting)
    assert counter.count(text_of(page)) <= tokens
    assert page.ids == epoch.ids
    assert sorted((*epoch.ids, *epoch.left_out, *epoch.pinned_out)) == sorted(one.id for one in bullets)
